//! Events on their way: which to send, which to send again, which are done.
//!
//! ```text
//!   oldest                                        newest
//!   │ sent │ sent │ again │ sent │ waiting │ waiting │      at most `window`
//!            ▲ the next answer is for the oldest that is sent
//! ```
//!
//! The server answers each request once and in order. An event keeps its sequence however often it
//! is sent, so an attempt whose fate is unknown is simply repeated. Pure: no socket, no clock.

use std::collections::VecDeque;

use evergate_domain::{NUMBER_MAX, ProducerId, StreamName};
use evergate_proto::publish::v1::publish_stream_response::Result as Answer;
use evergate_proto::publish::v1::{
    Event, Level, Producer, PublishRequest, PublishResponse, PublishStreamRequest, PublishStreamResponse,
};

use super::draft::Draft;
use super::refusal::Refusal;

/// The events of one producer to one stream.
#[derive(Debug)]
pub(crate) struct Pipeline {
    numbering: Numbering,
    window: usize,
    flying: VecDeque<Flying>,
    /// Whether this call has refused an event for now. Nothing more is sent on it: a later event
    /// must not overtake that one.
    stopped: bool,
}

/// Gives events their sequences.
#[derive(Debug)]
pub(crate) struct Numbering {
    pub stream: StreamName,
    pub producer: ProducerId,
    /// The sequence of the next event.
    pub next_seq: u64,
}

#[derive(Debug)]
struct Flying {
    event: Event,
    seq: u64,
    /// Where the event comes from, for the user: its line.
    line: u64,
    state: State,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum State {
    Waiting,
    Sent,
    /// Refused for now; to be sent on the next call.
    Again,
}

/// What an answer means.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Answered {
    Published(PublishResponse),
    /// For good: the event of this line will never be taken.
    Refused {
        line: u64,
        refusal: Refusal,
    },
    /// For now: end this call, wait, and go on with another.
    Later(Refusal),
    /// It answers nothing that was sent: the server and this client do not understand each other.
    Unexpected,
}

impl Numbering {
    /// The event with the next sequence. Fails when there are no more, after centuries.
    pub(crate) fn event(&mut self, draft: Draft) -> Result<(u64, Event), String> {
        let seq = self.next_seq;
        if seq > NUMBER_MAX {
            return Err(format!("producer {} has used up its sequences", self.producer));
        }
        self.next_seq += 1;
        let event = Event {
            data: draft.data,
            r#type: draft.kind.map(|kind| kind.as_str().to_owned()).unwrap_or_default(),
            key: draft.key.map(|key| key.as_str().to_owned()).unwrap_or_default(),
            producer: Some(Producer { id: self.producer.to_string(), seq }),
            traceparent: String::new(),
        };
        Ok((seq, event))
    }

    /// The request for a single event.
    pub(crate) fn request(&mut self, draft: Draft) -> Result<PublishRequest, String> {
        let (_, event) = self.event(draft)?;
        Ok(PublishRequest {
            stream: self.stream.to_string(),
            event: Some(event),
            level: Level::Unspecified.into(),
        })
    }
}

impl Pipeline {
    /// `window` bounds the events that are held; with it full, [`has_room`](Self::has_room) is
    /// false and the source has to wait.
    pub(crate) fn new(numbering: Numbering, window: usize) -> Self {
        Self { numbering, window, flying: VecDeque::new(), stopped: false }
    }

    pub(crate) fn has_room(&self) -> bool {
        self.flying.len() < self.window
    }

    pub(crate) fn window(&self) -> usize {
        self.window
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.flying.is_empty()
    }

    /// Whether an answer is still to come on this call.
    pub(crate) fn awaits_answer(&self) -> bool {
        self.flying.iter().any(|flying| flying.state == State::Sent)
    }

    /// Takes an event; the caller has seen that there is room.
    pub(crate) fn push(&mut self, line: u64, draft: Draft) -> Result<(), String> {
        debug_assert!(self.has_room());
        let (seq, event) = self.numbering.event(draft)?;
        self.flying.push_back(Flying { event, seq, line, state: State::Waiting });
        Ok(())
    }

    /// The next request to send on this call, if there is one.
    pub(crate) fn next_request(&mut self) -> Option<PublishStreamRequest> {
        if self.stopped {
            return None;
        }
        let flying = self.flying.iter_mut().find(|flying| flying.state == State::Waiting)?;
        flying.state = State::Sent;
        Some(PublishStreamRequest {
            stream: self.numbering.stream.to_string(),
            event: Some(flying.event.clone()),
            level: Level::Unspecified.into(),
            correlation: flying.seq,
        })
    }

    /// Takes the next answer of this call.
    pub(crate) fn answered(&mut self, response: PublishStreamResponse) -> Answered {
        let oldest = self.flying.iter().position(|flying| flying.state == State::Sent);
        let Some(index) = oldest.filter(|index| self.flying[*index].seq == response.correlation) else {
            return Answered::Unexpected;
        };
        let line = self.flying[index].line;
        match response.result {
            Some(Answer::Published(published)) => {
                self.flying.remove(index);
                Answered::Published(published)
            }
            Some(Answer::Refused(refused)) => {
                let refusal = Refusal::of_event(&refused);
                if refusal.retry_after.is_some() {
                    self.flying[index].state = State::Again;
                    self.stopped = true;
                    Answered::Later(refusal)
                } else {
                    self.flying.remove(index);
                    Answered::Refused { line, refusal }
                }
            }
            None => Answered::Unexpected,
        }
    }

    /// The call is over, however it ended: what has no answer is to be sent again, in order.
    pub(crate) fn call_ended(&mut self) {
        self.stopped = false;
        for flying in &mut self.flying {
            flying.state = State::Waiting;
        }
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use std::time::Duration;

    use evergate_proto::publish::v1::Refused;
    use proptest::prelude::*;

    use super::*;

    fn pipeline(window: usize) -> Pipeline {
        let numbering = Numbering {
            stream: StreamName::new("quote").unwrap(),
            producer: ProducerId::new("p").unwrap(),
            next_seq: 7,
        };
        Pipeline::new(numbering, window)
    }

    fn push(pipeline: &mut Pipeline, line: u64) {
        let draft = Draft { data: line.to_string(), kind: None, key: None };
        pipeline.push(line, draft).unwrap();
    }

    fn published(seq: u64) -> PublishStreamResponse {
        let response = PublishResponse { offset: format!("1-{seq}"), duplicate: false };
        PublishStreamResponse { correlation: seq, result: Some(Answer::Published(response)) }
    }

    fn refused(seq: u64, code: i32, retry_after_ms: u64) -> PublishStreamResponse {
        let refused = Refused { code, message: "no".to_owned(), field: String::new(), retry_after_ms };
        PublishStreamResponse { correlation: seq, result: Some(Answer::Refused(refused)) }
    }

    fn seqs_to_send(pipeline: &mut Pipeline) -> Vec<u64> {
        std::iter::from_fn(|| pipeline.next_request()).map(|request| request.correlation).collect()
    }

    #[test]
    fn events_are_sent_once_in_order_within_the_window() {
        let mut pipeline = pipeline(2);
        push(&mut pipeline, 1);
        push(&mut pipeline, 2);
        assert!(!pipeline.has_room());
        assert_eq!(seqs_to_send(&mut pipeline), [7, 8]);
        assert_eq!(seqs_to_send(&mut pipeline), [0_u64; 0]);
        assert!(matches!(pipeline.answered(published(7)), Answered::Published(p) if p.offset == "1-7"));
        assert!(pipeline.has_room());
        push(&mut pipeline, 3);
        let request = pipeline.next_request().unwrap();
        let producer = Producer { id: "p".to_owned(), seq: 9 };
        assert_eq!(request.event.unwrap().producer, Some(producer));
    }

    #[test]
    fn a_call_that_breaks_off_is_repeated_from_the_oldest_unanswered_with_the_same_sequences() {
        let mut pipeline = pipeline(3);
        (1..=3).for_each(|line| push(&mut pipeline, line));
        seqs_to_send(&mut pipeline);
        pipeline.answered(published(7));
        pipeline.call_ended();
        assert_eq!(seqs_to_send(&mut pipeline), [8, 9]);
    }

    #[test]
    fn after_a_refusal_for_now_nothing_overtakes() {
        let mut pipeline = pipeline(4);
        (1..=2).for_each(|line| push(&mut pipeline, line));
        seqs_to_send(&mut pipeline);
        push(&mut pipeline, 3);
        let later = pipeline.answered(refused(7, 8, 5000));
        assert!(
            matches!(later, Answered::Later(refusal) if refusal.retry_after == Some(Duration::from_secs(5)))
        );
        assert_eq!(seqs_to_send(&mut pipeline), [0_u64; 0]);
        assert!(pipeline.awaits_answer());
        // The one sent before the refusal was known may have been taken.
        assert!(matches!(pipeline.answered(published(8)), Answered::Published(_)));
        assert!(!pipeline.awaits_answer());
        pipeline.call_ended();
        assert_eq!(seqs_to_send(&mut pipeline), [7, 9]);
    }

    #[test]
    fn a_refusal_for_good_names_the_line_and_the_rest_goes_on() {
        let mut pipeline = pipeline(4);
        push(&mut pipeline, 31);
        push(&mut pipeline, 33);
        seqs_to_send(&mut pipeline);
        assert!(matches!(pipeline.answered(refused(7, 3, 0)), Answered::Refused { line: 31, .. }));
        assert!(matches!(pipeline.answered(published(8)), Answered::Published(_)));
        assert!(pipeline.is_empty());
    }

    #[test]
    fn an_answer_to_nothing_is_unexpected() {
        let mut pipeline = pipeline(4);
        assert_eq!(pipeline.answered(published(7)), Answered::Unexpected);
        (1..=2).for_each(|line| push(&mut pipeline, line));
        assert_eq!(pipeline.answered(published(7)), Answered::Unexpected, "not sent yet");
        seqs_to_send(&mut pipeline);
        assert_eq!(pipeline.answered(published(8)), Answered::Unexpected, "out of order");
        let empty = PublishStreamResponse { correlation: 7, result: None };
        assert_eq!(pipeline.answered(empty), Answered::Unexpected);
        pipeline.call_ended();
        assert_eq!(seqs_to_send(&mut pipeline), [7, 8]);
    }

    #[test]
    fn sequences_end_where_offsets_do() {
        let mut pipeline = pipeline(4);
        pipeline.numbering.next_seq = NUMBER_MAX;
        push(&mut pipeline, 1);
        let draft = Draft { data: String::new(), kind: None, key: None };
        assert!(pipeline.push(2, draft).is_err());
    }

    /// What may happen to a call, at random.
    #[derive(Debug, Clone)]
    enum Fate {
        Publish,
        RefuseForNow,
        /// The server took the event, and its answer was lost with the call.
        LoseAnswer,
        BreakOff,
    }

    proptest! {
        /// Against a server that remembers sequences: whatever happens to the calls, every event is
        /// taken once, and in order unless one was refused while later ones were under way.
        #[test]
        fn every_event_arrives_once(
            fates in prop::collection::vec(
                prop_oneof![Just(Fate::Publish), Just(Fate::RefuseForNow), Just(Fate::LoseAnswer), Just(Fate::BreakOff)],
                0..60,
            ),
            window in 1_usize..5,
        ) {
            const EVENTS: u64 = 20;
            let mut pipeline = pipeline(window);
            let mut taken: Vec<u64> = Vec::new();
            let mut acknowledged = 0;
            let mut pushed = 0;
            let mut sent: VecDeque<u64> = VecDeque::new();
            let mut fates = fates.into_iter();
            while pushed < EVENTS || !pipeline.is_empty() {
                while pushed < EVENTS && pipeline.has_room() {
                    pushed += 1;
                    push(&mut pipeline, pushed);
                }
                sent.extend(seqs_to_send(&mut pipeline));
                let Some(seq) = sent.pop_front() else {
                    pipeline.call_ended();
                    continue;
                };
                match fates.next().unwrap_or(Fate::Publish) {
                    Fate::Publish => {
                        if !taken.contains(&seq) { taken.push(seq); }
                        let answered = pipeline.answered(published(seq));
                        prop_assert!(matches!(answered, Answered::Published(_)));
                        acknowledged += 1;
                    }
                    Fate::RefuseForNow => {
                        let answered = pipeline.answered(refused(seq, 14, 100));
                        prop_assert!(matches!(answered, Answered::Later(_)));
                    }
                    Fate::LoseAnswer => {
                        if !taken.contains(&seq) { taken.push(seq); }
                        sent.clear();
                        pipeline.call_ended();
                    }
                    Fate::BreakOff => {
                        sent.clear();
                        pipeline.call_ended();
                    }
                }
            }
            prop_assert_eq!(acknowledged, EVENTS);
            let mut sorted = taken.clone();
            sorted.sort_unstable();
            prop_assert_eq!(sorted, (7..7 + EVENTS).collect::<Vec<_>>());
        }
    }
}
