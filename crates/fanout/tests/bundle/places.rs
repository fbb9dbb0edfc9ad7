//! What guards are told of how far their clients have come.

use std::time::Duration;

use evergate_domain::{Cursor, StreamSet, sse};
use evergate_fanout::{Begin, HubConfig};
use tokio::time::{Instant, timeout_at};

use super::pipe::Client;
use super::{FIRST, Passed, Wish, World, data, named};

const INTERVAL: Duration = Duration::from_secs(1);

/// A client, and what its guard was told.
struct Follower {
    client: Client,
    passed: Passed,
    body: Vec<u8>,
    /// The last id that stands whole in the body, after each interval.
    ids: Vec<Option<String>>,
}

impl Follower {
    async fn open(world: &mut World, begin: Begin, window: usize) -> Self {
        let passed = Passed::default();
        let wish = Wish { begin, follows: Some(passed.clone()), ..Wish::of("s") };
        let (client, ..) = world.open(wish, window).await;
        Self { client, passed, body: Vec::new(), ids: Vec::new() }
    }

    /// An interval has passed. Gives the positions that were told meanwhile.
    fn look(&mut self) -> Vec<String> {
        self.body.extend(self.client.read());
        let mut items = Vec::new();
        sse::Decoder::new(1 << 20, "").feed(&self.body, &mut items).expect("a valid stream");
        let mut ids = items.iter().rev().filter_map(|item| match item {
            sse::Item::Message(message) => Some(message.last_event_id.clone()),
            sse::Item::Retry(_) | sse::Item::Comment(_) | sse::Item::Position(_) => None,
        });
        self.ids.push(ids.next());
        let streams = StreamSet::new(vec![named("s")]).expect("one");
        let told = std::mem::take(&mut *self.passed.lock());
        told.iter().map(|told| told.unpack(&streams).expect("packed over it").to_string()).collect()
    }
}

async fn for_a_while(world: &mut World, time: Duration, open: bool) {
    let until = Instant::now() + time;
    while let Ok(()) = timeout_at(until, world.bundle.news(open)).await {
        world.bundle.turn(open);
    }
}

fn sequence(id: &str) -> u64 {
    id.rsplit_once('-').expect("an offset").1.parse().expect("a number")
}

/// Whoever reads all, in parts of frames, or in a long replay: never is more told than what it had in full
/// an interval before, and everybody's place moves.
#[tokio::test(start_paused = true)]
async fn a_place_is_told_late_and_only_of_what_was_sent_in_full() {
    let config = HubConfig { ring_events: 8, trail_interval: INTERVAL, ..HubConfig::default() };
    let mut world = World::new(config);
    for n in 0..100 {
        world.publish("s", None, format!("{n} {}", "x".repeat(100))).await;
    }
    let latest = || Wish::of("s").begin;
    let earliest = || Begin::Start(evergate_domain::Start::Earliest);
    let mut followers = [
        Follower::open(&mut world, latest(), usize::MAX >> 1).await,
        Follower::open(&mut world, latest(), FIRST.len()).await,
        Follower::open(&mut world, earliest(), FIRST.len()).await,
    ];
    let mut told = [0; 3];
    for round in 0..30 {
        // Looks are taken at its ends.
        for_a_while(&mut world, INTERVAL / 2, true).await;
        world.publish("s", None, format!("{round} {}", "y".repeat(100))).await;
        // As a rule less than a frame, and no more than comes.
        followers[1].client.grant(133);
        followers[2].client.grant(2_000);
        for_a_while(&mut world, INTERVAL / 2, true).await;
        for (n, follower) in followers.iter_mut().enumerate() {
            for told_at in follower.look() {
                let before = follower.ids[..round].last().cloned().flatten();
                let before = before.map_or(100, |id| sequence(&id));
                let before =
                    if n == 2 && follower.ids[..round].iter().all(Option::is_none) { 0 } else { before };
                assert!(sequence(&told_at) <= before, "{n}: {told_at} of {before} in round {round}");
                assert!(sequence(&told_at) >= told[n], "{n}: it moves only on");
                told[n] = sequence(&told_at);
            }
        }
    }
    assert!(told[0] >= 125, "{told:?}");
    assert!(told[1] > 105 && told[2] > 20, "{told:?}");
}

/// What h2 has not written may never be.
#[tokio::test(start_paused = true)]
async fn nothing_is_told_while_the_connection_takes_nothing() {
    let mut world = World::new(HubConfig { trail_interval: INTERVAL, ..HubConfig::default() });
    let mut follower = Follower::open(&mut world, Wish::of("s").begin, usize::MAX >> 1).await;
    for_a_while(&mut world, INTERVAL, true).await;
    world.publish("s", None, "1".to_owned()).await;
    for_a_while(&mut world, INTERVAL, true).await;
    assert_eq!(data(&follower.client.read()), ["1"]);
    follower.look();
    for _ in 0..5 {
        for_a_while(&mut world, INTERVAL, false).await;
        assert!(follower.look().is_empty());
    }
    for_a_while(&mut world, INTERVAL, true).await;
    for_a_while(&mut world, INTERVAL, true).await;
    let told = follower.look();
    assert_eq!(told.last().map(|told| sequence(told)), Some(1), "{told:?}");
}

/// A cursor begins somewhere, and stays there.
#[tokio::test(start_paused = true)]
async fn a_quiet_one_is_told_where_it_began() {
    let mut world = World::new(HubConfig { trail_interval: INTERVAL, ..HubConfig::default() });
    let mut follower = Follower::open(&mut world, Wish::of("s").begin, usize::MAX >> 1).await;
    let streams = StreamSet::new(vec![named("s")]).expect("one");
    for _ in 0..4 {
        for_a_while(&mut world, INTERVAL, true).await;
    }
    let told = follower.look();
    assert!(!told.is_empty() && told.iter().all(|told| sequence(told) == 0), "{told:?}");
    assert!(told.iter().all(|told| Cursor::parse(&streams, told).is_ok()));
}
