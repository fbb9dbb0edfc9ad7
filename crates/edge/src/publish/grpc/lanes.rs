//! What one `PublishStream` has under way: which requests wait, which may be appended now, and
//! which answers may go out.
//!
//! ```text
//! requests  1:quote  2:news  3:quote  4:quote  5:news      answers go out in this order
//! lane quote   [1]──busy──   3, 4 wait: one append of a stream at a time, so order is kept
//! lane news    [2]──busy──   5 waits: lanes do not wait for each other
//! ```
//!
//! What gathers in a lane behind a busy append goes into the next one together: the slower the log,
//! the larger the batches. Synchronous and without a clock; the call feeds it and carries out what it says.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use evergate_domain::{EventDraft, ProducerId, ProducerSeq, Seq, StreamName};
use evergate_eventlog::{Placed, Retry};

use crate::config::PublishLimits;
use crate::publish::PublishError;

/// What became of one event.
pub(super) type Answer = Result<Placed, PublishError>;

/// The requests of a call that have no answer yet. `T` is what the call wants back with an answer.
///
/// Its size is bounded by whoever accepts into it.
pub(super) struct Lanes<T> {
    limits: PublishLimits,
    /// All requests whose answer has not gone out, in order.
    slots: VecDeque<Slot<T>>,
    /// The number of the first slot.
    first: u64,
    /// A lane exists while it is busy or something waits in it.
    lanes: HashMap<StreamName, Lane>,
    /// Lanes that are not busy and not empty.
    ready: VecDeque<StreamName>,
    /// Payload, keys and types of all events that are not appended yet.
    bytes: u64,
    /// The producers that must go back: see [`Lanes::held_back`].
    held: HashMap<(StreamName, ProducerId), Held>,
}

struct Slot<T> {
    tag: T,
    answer: Option<Answer>,
}

#[derive(Default)]
struct Lane {
    busy: bool,
    waiting: VecDeque<(u64, EventDraft)>,
}

/// The first sequence of a producer that was not taken, and when to try again.
#[derive(Debug, Clone, Copy)]
struct Held {
    seq: Seq,
    after: Duration,
}

/// Events of one stream to be appended now. It must come back by [`Lanes::settle`].
pub(super) struct Batch {
    pub(super) stream: StreamName,
    pub(super) events: Vec<EventDraft>,
    receipt: Receipt,
}

/// Whose events they were.
pub(super) struct Receipt {
    stream: StreamName,
    members: Vec<(u64, Option<ProducerSeq>)>,
    bytes: u64,
}

impl Batch {
    /// The events, and what to hand back with their answers.
    pub(super) fn split(self) -> (StreamName, Vec<EventDraft>, Receipt) {
        (self.stream, self.events, self.receipt)
    }
}

impl<T> Lanes<T> {
    pub(super) fn new(limits: PublishLimits) -> Self {
        Self {
            limits,
            slots: VecDeque::new(),
            first: 0,
            lanes: HashMap::new(),
            ready: VecDeque::new(),
            bytes: 0,
            held: HashMap::new(),
        }
    }

    /// A request that may go to the log.
    pub(super) fn accept(&mut self, tag: T, stream: StreamName, event: EventDraft) {
        let number = self.first + self.slots.len() as u64;
        self.slots.push_back(Slot { tag, answer: None });
        self.bytes += event.bytes();
        let lane = self.lanes.entry(stream.clone()).or_default();
        lane.waiting.push_back((number, event));
        if !lane.busy && lane.waiting.len() == 1 {
            self.ready.push_back(stream);
        }
    }

    /// A request that is refused without asking the log. Its answer keeps its place all the same.
    pub(super) fn refuse(&mut self, tag: T, error: PublishError) {
        self.slots.push_back(Slot { tag, answer: Some(Err(error)) });
    }

    /// What may be appended now, if anything: of a stream that has nothing under way, everything that
    /// waits, up to the limits of a batch.
    pub(super) fn next_batch(&mut self) -> Option<Batch> {
        while let Some(stream) = self.ready.pop_front() {
            let lane = self.lanes.get_mut(&stream).expect("a ready lane exists");
            debug_assert!(!lane.busy && !lane.waiting.is_empty());
            let mut events = Vec::new();
            let mut members = Vec::new();
            let (mut bytes, mut refused) = (0, Vec::new());
            while let Some((number, event)) = lane.waiting.front() {
                let size = event.bytes();
                let full = events.len() == self.limits.batch_events_max
                    || bytes + size > self.limits.batch_bytes_max as u64;
                if full && !events.is_empty() {
                    break;
                }
                if let Some(error) = held_back(&mut self.held, &stream, event.producer.as_ref()) {
                    refused.push((*number, error));
                    self.bytes -= size;
                    lane.waiting.pop_front();
                    continue;
                }
                members.push((*number, event.producer.clone()));
                bytes += size;
                events.extend(lane.waiting.pop_front().map(|(_, event)| event));
            }
            lane.busy = !events.is_empty();
            if !lane.busy {
                debug_assert!(lane.waiting.is_empty(), "only a batch that is not empty can be full");
                self.lanes.remove(&stream);
            }
            for (number, error) in refused {
                self.answer(number, Err(error));
            }
            if !events.is_empty() {
                let receipt = Receipt { stream: stream.clone(), members, bytes };
                return Some(Batch { stream, events, receipt });
            }
        }
        None
    }

    /// What became of a batch, an answer for each event.
    pub(super) fn settle(&mut self, receipt: Receipt, answers: Vec<Answer>) {
        let Receipt { stream, members, bytes } = receipt;
        assert_eq!(members.len(), answers.len(), "each event has an answer");
        self.bytes -= bytes;
        for ((number, producer), answer) in members.into_iter().zip(answers) {
            if let (Some(producer), Err(error)) = (producer, &answer)
                && let Retry::After(after) = error.retry()
            {
                let held = self
                    .held
                    .entry((stream.clone(), producer.id))
                    .or_insert(Held { seq: producer.seq, after });
                held.seq = held.seq.min(producer.seq);
            }
            self.answer(number, answer);
        }
        let lane = self.lanes.get_mut(&stream).expect("a busy lane exists");
        debug_assert!(lane.busy);
        lane.busy = false;
        if lane.waiting.is_empty() {
            self.lanes.remove(&stream);
        } else {
            self.ready.push_back(stream);
        }
    }

    /// The next answer that may go out, in the order of the requests.
    pub(super) fn pop_answer(&mut self) -> Option<(T, Answer)> {
        self.slots.front()?.answer.as_ref()?;
        let slot = self.slots.pop_front()?;
        self.first += 1;
        slot.answer.map(|answer| (slot.tag, answer))
    }

    /// Whether every request had its answer.
    pub(super) fn is_empty(&self) -> bool {
        self.slots.is_empty()
    }

    /// Payload, keys and types of all events that are not appended yet.
    pub(super) fn bytes(&self) -> u64 {
        self.bytes
    }

    /// How many producers must go back before they can go on.
    pub(super) fn held(&self) -> usize {
        self.held.len()
    }

    fn answer(&mut self, number: u64, answer: Answer) {
        let index = usize::try_from(number - self.first).expect("a slot's index");
        let slot = &mut self.slots[index];
        debug_assert!(slot.answer.is_none(), "one answer each");
        slot.answer = Some(answer);
    }
}

/// Whether the event must wait for an earlier one of its producer, which was not taken.
///
/// A producer's sequences only rise: had this one been taken, a retry of that one would be too old.
/// So after a failure that invites a retry, only that sequence opens the way for later ones; those
/// that the publisher had sent on meanwhile are refused likewise.
fn held_back(
    held: &mut HashMap<(StreamName, ProducerId), Held>,
    stream: &StreamName,
    producer: Option<&ProducerSeq>,
) -> Option<PublishError> {
    let producer = producer.filter(|_| !held.is_empty())?;
    let key = (stream.clone(), producer.id.clone());
    let Held { seq, after } = *held.get(&key)?;
    if producer.seq > seq {
        return Some(PublishError::Behind { producer: key.1, seq, after });
    }
    if producer.seq == seq {
        held.remove(&key);
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{Epoch, Offset};

    const LIMITS: PublishLimits = PublishLimits {
        payload_bytes_max: 100,
        batch_events_max: 3,
        batch_bytes_max: 10,
        stream_window: 100,
        rates: crate::config::Rates::UNBOUNDED,
    };

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).expect("valid")
    }

    fn produced(seq: u64) -> EventDraft {
        let producer =
            ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: Seq::new(seq).expect("fits") };
        EventDraft { producer: Some(producer), ..EventDraft::new(seq.to_string()) }
    }

    fn placed(n: u64) -> Answer {
        let offset = Offset::new(Epoch::new(1).expect("fits"), Seq::new(n).expect("fits"));
        Ok(Placed { offset, duplicate: false })
    }

    fn unavailable() -> PublishError {
        PublishError::Unavailable { after: Duration::from_secs(1) }
    }

    fn data(batch: &Batch) -> Vec<&str> {
        batch.events.iter().map(|event| event.data.as_str()).collect()
    }

    fn settle(lanes: &mut Lanes<u32>, batch: Batch, answer: &Answer) {
        let (_, events, receipt) = batch.split();
        lanes.settle(receipt, vec![answer.clone(); events.len()]);
    }

    fn tags(lanes: &mut Lanes<u32>) -> Vec<(u32, bool)> {
        std::iter::from_fn(|| lanes.pop_answer()).map(|(tag, answer)| (tag, answer.is_ok())).collect()
    }

    #[test]
    fn answers_go_out_in_the_order_of_the_requests() {
        let mut lanes = Lanes::new(LIMITS);
        lanes.accept(1, stream("quote"), EventDraft::new("a"));
        lanes.accept(2, stream("news"), EventDraft::new("b"));
        lanes.refuse(3, PublishError::UnknownStream);
        let quote = lanes.next_batch().expect("quote");
        let news = lanes.next_batch().expect("news");
        settle(&mut lanes, news, &placed(1));
        assert_eq!(tags(&mut lanes), []);
        settle(&mut lanes, quote, &placed(1));
        assert_eq!(tags(&mut lanes), [(1, true), (2, true), (3, false)]);
        assert!(lanes.is_empty());
        assert_eq!(lanes.bytes(), 0);
    }

    #[test]
    fn a_stream_has_one_append_under_way_and_gathers_the_rest() {
        let mut lanes = Lanes::new(LIMITS);
        lanes.accept(1, stream("quote"), EventDraft::new("a"));
        let first = lanes.next_batch().expect("a");
        for (tag, data) in [(2, "b"), (3, "c"), (4, "d"), (5, "e")] {
            lanes.accept(tag, stream("quote"), EventDraft::new(data));
            assert!(lanes.next_batch().is_none());
        }
        settle(&mut lanes, first, &placed(1));
        let second = lanes.next_batch().expect("as many as a batch holds");
        assert_eq!(data(&second), ["b", "c", "d"]);
        settle(&mut lanes, second, &placed(2));
        assert_eq!(data(&lanes.next_batch().expect("the rest")), ["e"]);
    }

    #[test]
    fn a_batch_ends_at_the_byte_limit_but_holds_one_event_at_least() {
        let mut lanes = Lanes::new(LIMITS);
        for (tag, data) in [(1, "0123456789a"), (2, "01234"), (3, "56789"), (4, "")] {
            lanes.accept(tag, stream("quote"), EventDraft::new(data));
        }
        assert_eq!(lanes.bytes(), 21);
        let first = lanes.next_batch().expect("large");
        assert_eq!(data(&first), ["0123456789a"]);
        settle(&mut lanes, first, &placed(1));
        assert_eq!(lanes.bytes(), 10);
        assert_eq!(data(&lanes.next_batch().expect("two")), ["01234", "56789", ""]);
    }

    #[test]
    fn after_a_failure_a_producer_goes_on_only_from_the_event_that_failed() {
        let mut lanes = Lanes::new(LIMITS);
        lanes.accept(1, stream("quote"), produced(1));
        lanes.accept(2, stream("quote"), produced(2));
        let failing = lanes.next_batch().expect("1 and 2");
        lanes.accept(3, stream("quote"), produced(3));
        lanes.accept(4, stream("quote"), EventDraft::new("without a producer"));
        lanes.accept(5, stream("news"), produced(3));
        let elsewhere = lanes.next_batch().expect("another stream");
        settle(&mut lanes, failing, &Err(unavailable()));
        settle(&mut lanes, elsewhere, &placed(1));

        let next = lanes.next_batch().expect("what has no producer is not held");
        assert_eq!(data(&next), ["without a producer"]);
        settle(&mut lanes, next, &placed(1));
        assert_eq!(tags(&mut lanes), [(1, false), (2, false), (3, false), (4, true), (5, true)]);

        lanes.accept(6, stream("quote"), produced(2));
        assert!(lanes.next_batch().is_none());
        let (_, answer) = lanes.pop_answer().expect("refused at once");
        let PublishError::Behind { seq, .. } = answer.expect_err("still behind") else {
            panic!("not behind")
        };
        assert_eq!(seq.get(), 1);

        for (tag, seq) in [(7, 1), (8, 2), (9, 3)] {
            lanes.accept(tag, stream("quote"), produced(seq));
        }
        let retry = lanes.next_batch().expect("from the first on");
        assert_eq!(data(&retry), ["1", "2", "3"]);
        settle(&mut lanes, retry, &placed(2));
        assert_eq!(lanes.held(), 0);
        assert_eq!(tags(&mut lanes), [(7, true), (8, true), (9, true)]);
    }

    #[test]
    fn a_producer_goes_on_from_the_first_of_all_that_failed() {
        let mut lanes = Lanes::new(LIMITS);
        for (tag, seq) in [(1, 5), (2, 4)] {
            lanes.accept(tag, stream("quote"), produced(seq));
            let batch = lanes.next_batch().expect("not above what failed");
            settle(&mut lanes, batch, &Err(unavailable()));
        }
        lanes.accept(3, stream("quote"), produced(5));
        assert!(lanes.next_batch().is_none(), "4 has failed too");
        lanes.accept(4, stream("quote"), produced(4));
        lanes.accept(5, stream("quote"), produced(5));
        assert_eq!(data(&lanes.next_batch().expect("4 and 5")), ["4", "5"]);
    }

    #[test]
    fn a_lasting_refusal_holds_nobody_back() {
        let mut lanes = Lanes::new(LIMITS);
        lanes.accept(1, stream("quote"), produced(5));
        let batch = lanes.next_batch().expect("5");
        settle(&mut lanes, batch, &Err(PublishError::UnknownStream));
        lanes.accept(2, stream("quote"), produced(6));
        assert!(lanes.next_batch().is_some());
        assert_eq!(lanes.held(), 0);
    }
}
