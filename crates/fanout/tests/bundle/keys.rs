//! Subscribers who want some keys only: an event costs a look at those it is for, and nobody else's position
//! stays behind for that.

use std::time::Duration;

use evergate_domain::{KeyFilter, KeyPattern, Offset, sse};
use evergate_fanout::HubConfig;

use super::pipe::Client;
use super::{Wish, World, data};

fn wanting(patterns: &[&str]) -> Wish {
    let filter: KeyFilter =
        patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect();
    Wish { filter, ..Wish::of("s") }
}

#[tokio::test(start_paused = true)]
async fn an_event_is_looked_at_by_those_it_is_for() {
    const MANY: usize = 100;
    let mut world = World::new(HubConfig::default());
    let mut clients = Vec::new();
    for n in 0..MANY {
        clients.push(world.open(wanting(&[&format!("k{n}")]), usize::MAX >> 1).await.0);
    }
    for patterns in [&["k1*", "k17", "z"][..], &[]] {
        clients.push(world.open(wanting(patterns), usize::MAX >> 1).await.0);
    }
    world.settle().await;
    let counts = |clients: &[Client]| {
        (clients.iter().map(Client::sends).sum::<usize>(), clients.iter().map(Client::asks).sum::<usize>())
    };
    for (key, looks) in [("k17", 3), ("k3", 2), ("k99", 2), ("k17", 3), ("nobody's", 1)] {
        let before = counts(&clients);
        world.publish("s", Some(key), "x".to_owned()).await;
        world.settle().await;
        let after = counts(&clients);
        assert_eq!((after.0 - before.0, after.1 - before.1), (looks, looks), "{key}");
    }
    let got = clients.iter().map(|client| data(&client.read()).len());
    let expected = (0..MANY).map(|n| match n {
        17 => 2,
        3 | 99 => 1,
        _ => 0,
    });
    assert!(got.eq(expected.chain([2, 5])));
}

/// However long nothing is for it, and wherever the ring has got to: with a sign of life, and before it has
/// passed over more than is allowed. With room for nothing else it is owed that.
#[tokio::test(start_paused = true)]
async fn a_quiet_one_is_told_where_it_is() {
    const SCAN_MAX: u64 = 40;
    let mut world = World::new(HubConfig { scan_max: 40, ring_events: 16, ..HubConfig::default() });
    let (quiet, ..) = world.open(wanting(&["quiet"]), usize::MAX >> 1).await;
    let beating = Wish { heartbeat: Duration::from_secs(2), ..wanting(&["never"]) };
    let (beating, ..) = world.open(beating, usize::MAX >> 1).await;
    for _ in 0..10 * SCAN_MAX {
        world.publish("s", Some("loud"), "x".to_owned()).await;
        world.settle().await;
    }
    world.publish("s", Some("quiet"), "at last".to_owned()).await;
    world.settle().await;
    let (ids, kinds): (Vec<_>, Vec<_>) = told(&quiet).into_iter().unzip();
    assert!(ids.windows(2).all(|two| two[0] < two[1] && two[1] - two[0] <= SCAN_MAX), "{ids:?}");
    assert_eq!((ids[ids.len() - 1], kinds[kinds.len() - 1].as_str()), (10 * SCAN_MAX + 1, "message"));
    assert!(kinds[..kinds.len() - 1].iter().all(|kind| kind == "evergate.cursor"), "{kinds:?}");
    assert!(ids.len() >= 10, "{ids:?}");
    // By its sign of life, and exact.
    while told_last(&beating) != Some(10 * SCAN_MAX + 1) {
        world.bundle.turn(true);
        world.bundle.news(true).await;
    }
}

fn told(client: &Client) -> Vec<(u64, String)> {
    let mut items = Vec::new();
    sse::Decoder::new(1 << 20, "").feed(&client.read(), &mut items).expect("a valid stream");
    let messages = items.into_iter().filter_map(|item| match item {
        sse::Item::Message(message) => Some(message),
        sse::Item::Retry(_) | sse::Item::Comment(_) | sse::Item::Position(_) => None,
    });
    let at = |id: &str| id.parse::<Offset>().expect("an offset").seq.get();
    messages.map(|message| (at(&message.last_event_id), message.kind)).collect()
}

fn told_last(client: &Client) -> Option<u64> {
    told(client).last().map(|(at, _)| *at)
}
