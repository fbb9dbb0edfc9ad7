//! The live end: one connection that listens on the channels of all followed streams, and a watch
//! that compares what came with what the log says.
//!
//! A channel may lose messages at any time: the connection breaks, or Redis cuts a slow listener.
//! So a message is never more than a doorbell that carries events. Holes show in the sequence; a
//! lost last message shows when tails are compared, every second and after every reconnect.

use std::collections::HashMap;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use evergate_domain::{Offset, Seq, StreamName};
use parking_lot::{Mutex, RwLock};
use redis::{PushInfo, PushKind, RedisError, Value, cmd};
use tokio::sync::{mpsc, watch as news};
use tokio::time::Instant;

use super::gates::NotOpened;
use super::keys::{Keys, Slot};
use super::link::Connected;
use super::moves::Vacancies;
use super::node::{Node, Purpose};
use super::sequencer::{Sequencer, Told};
use super::wire::Message;
use super::writer::Request;
use super::{Shared, error, reply};
use crate::{BackendError, ReadError, Tail, TailSender};

/// Streams compared, or channels subscribed, by one command.
const CHUNK: usize = 256;
/// A message may be under way when tails are compared; it is missing if it is not here after this.
const GRACE: Duration = Duration::from_millis(100);
/// Between attempts to subscribe to a stream that is on its way elsewhere.
const RETRY: Duration = Duration::from_millis(10);

/// All followed streams.
#[derive(Default)]
pub(super) struct Live {
    feeds: RwLock<HashMap<String, Arc<Feed>>>,
    /// Counts how often a server took a subscription back.
    taken_back: news::Sender<u64>,
    closed: OnceLock<()>,
}

struct Feed {
    keys: Keys,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    sequencer: Sequencer,
    tail: TailSender,
    /// The connection on which it is subscribed; 0 if it is on none.
    subscribed: u64,
    floor: Seq,
    /// The tail that was not committed when tails were last compared.
    uncommitted: Option<Seq>,
}

impl Live {
    /// What a listening connection does with a push.
    pub(super) fn on_push(&self, generation: u64, push: &PushInfo) {
        let channel = |value: Option<&Value>| match value {
            Some(Value::BulkString(channel)) => std::str::from_utf8(channel).ok().map(str::to_owned),
            _ => None,
        };
        let Some(channel) = channel(push.data.first()) else { return };
        // What comes from a server that was asked to be silent, or holds the stream no more, is old.
        let Some(feed) = self.feeds.read().get(&channel).cloned() else { return };
        let mut state = feed.state.lock();
        if state.subscribed != generation {
            return;
        }
        match (push.kind.clone(), push.data.get(1)) {
            (PushKind::SMessage, Some(Value::BulkString(payload))) => match Message::parse(payload) {
                Some(message) => state.take(message),
                // Then the next comparison finds what is missing.
                None => {
                    tracing::warn!(
                        channel,
                        bytes = payload.len(),
                        "a message on a live channel is malformed"
                    );
                }
            },
            // Nobody asked for this: a cluster gave the slot to somebody else.
            (PushKind::SUnsubscribe, _) => {
                state.subscribed = 0;
                self.taken_back.send_modify(|many| *many += 1);
            }
            _ => {}
        }
    }

    /// Follows a stream.
    pub(super) async fn follow(&self, shared: &Shared, stream: &StreamName) -> Result<Tail, ReadError> {
        let keys = Keys::of(stream);
        let feed = self.feed(&keys, &keys.channel(shared.database));
        self.subscribe(shared, &feed).await?;
        let status = super::reader::status(shared, &keys).await?;
        let mut state = feed.state.lock();
        if self.closed.get().is_some() {
            return Err(ReadError::Closed);
        }
        let start = state.sequencer.begin(status.tail);
        state.floor = state.floor.max(status.floor.seq);
        Ok(state.tail.follow(start))
    }

    fn feed(&self, keys: &Keys, channel: &str) -> Arc<Feed> {
        if let Some(feed) = self.feeds.read().get(channel) {
            return Arc::clone(feed);
        }
        let new = || Arc::new(Feed { keys: keys.clone(), state: Mutex::default() });
        Arc::clone(self.feeds.write().entry(channel.to_owned()).or_insert_with(new))
    }

    async fn subscribe(&self, shared: &Shared, feed: &Arc<Feed>) -> Result<(), ReadError> {
        let deadline = Instant::now() + shared.options.response_timeout;
        let mut route = shared.topology.route(feed.keys.slot.hash_slot(), Purpose::Listen);
        loop {
            let connected = tokio::time::timeout_at(deadline, route.connected()).await;
            let Ok(Some(on)) = connected else { return Err(ReadError::Unavailable(route.unreachable())) };
            let _turn = on.place.turn.lock().await;
            if feed.state.lock().subscribed == on.generation {
                return Ok(());
            }
            let Err(error) = subscribe(shared, &on, std::slice::from_ref(feed)).await else { return Ok(()) };
            route.failed(&on, &error);
            if error.is_timeout() || Instant::now() >= deadline {
                return Err(ReadError::Unavailable(on.blamed(&error)));
            }
            tokio::time::sleep(super::link::jittered(RETRY)).await;
        }
    }

    /// Tells a stream's followers what is gone, whether or not it is news.
    pub(super) fn trimmed(&self, channel: &str, floor: Seq) {
        if let Some(feed) = self.feeds.read().get(channel) {
            let mut state = feed.state.lock();
            state.floor = state.floor.max(floor);
            state.tail.trimmed(floor);
        }
    }

    /// Ends all tails.
    pub(super) fn close(&self) {
        let _ = self.closed.set(());
        for feed in self.feeds.write().drain() {
            // Dropping the sender is what ends the tails.
            feed.1.state.lock().tail = TailSender::default();
        }
    }

    /// The feeds of the streams that this primary holds.
    fn feeds_of(&self, shared: &Shared, node: &Node) -> Vec<Arc<Feed>> {
        let holds = node.holds(&shared.topology.now());
        self.feeds.read().values().filter(|feed| holds[feed.keys.slot.index()]).cloned().collect()
    }

    /// Subscribes to what is not subscribed on this connection yet, and says whether there was any.
    async fn subscribe_all(&self, shared: &Shared, node: &Node, on: &Connected) -> bool {
        let _turn = on.place.turn.lock().await;
        let mut feeds = self.feeds_of(shared, node);
        feeds.retain(|feed| feed.state.lock().subscribed != on.generation);
        for feeds in feeds.chunks(CHUNK) {
            // If the connection broke, the next one is coming; what was refused is asked for again.
            if let Err(error) = subscribe(shared, on, feeds).await {
                tracing::debug!(%error, "live channels could not be subscribed to");
                if on.place.is_retired() || super::error::breaks(&error) {
                    break;
                }
            }
        }
        !feeds.is_empty()
    }

    /// Unsubscribes from what nobody follows any more.
    async fn let_go(&self, shared: &Shared, node: &Node, on: Option<&Connected>) {
        let _turn = node.place.turn.lock().await;
        let holds = node.holds(&shared.topology.now());
        let mut channels = Vec::new();
        self.feeds.write().retain(|channel, feed| {
            // Whoever is about to follow holds the feed already.
            let state = feed.state.lock();
            let used = Arc::strong_count(feed) > 1 || state.tail.is_followed();
            let goes = !used && holds[feed.keys.slot.index()];
            if goes && on.is_some_and(|on| on.generation == state.subscribed) {
                channels.push(channel.clone());
            }
            !goes
        });
        let Some(on) = on else { return };
        for channels in channels.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for channel in channels {
                pipe.cmd("SUNSUBSCRIBE").arg(channel);
            }
            if let Err(error) = on.send_all(&pipe, channels.len()).await {
                on.failed(&error);
                return;
            }
        }
    }

    /// Compares what is known of this primary's followed streams with the log.
    async fn compare(
        &self,
        shared: &Shared,
        node: &Node,
        writer: &mpsc::WeakSender<Request>,
        reconnected: bool,
    ) -> Result<(), BackendError> {
        let mut slots: HashMap<Slot, Vec<Arc<Feed>>> = HashMap::new();
        for feed in self.feeds_of(shared, node) {
            slots.entry(feed.keys.slot).or_default().push(feed);
        }
        let (mut suspects, mut failure, mut uncommitted) = (Vec::new(), None, 0);
        for (slot, feeds) in slots {
            for feeds in feeds.chunks(CHUNK) {
                let asked = match self.ask(shared, slot, feeds).await {
                    Ok(asked) => asked,
                    Err(error) => {
                        // One slot may be on its way elsewhere; without a connection none can be asked.
                        if node.link(Purpose::Read).now().is_none() || node.place.is_retired() {
                            return Err(error);
                        }
                        failure = Some(error);
                        continue;
                    }
                };
                for (feed, stands) in asked {
                    let mut state = feed.state.lock();
                    state.trimmed(stands.floor);
                    uncommitted += stands.tail.get().saturating_sub(stands.committed.seq.get());
                    let orphaned = stands.tail > stands.committed.seq;
                    if orphaned && state.uncommitted == Some(stands.tail) {
                        // Whoever appended this is gone. If the queue is full, the next time will do.
                        if let Some(writer) = writer.upgrade() {
                            let _ = writer.try_send(Request::Commit(feed.keys.stream().clone()));
                        }
                    }
                    state.uncommitted = orphaned.then_some(stands.tail);
                    if state.disagrees(&stands) {
                        suspects.push((Arc::clone(&feed), stands));
                    }
                }
            }
        }
        let shard = node.place.address.to_string();
        metrics::gauge!("evergate_redis_uncommitted_events", "shard" => shard).set(uncommitted as f64);
        if !suspects.is_empty() && !reconnected {
            tokio::time::sleep(GRACE).await;
        }
        for (feed, stands) in suspects {
            let mut state = feed.state.lock();
            if state.disagrees(&stands) {
                metrics::counter!("evergate_redis_live_holes_total").increment(1);
                state.sequencer.jump(stands.committed);
                state.tail.lagged();
            }
        }
        failure.map_or(Ok(()), Err)
    }

    /// Where these streams of one slot stand. Opens the slot's gate if it is shut: a failover is
    /// then noticed by those who follow, even while nobody publishes.
    async fn ask(
        &self,
        shared: &Shared,
        slot: Slot,
        feeds: &[Arc<Feed>],
    ) -> Result<Vec<(Arc<Feed>, Stands)>, BackendError> {
        let before: Vec<_> = feeds.iter().map(|feed| feed.state.lock().sequencer.position()).collect();
        let mut tails = cmd("FCALL_RO");
        tails.arg("evergate_1_tails").arg(1 + feeds.len()).arg(slot.record());
        for feed in feeds {
            tails.arg(feed.keys.meta());
        }
        let answer = super::reader::ask(shared, slot.hash_slot(), &tails).await?;
        let odd = || error::odd("tails");
        let words = reply::words(answer).ok_or_else(odd)?;
        let [gate, fence, streams @ ..] = words.as_slice() else { return Err(odd()) };
        if gate == "SHUT" {
            let fence = reply::epoch(fence).ok_or_else(odd)?;
            let mut route = shared.topology.route(slot.hash_slot(), Purpose::Write);
            if let Some(on) = route.now() {
                let known = shared.gates.get(slot);
                match shared.gates.open(&on, slot, &known, fence, fence, shared).await {
                    Ok(()) => {}
                    Err(NotOpened::Redis(error)) => route.failed(&on, &error),
                    Err(NotOpened::Odd(error)) => return Err(error),
                }
            }
        }
        let mut stands = Vec::with_capacity(feeds.len());
        for ((feed, before), word) in feeds.iter().zip(before).zip(streams) {
            stands.push((Arc::clone(feed), Stands::read(word, before).ok_or_else(odd)?));
        }
        Ok(stands)
    }
}

/// Where a stream stands, and where it was known to stand before that was asked.
struct Stands {
    committed: Offset,
    tail: Seq,
    floor: Seq,
    before: Option<Offset>,
}

impl Stands {
    fn read(word: &str, before: Option<Offset>) -> Option<Self> {
        let mut words = word.split(' ');
        let epoch = reply::epoch(words.next()?)?;
        let (tail, hwm) = (reply::seq(words.next()?)?, reply::seq(words.next()?)?);
        let committed = Offset::new(epoch, hwm);
        Some(Self { committed, tail, floor: reply::seq(words.next()?)?, before })
    }
}

impl State {
    fn take(&mut self, message: Message) {
        let Told { lagged, events } = match message {
            Message::Events { events, hwm } => self.sequencer.appended(events, hwm),
            Message::Committed(mark) => self.sequencer.committed(mark),
        };
        if lagged {
            metrics::counter!("evergate_redis_live_holes_total").increment(1);
            self.tail.lagged();
        }
        self.tail.send(&events);
    }

    fn trimmed(&mut self, floor: Seq) {
        if floor > self.floor {
            self.floor = floor;
            self.tail.trimmed(floor);
        }
    }

    /// Whether what came and what the log says cannot both be.
    fn disagrees(&self, stands: &Stands) -> bool {
        let Some(position) = self.sequencer.position() else { return false };
        let missing = position.seq < stands.committed.seq;
        // What was known before it was asked, and is not there any more, was lost.
        let lost = stands.before == Some(position) && position.seq > stands.committed.seq;
        let other = position.seq == stands.committed.seq
            && position.seq > Seq::ZERO
            && position.epoch < stands.committed.epoch;
        missing || lost || other
    }
}

/// Why the watch of a primary wakes up.
enum Woken {
    /// There is a new listening connection.
    Connected,
    /// Somebody took something over.
    Moved,
    /// Tails are to be compared.
    Due,
}

/// Keeps the subscriptions at one primary, and compares tails, for as long as it is polled.
pub(super) async fn watch(shared: Arc<Shared>, node: Arc<Node>, writer: mpsc::WeakSender<Request>) {
    let live = Arc::clone(&shared.live);
    let link = node.link(Purpose::Listen);
    let mut maps = shared.topology.maps();
    let mut taken_back = live.taken_back.subscribe();
    let mut vacancies = Vacancies::default();
    let (mut generation, mut due) = (0, Instant::now() + shared.options.compare_every);
    loop {
        let woken = tokio::select! {
            biased;
            next = link.next(generation) => match next {
                Some(on) => {
                    generation = on.generation;
                    Woken::Connected
                }
                None => return,
            },
            changed = maps.changed() => if changed.is_ok() { Woken::Moved } else { return },
            changed = taken_back.changed() => if changed.is_ok() { Woken::Moved } else { return },
            () = tokio::time::sleep_until(due) => Woken::Due,
        };
        vacancies.note(&shared, &node).await;
        let on = link.now();
        let news = match &on {
            Some(on) => live.subscribe_all(&shared, &node, on).await,
            None => false,
        };
        let reconnected = match woken {
            Woken::Connected => true,
            Woken::Moved if !news => continue,
            Woken::Moved => false,
            Woken::Due => {
                live.let_go(&shared, &node, on.as_ref()).await;
                false
            }
        };
        // What came while a channel was subscribed nowhere shows in the comparison.
        if let Err(error) = live.compare(&shared, &node, &writer, reconnected).await {
            tracing::debug!(%error, at = %node.place.address, "tails could not be compared");
            shared.topology.look_again();
        }
        due = Instant::now() + shared.options.compare_every;
    }
}

/// Subscribes to the channels of these feeds. Those that are refused are refused alone; the first
/// such error is returned.
async fn subscribe(shared: &Shared, on: &Connected, feeds: &[Arc<Feed>]) -> Result<(), RedisError> {
    let mut pipe = redis::pipe();
    for feed in feeds {
        pipe.cmd("SSUBSCRIBE").arg(feed.keys.channel(shared.database));
        // The first message may be here before the answer is.
        feed.state.lock().subscribed = on.generation;
    }
    let answers = match on.send_all(&pipe, feeds.len()).await {
        Ok(answers) => answers,
        Err(error) => {
            feeds.iter().for_each(|feed| feed.not_subscribed(on));
            on.failed(&error);
            return Err(error);
        }
    };
    let mut refused = None;
    for (feed, answer) in feeds.iter().zip(answers) {
        if let Value::ServerError(error) = answer {
            feed.not_subscribed(on);
            let error = RedisError::from(error);
            shared.topology.learn(feed.keys.slot.hash_slot(), &error);
            refused.get_or_insert(error);
        }
    }
    refused.map_or(Ok(()), Err)
}

impl Feed {
    fn not_subscribed(&self, on: &Connected) {
        let mut state = self.state.lock();
        if state.subscribed == on.generation {
            state.subscribed = 0;
        }
    }
}
