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
use redis::{PushInfo, PushKind, Value, cmd};
use tokio::sync::mpsc;

use super::gates::NotOpened;
use super::keys::{Keys, Slot};
use super::link::{self, Connected};
use super::sequencer::{Sequencer, Told};
use super::wire::Message;
use super::writer::Request;
use super::{Shared, error, reply};
use crate::{BackendError, ReadError, Tail, TailSender};

/// Streams compared, or channels subscribed, by one command.
const CHUNK: usize = 256;
/// A message may be under way when tails are compared; it is missing if it is not here after this.
const GRACE: Duration = Duration::from_millis(100);

/// All followed streams.
#[derive(Default)]
pub(super) struct Live {
    feeds: RwLock<HashMap<String, Arc<Feed>>>,
    /// Subscribing and unsubscribing take turns, so that the last word about a channel is the right one.
    turn: tokio::sync::Mutex<()>,
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
    /// The connection on which it is subscribed.
    subscribed: u64,
    floor: Seq,
    /// The tail that was not committed when tails were last compared.
    uncommitted: Option<Seq>,
}

impl Live {
    /// What the listening connection does with a push.
    pub(super) fn on_push(&self, push: &PushInfo) {
        if push.kind != PushKind::SMessage {
            return;
        }
        let [Value::BulkString(channel), Value::BulkString(payload)] = push.data.as_slice() else { return };
        let Ok(channel) = std::str::from_utf8(channel) else { return };
        let Some(feed) = self.feeds.read().get(channel).cloned() else { return };
        match Message::parse(payload) {
            Some(message) => feed.state.lock().take(message),
            // Then the next comparison finds what is missing.
            None => {
                tracing::warn!(channel, bytes = payload.len(), "a message on a live channel is malformed");
            }
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
        let unavailable = |error| ReadError::Unavailable(error);
        let connected =
            tokio::time::timeout(shared.options.response_timeout, shared.listen.connected()).await;
        let Ok(Some(on)) = connected else {
            return Err(unavailable(BackendError::message("no connection to Redis")));
        };
        let _turn = self.turn.lock().await;
        if feed.state.lock().subscribed == on.generation {
            return Ok(());
        }
        let channel = feed.keys.channel(shared.database);
        subscribe(shared, &on, &[channel]).await.map_err(|error| unavailable(BackendError::new(error)))?;
        feed.state.lock().subscribed = on.generation;
        Ok(())
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

    /// Keeps the subscriptions and compares tails for as long as it is polled.
    pub(super) async fn watch(&self, shared: &Shared, writer: mpsc::WeakSender<Request>) {
        let mut generation = 0;
        loop {
            let reconnected = tokio::select! {
                biased;
                next = shared.listen.next(generation) => match next {
                    Some(on) => {
                        generation = on.generation;
                        self.subscribe_all(shared, &on).await;
                        true
                    }
                    None => return,
                },
                () = tokio::time::sleep(shared.options.compare_every) => false,
            };
            self.let_go(shared, generation).await;
            ping(shared, generation).await;
            if let Err(error) = self.compare(shared, &writer, reconnected).await {
                tracing::debug!(%error, "tails could not be compared");
            }
        }
    }

    async fn subscribe_all(&self, shared: &Shared, on: &Connected) {
        let _turn = self.turn.lock().await;
        let feeds: Vec<_> = self.feeds.read().values().cloned().collect();
        for feeds in feeds.chunks(CHUNK) {
            let channels: Vec<_> = feeds.iter().map(|feed| feed.keys.channel(shared.database)).collect();
            match subscribe(shared, on, &channels).await {
                Ok(()) => feeds.iter().for_each(|feed| feed.state.lock().subscribed = on.generation),
                // If the connection broke, the next one is coming; else nothing would.
                Err(error) => {
                    tracing::warn!(%error, "live channels could not be subscribed to");
                    return;
                }
            }
        }
    }

    /// Unsubscribes from what nobody follows any more.
    async fn let_go(&self, shared: &Shared, generation: u64) {
        let _turn = self.turn.lock().await;
        let mut channels = Vec::new();
        self.feeds.write().retain(|channel, feed| {
            // Whoever is about to follow holds the feed already.
            let used = Arc::strong_count(feed) > 1 || feed.state.lock().tail.is_followed();
            if !used {
                channels.push(channel.clone());
            }
            used
        });
        let Some(on) = shared.listen.now().filter(|on| on.generation == generation) else { return };
        for channels in channels.chunks(CHUNK) {
            let mut pipe = redis::pipe();
            for channel in channels {
                pipe.cmd("SUNSUBSCRIBE").arg(channel);
            }
            let mut connection = on.connection.clone();
            if let Err(error) = connection.send_packed_commands(&pipe, 0, channels.len()).await {
                shared.listen.failed(generation, &error);
                return;
            }
        }
    }

    /// Compares what is known of every followed stream with the log.
    async fn compare(
        &self,
        shared: &Shared,
        writer: &mpsc::WeakSender<Request>,
        reconnected: bool,
    ) -> Result<(), BackendError> {
        let mut slots: HashMap<Slot, Vec<Arc<Feed>>> = HashMap::new();
        for feed in self.feeds.read().values() {
            slots.entry(feed.keys.slot).or_default().push(Arc::clone(feed));
        }
        let mut suspects = Vec::new();
        for (slot, feeds) in slots {
            for feeds in feeds.chunks(CHUNK) {
                for (feed, stands) in self.ask(shared, slot, feeds).await? {
                    let mut state = feed.state.lock();
                    state.trimmed(stands.floor);
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
        Ok(())
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
        let answer = super::reader::ask(shared, &tails).await?;
        let odd = || error::odd("tails");
        let words = reply::words(answer).ok_or_else(odd)?;
        let [gate, fence, streams @ ..] = words.as_slice() else { return Err(odd()) };
        if gate == "SHUT" {
            let fence = reply::epoch(fence).ok_or_else(odd)?;
            if let Some(on) = shared.write.now() {
                let known = shared.gates.get(slot);
                match shared.gates.open(&on, slot, &known, fence, fence, &shared.options).await {
                    Ok(()) => {}
                    Err(NotOpened::Redis(error)) => shared.write.failed(on.generation, &error),
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

/// Asks whether the listening connection still hears. Nothing is written to it otherwise, so that it
/// could be dead for hours.
async fn ping(shared: &Shared, generation: u64) {
    let Some(on) = shared.listen.now().filter(|on| on.generation == generation) else { return };
    if let Err(error) = link::send(&mut on.connection.clone(), &cmd("PING")).await {
        tracing::debug!(%error, "the listening connection does not answer");
        shared.listen.give_up(generation);
    }
}

async fn subscribe(shared: &Shared, on: &Connected, channels: &[String]) -> Result<(), redis::RedisError> {
    let mut pipe = redis::pipe();
    for channel in channels {
        pipe.cmd("SSUBSCRIBE").arg(channel);
    }
    let mut connection = on.connection.clone();
    let done = connection.send_packed_commands(&pipe, 0, channels.len()).await;
    let done = done.and_then(|answers| {
        let refused = answers.into_iter().find_map(|answer| match answer {
            Value::ServerError(error) => Some(error),
            _ => None,
        });
        refused.map_or(Ok(()), |error| Err(error.into()))
    });
    done.inspect_err(|error| shared.listen.failed(on.generation, error))
}
