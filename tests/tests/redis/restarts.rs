//! Redis dies and comes back with everything it answered for, over and over, under load.

use std::time::Duration;

use evergate_tests::http1::{Request, call};
use evergate_tests::process::Evergate;
use evergate_tests::redis::{Keeps, RedisServer};

use crate::work::{Diary, Gateway, Gateways, Way, Work};

const KILLS: usize = 6;
/// Acknowledged before each kill.
const ROUND_MIN: usize = 200;
/// A gateway says "try again" after 8 s without Redis; a heartbeat comes every second.
const OUTAGE_MAX: Duration = Duration::from_secs(30);

async fn assert_ready(server: &Evergate) {
    let answer = call(server.admin(), Request::get("/readyz")).await;
    assert_eq!(answer.status(), 200, "a gateway without Redis still serves its subscribers: {answer:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_when_redis_is_killed() {
    let test = "nothing_acknowledged_is_lost_when_redis_is_killed";
    let Some(mut redis) = RedisServer::start(test, Keeps::Everything).await else {
        return;
    };
    let options = || redis.options().set("sse.heartbeat", "1s");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers = [(Way::Grpc, a), (Way::Grpc, b), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)]
        .map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);

    let mut outages = Vec::new();
    for kill in 0..KILLS {
        work.more(ROUND_MIN).await;
        let heartbeats: Vec<usize> = work.subscribers.iter().map(|diary| diary.heartbeats()).collect();
        let failures: Vec<usize> = work.publishers.iter().map(|diary| diary.failures().len()).collect();
        let epoch = work.books.ledger().epoch_received();
        redis.kill();
        // Back at once, or only when every publisher was told to try again.
        if kill % 3 == 2 {
            work.until("every subscriber hears heartbeats", OUTAGE_MAX, |work| {
                each_above(&work.subscribers, &heartbeats, 2, Diary::heartbeats)
            })
            .await;
            work.until("every publisher is told to try again", OUTAGE_MAX, |work| {
                each_above(&work.publishers, &failures, 1, |diary| diary.failures().len())
            })
            .await;
            for server in &servers {
                assert_ready(server).await;
            }
        }
        redis.restart().await;
        outages.push(work.outage(epoch).await);
        for server in &servers {
            assert_ready(server).await;
        }
    }

    // So that both streams have something beyond the last end, too.
    work.more(ROUND_MIN).await;
    let totals = work.judge(KILLS * ROUND_MIN).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        // Redis may have lost something for all anybody knows, and who was there is told so, once.
        let gaps = subscriber.gaps();
        assert_eq!(subscriber.crossings(), [], "untold; told were {gaps:?}");
        assert_eq!(gaps.len(), KILLS, "a notice of each kill: {gaps:?}");
        for gap in gaps {
            assert_eq!(gap["reason"], "lost-tail", "{gap}");
            assert!(gap["lost"].is_null(), "nobody can know: {gap}");
        }
    }
    println!(
        "{KILLS} kills of Redis, from its first answer {outages:?}: {totals:?}, {} publishes failed, {} retries had been stored, {:?}",
        work.publishers.iter().map(|diary| diary.failures().len()).sum::<usize>(),
        work.books.retries_found(),
        work.books.ledger().losses(),
    );
}

/// Whether each has come so far beyond what it had.
fn each_above(
    diaries: &[std::sync::Arc<Diary>],
    before: &[usize],
    by: usize,
    count: fn(&Diary) -> usize,
) -> bool {
    diaries.iter().zip(before).all(|(diary, before)| count(diary) >= before + by)
}
