//! Two processes with one log: what one takes the other shows, a cursor is good at both, and either
//! may die at any moment.

use evergate_tests::offset::Offset;
use evergate_tests::process::Evergate;
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;

use crate::work::{Books, Gateway, Gateways, STREAMS, Way, Work};

const KILLS: usize = 6;
/// Acknowledged before each kill.
const ROUND_MIN: usize = 200;
/// Events read from each gateway by who changes from one to the other.
const STAGE: usize = 50;

/// Reads at one gateway, and where it was goes on at the other.
async fn travel(from: &Evergate, to: &Evergate, name: &str, stream: &str, books: &Books) {
    let target = format!("/v1/streams/{stream}/events?from=earliest");
    let mut here = Subscription::open(from.http(), &target).await;
    here.opened().await;
    let mut frames = here.events(STAGE).await;
    let cursor = frames[STAGE - 1].must_id().to_owned();
    let mut there = Subscription::resume(to.http(), &target, &cursor).await;
    let opened = there.opened().await;
    assert_eq!((opened.resume.as_str(), opened.cursor.as_str()), ("exact", cursor.as_str()));
    frames.extend(there.events(STAGE).await);
    for (seq, frame) in (1..).zip(&frames) {
        assert_eq!(frame.offset(), Offset::new(frame.offset().epoch, seq), "{name} on {stream}");
        books.ledger().received(name, stream, frame.offset(), &frame.data);
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_gateways_on_one_redis_are_one() {
    let Some(redis) = RedisServer::start("two_gateways_on_one_redis_are_one", Keeps::Everything).await else {
        return;
    };
    let mut servers = [Evergate::start(redis.options()).await, Evergate::start(redis.options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    // Everybody publishes at the first until it is gone; half of the subscribers are at the second.
    let publishers =
        [Way::Grpc, Way::Grpc, Way::Grpc, Way::Http, Way::Http, Way::Http].map(|way| (way, vec![a, b]));
    let mut work = Work::begin(Gateways::Mortal, &publishers, &[vec![a, b], vec![b, a]]);

    work.more(STREAMS.len() * STAGE * 4).await;
    for stream in STREAMS {
        travel(&servers[0], &servers[1], "from the first to the second", stream, &work.books).await;
        travel(&servers[1], &servers[0], "from the second to the first", stream, &work.books).await;
    }
    for kill in 0..KILLS {
        work.more(ROUND_MIN).await;
        let dying = &mut servers[kill % 2];
        dying.kill();
        // The other one carries everything meanwhile.
        work.more(ROUND_MIN).await;
        dying.restart().await;
    }
    let totals = work.judge(2 * KILLS * ROUND_MIN).await;
    for subscriber in &work.subscribers {
        assert!(subscriber.gaps().is_empty(), "Redis lost nothing: {:?}", subscriber.gaps());
    }
    let failures: usize = work.publishers.iter().map(|diary| diary.failures().len()).sum();
    assert!(failures >= KILLS, "kills caught only {failures} publishes");
    println!(
        "{KILLS} kills: {totals:?}, {failures} publishes failed, {} retries had been stored",
        work.books.retries_found()
    );
}
