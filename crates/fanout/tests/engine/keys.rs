//! Followers who want some keys only: an event costs a look at those it is for, and nobody else's position
//! stays behind for that.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use evergate_domain::{
    Event, EventDraft, Gap, GapReason, Key, KeyFilter, KeyPattern, Level, Offset, Start, StreamName,
    UnixMillis, sse,
};
use evergate_eventlog::{
    AppendError, EventLog, Page, Placed, ReadError, ReadLimit, StreamStatus, Tail, TailSender,
};
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, HubConfig, SubscribeRequest};
use parking_lot::Mutex;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;

use crate::{Chunks, SMALL, World, name, streams, world, world_over};

const NEVER: Duration = Duration::from_secs(3_600);

fn keyed(key: &str) -> EventDraft {
    EventDraft { key: Some(Key::new(key).expect("valid")), ..EventDraft::new(format!("for {key}")) }
}

fn filter(patterns: &[&str]) -> KeyFilter {
    patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect()
}

struct Follower {
    socket: TcpStream,
    chunks: Chunks,
    decoder: sse::Decoder,
    items: VecDeque<sse::Message>,
}

impl Follower {
    async fn open(world: &World, patterns: &[&str], heartbeat: Duration, begin: Begin) -> Self {
        let request = SubscribeRequest {
            streams: streams(),
            filters: [filter(patterns)].into(),
            begin,
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (heartbeat, HeartbeatKind::Comment),
        };
        let (socket, at) = world.serve(request, false, SMALL).await;
        let decoder = sse::Decoder::new(1 << 20, &at);
        Self { socket, chunks: Chunks::default(), decoder, items: VecDeque::new() }
    }

    /// The next event or notice.
    async fn next(&mut self) -> sse::Message {
        let mut buffer = [0; 4_096];
        loop {
            if let Some(message) = self.items.pop_front() {
                return message;
            }
            let n = self.socket.read(&mut buffer).await.expect("reads");
            assert!(n > 0, "ended");
            let mut items = Vec::new();
            self.decoder.feed(&self.chunks.feed(&buffer[..n]), &mut items).expect("a valid stream");
            self.items.extend(items.into_iter().filter_map(|item| match item {
                sse::Item::Message(message) => Some(message),
                sse::Item::Retry(_) | sse::Item::Comment(_) | sse::Item::Position(_) => None,
            }));
        }
    }

    async fn expect(&mut self, kind: &str, seq: u64) {
        let message = self.next().await;
        let at = message.last_event_id.parse::<Offset>().expect("an offset").seq.get();
        assert_eq!((message.kind.as_str(), at), (kind, seq));
    }
}

async fn all_parked(world: &World, followers: usize) {
    while world.engine.parked() < followers {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
}

#[tokio::test]
async fn an_event_costs_a_look_at_those_it_is_for() {
    const FOLLOWERS: usize = 200;
    let world = world(HubConfig::default());
    let latest = || Begin::Start(Start::Latest);
    let mut singles = Vec::new();
    for n in 0..FOLLOWERS {
        singles.push(Follower::open(&world, &[&format!("k{n}")], NEVER, latest()).await);
    }
    let mut some = Follower::open(&world, &["k1*", "k17", "z"], NEVER, latest()).await;
    let mut everyone = Follower::open(&world, &[], NEVER, latest()).await;
    all_parked(&world, FOLLOWERS + 2).await;
    let mut seq = 0;
    for (key, looks) in [("k17", 3), ("k3", 2), ("k199", 3), ("k17", 3), ("nobody's", 1)] {
        let (visits, sends) = (world.engine.visits(), world.engine.sends());
        world.log.append(&name(), vec![keyed(key)]).await.expect("appends");
        seq += 1;
        everyone.expect("message", seq).await;
        if key.starts_with("k1") {
            some.expect("message", seq).await;
        }
        if let Some(n) = key.strip_prefix('k').and_then(|n| n.parse::<usize>().ok()) {
            singles[n].expect("message", seq).await;
        }
        assert_eq!(world.engine.visits() - visits, looks, "{key}");
        assert_eq!(world.engine.sends() - sends, looks, "{key}");
    }
    drop((singles, some, everyone));
    world.ended().await;
}

/// However long nothing is for it, and wherever the ring has got to, a follower is told where it is: with
/// its heartbeat, and before it has passed over more than is allowed.
#[tokio::test]
async fn a_quiet_follower_is_told_its_position_and_falls_back_to_no_log() {
    const SCAN_MAX: u64 = 40;
    let world = world(HubConfig { scan_max: 40, ring_events: 16, ..HubConfig::default() });
    let mut quiet = Follower::open(&world, &["quiet"], NEVER, Begin::Start(Start::Latest)).await;
    let mut beating =
        Follower::open(&world, &["never"], Duration::from_millis(600), Begin::Start(Start::Latest)).await;
    let mut loud = Follower::open(&world, &["loud"], NEVER, Begin::Start(Start::Latest)).await;
    all_parked(&world, 3).await;
    for seq in 1..=10 * SCAN_MAX {
        world.log.append(&name(), vec![keyed("loud")]).await.expect("appends");
        loud.expect("message", seq).await;
        assert_eq!(world.engine.parked(), 3, "somebody had to ask the log at {seq}");
    }
    world.log.append(&name(), vec![keyed("quiet")]).await.expect("appends");
    let (mut before, mut notices) = (0, 0);
    loop {
        let message = quiet.next().await;
        let at = message.last_event_id.parse::<Offset>().expect("an offset").seq.get();
        assert!(at > before && at - before <= SCAN_MAX, "{before} {at}");
        before = at;
        if message.kind == "message" {
            break;
        }
        assert_eq!(message.kind, "evergate.cursor");
        notices += 1;
    }
    assert_eq!(before, 10 * SCAN_MAX + 1);
    assert!(notices >= 10, "{notices}");
    // The last notice that the other one gets is by its heartbeat, and exact.
    loop {
        let message = beating.next().await;
        assert_eq!(message.kind, "evergate.cursor");
        if message.last_event_id.parse::<Offset>().expect("an offset").seq.get() == 10 * SCAN_MAX + 1 {
            break;
        }
    }
    drop((quiet, beating, loud));
    world.ended().await;
}

/// A log whose epoch 7 lost its tail: what it once showed up to 7-10 ends at 7-8, and goes on in epoch 9.
struct Failed(TailSender, Mutex<Vec<Arc<Event>>>);

fn offset(text: &str) -> Offset {
    text.parse().expect("valid")
}

fn event(at: &str, key: &str) -> Arc<Event> {
    Arc::new(keyed(key).placed(offset(at), UnixMillis::new(0)))
}

#[async_trait]
impl EventLog for Failed {
    async fn append(&self, _: &StreamName, _: Vec<EventDraft>) -> Result<Vec<Placed>, AppendError> {
        unreachable!("only read")
    }

    async fn read(&self, _: &StreamName, after: Offset, _: ReadLimit) -> Result<Page, ReadError> {
        Ok(if after.epoch.get() == 7 && after.seq.get() > 8 {
            Page::Gap(Gap {
                requested: after,
                first_missing: None,
                cursor: offset("7-8"),
                resumed_at: offset("9-9"),
                reason: GapReason::LostTail,
                lost: None,
            })
        } else {
            let later = self.1.lock().iter().filter(|event| event.offset > after).cloned().collect();
            Page::Events { events: later, at_end: true }
        })
    }

    async fn locate(&self, _: &StreamName, _: Start) -> Result<Offset, ReadError> {
        Ok(offset("7-5"))
    }

    async fn follow(&self, _: &StreamName) -> Result<Tail, ReadError> {
        Ok(self.0.follow(offset("7-5")))
    }

    async fn status(&self, _: &StreamName) -> Result<StreamStatus, ReadError> {
        unreachable!("only read")
    }

    async fn trim(&self) -> Result<(), ReadError> {
        Ok(())
    }

    fn level(&self, _: &StreamName) -> Level {
        Level::Home
    }

    async fn close(&self) {}
}

/// Nobody is moved from a tail that was lost into the history that replaced it without being told, even if
/// nothing of either is for it.
#[tokio::test]
async fn a_lost_tail_is_told_to_those_who_want_other_keys_too() {
    let sender = TailSender::default();
    let log = Arc::new(Failed(sender.clone(), Mutex::default()));
    let world = world_over(Arc::clone(&log) as Arc<dyn EventLog>, HubConfig::default(), false);
    let latest = || Begin::Start(Start::Latest);
    let mut lost = Follower::open(&world, &["lost"], NEVER, latest()).await;
    let mut quiet = Follower::open(&world, &["never"], Duration::from_millis(600), latest()).await;
    all_parked(&world, 2).await;
    sender.send(&["7-6", "7-7", "7-8", "7-9"].map(|at| event(at, "other")));
    sender.send(&[event("7-10", "lost")]);
    lost.expect("message", 10).await;
    quiet.expect("evergate.cursor", 10).await;
    log.1.lock().extend(["9-9", "9-10", "9-11"].map(|at| event(at, "other")));
    sender.lagged();
    for follower in [&mut lost, &mut quiet] {
        let gap = follower.next().await;
        assert_eq!((gap.kind.as_str(), gap.last_event_id.as_str()), ("evergate.gap", "7-8"));
        assert!(gap.data.contains("lost-tail") && gap.data.contains("\"7-10\""), "{}", gap.data);
    }
    // And they are where everybody is again.
    let next = [event("9-12", "lost"), event("9-13", "never")];
    log.1.lock().extend(next.iter().cloned());
    sender.send(&next);
    lost.expect("message", 12).await;
    loop {
        let message = quiet.next().await;
        if message.kind == "message" {
            assert_eq!(message.last_event_id, "9-13");
            break;
        }
        assert_eq!(message.kind, "evergate.cursor");
    }
    drop((lost, quiet));
    world.ended().await;
}
