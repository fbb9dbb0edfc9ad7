//! Redis is there, but does not do what it should: its disk is full, it sleeps, it is emptied, it ends
//! connections, and somebody replaces the functions in it.

use std::collections::HashMap;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::frame::Item;
use evergate_tests::http1::{Request, call};
use evergate_tests::left_out::left_out;
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event, produced};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{Next, Subscription};
use evergate_tests::tiny_disk::TinyDisk;
use serde_json::Value;
use tonic::Code;
use tonic_types::StatusExt as _;

use crate::work::{Gateway, Gateways, Way, Work};

const EVENTS: &str = "/v1/streams/s/events";
const DISK_MIB: u32 = 64;
const LEAVE_MIB: u64 = 8;
const LAST: &str = "the last word";

fn text(n: u64) -> String {
    format!("{n} {}", "x".repeat(100_000))
}

/// Publishes until it is refused. Returns how many were taken.
async fn publish_until_full(publisher: &Publisher) -> u64 {
    for n in 1..=u64::from(DISK_MIB) * 11 {
        if let Err(status) = publisher.try_publish("s", event(text(n))).await {
            assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
            let details = status.get_error_details();
            let delay = details.retry_info().and_then(|info| info.retry_delay);
            assert!(delay.is_some_and(|delay| !delay.is_zero()), "when to try again is told: {status:?}");
            return n - 1;
        }
    }
    panic!("a disk of {DISK_MIB} MiB took everything");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_whose_disk_is_full_takes_no_events_and_goes_on_giving_them() {
    let test = "a_redis_whose_disk_is_full_takes_no_events_and_goes_on_giving_them";
    let disk = match TinyDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return left_out(test, &why),
    };
    let at = disk.path().to_str().expect("a plain name");
    let words = ["--dir", at, "--appendonly", "yes", "--auto-aof-rewrite-percentage", "0"];
    let Some(redis) = RedisServer::start_in(test, Keeps::Nothing, &words, &disk.launcher()).await else {
        return;
    };
    let server = Evergate::start(redis.options()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut live = Subscription::open(server.http(), EVENTS).await;
    let start = live.opened().await.offset();

    disk.fill(LEAVE_MIB);
    let taken = publish_until_full(&publisher).await;
    let answer = call(server.http(), Request::post(EVENTS, "text/plain", text(0))).await;
    answer.problem(507);
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);

    // Everything that was acknowledged is there, for who was there and for who comes now.
    let mut replay = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    replay.opened().await;
    for n in 1..=taken {
        for stream in [&mut live, &mut replay] {
            let frame = stream.event().await;
            assert_eq!((frame.offset(), frame.data), (start.plus(n), text(n)));
        }
    }

    disk.empty();
    let deadline = Instant::now() + PATIENCE;
    while let Err(status) = publisher.try_publish("s", event("room")).await {
        assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
        assert!(Instant::now() < deadline, "there is room again, but {status:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    for stream in [&mut live, &mut replay] {
        let frame = stream.event().await;
        assert_eq!((frame.offset(), frame.data.as_str()), (start.plus(taken + 1), "room"));
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_redis_that_sleeps_for_a_while_is_waited_for() {
    let test = "a_redis_that_sleeps_for_a_while_is_waited_for";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let servers = [Evergate::start(redis.options()).await, Evergate::start(redis.options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers = [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a)].map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    for _ in 0..2 {
        work.more(200).await;
        // Longer than an answer may take: what was sent is unknown, and is said again.
        redis.must(&["DEBUG", "SLEEP", "3"]).await;
    }
    work.more(200).await;
    let totals = work.judge(600).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.gaps(), Vec::<Value>::new(), "nothing was lost, and nobody could think so");
    }
    println!("{test}: {totals:?}, {} retries had been stored", work.books.retries_found());
}

/// Each of them says everything again that was not answered.
const WRITERS: usize = 64;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn connections_that_redis_ends_lose_and_double_nothing_of_64_publishers() {
    let test = "connections_that_redis_ends_lose_and_double_nothing_of_64_publishers";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let to = redis.port().to_string();
    let words = ["--replicaof", "127.0.0.1", &to];
    let Some(replica) = RedisServer::start_with(test, Keeps::Nothing, &words).await else { return };
    replica.until_in_step().await;
    let options = || redis.options().set("redis.level", "REPLICATED").set("sse.heartbeat", "1s");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let ways = [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)];
    let publishers: Vec<_> = (0..WRITERS).map(|n| (ways[n % 4].0, vec![ways[n % 4].1])).collect();
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    let mut ended = 0;
    for _ in 0..8 {
        work.more(300).await;
        for kind in ["normal", "pubsub"] {
            let many: usize = redis.must(&["CLIENT", "KILL", "TYPE", kind]).await.parse().expect("a count");
            ended += many;
        }
    }
    work.more(300).await;
    let totals = work.judge(9 * 300).await;
    // Of two gateways, one link or another each time.
    assert!(ended >= 16, "{ended} connections ended");
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.gaps(), Vec::<Value>::new(), "nothing was lost, and nobody could think so");
    }
    println!(
        "{test}: {totals:?}, {ended} connections ended, {} retries had been stored",
        work.books.retries_found()
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn functions_replaced_and_removed_in_mid_stream_lose_nothing() {
    let test = "functions_replaced_and_removed_in_mid_stream_lose_nothing";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let options = || redis.options().set("sse.heartbeat", "1s");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers =
        [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    let source = include_str!("../../../crates/eventlog/src/redis/evergate.lua");
    let version = async || redis.must(&["FCALL_RO", "evergate_1_version", "0"]).await;
    let own = version().await;
    let line = format!("local VERSION = {own} ");
    assert_eq!(source.matches(&line).count(), 1, "or nothing would be replaced");
    for newer in ["1001", "1002", "1003"] {
        work.more(200).await;
        let other = source.replacen(&line, &format!("local VERSION = {newer} "), 1);
        redis.must(&["FUNCTION", "LOAD", "REPLACE", &other]).await;
        assert_eq!(version().await, newer);
    }
    work.more(200).await;
    redis.must(&["FUNCTION", "FLUSH"]).await;
    work.more(200).await;
    assert_eq!(version().await, own, "a gateway brought its own");
    let totals = work.judge(5 * 200).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "live streams stay open");
        assert_eq!(subscriber.gaps(), Vec::<Value>::new(), "the server was the same all the while");
    }
    println!("{test}: {totals:?}, {} retries had been stored", work.books.retries_found());
}

/// What anybody ever said stands at an offset.
type Said = Arc<Mutex<HashMap<Offset, String>>>;

fn note(said: &Said, at: Offset, text: &str) {
    let before = said.lock().expect("no one panicked with it").insert(at, text.to_owned());
    assert!(before.is_none_or(|before| before == text), "{at} is used twice, now for {text}");
}

/// Reads until the last word, and counts the notices of a loss: without one, nothing is missing.
async fn read(mut stream: Subscription, said: Said) -> usize {
    let mut before: Option<Offset> = Some(stream.opened().await.offset());
    let mut told = 0;
    loop {
        let Next::Item(item) = stream.next().await else { panic!("the stream stays open") };
        let Item::Frame(frame) = item else { continue };
        if frame.event.as_deref() == Some("evergate.gap") {
            (before, told) = (None, told + 1);
        } else if frame.is_event() {
            let at = frame.offset();
            note(&said, at, &frame.data);
            if let Some(before) = before.replace(at) {
                assert_eq!(at.seq, before.seq + 1, "nothing was told between {before} and {at}");
                assert!(before.epoch == at.epoch || before.seq == 0, "{before} and {at}");
            }
            if frame.data == LAST {
                return told;
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_while_many_publish_is_told_to_everybody() {
    let test = "a_flush_while_many_publish_is_told_to_everybody";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let to = redis.port().to_string();
    let words = ["--replicaof", "127.0.0.1", &to];
    let Some(replica) = RedisServer::start_with(test, Keeps::Nothing, &words).await else { return };
    replica.until_in_step().await;
    let options = || redis.options().set("redis.level", "REPLICATED");
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let said = Said::default();
    let mut readers = Vec::new();
    for server in &servers {
        let stream = Subscription::open(server.http(), EVENTS).await;
        readers.push(tokio::spawn(read(stream, said.clone())));
    }
    let stop = Arc::new(AtomicBool::new(false));
    let mut sources = Vec::new();
    for n in 0..4 {
        let publisher = Publisher::connect(servers[n % 2].grpc()).await;
        let (stop, said) = (stop.clone(), said.clone());
        sources.push(tokio::spawn(async move {
            let mut seq = 0;
            while !stop.load(Ordering::Relaxed) {
                seq += 1;
                let text = format!("{seq} of {n}");
                loop {
                    match publisher.try_publish("s", produced(&format!("p{n}"), seq, &text)).await {
                        Ok(answer) => break note(&said, offset(&answer.offset), &text),
                        Err(status) => assert_eq!(status.code(), Code::Unavailable, "{status:?}"),
                    }
                }
            }
            seq
        }));
    }
    let many = |n: usize| {
        let said = said.clone();
        async move {
            let deadline = Instant::now() + PATIENCE;
            while said.lock().expect("no one panicked with it").len() < n {
                assert!(Instant::now() < deadline, "not {n} events");
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        }
    };
    many(200).await;
    redis.flush().await;
    let so_far = said.lock().expect("no one panicked with it").len();
    many(so_far + 200).await;
    stop.store(true, Ordering::Relaxed);
    for source in sources {
        source.await.expect("a publisher found nothing wrong");
    }
    let publisher = Publisher::connect(servers[0].grpc()).await;
    publisher.publish("s", event(LAST)).await;
    for reader in readers {
        let told = tokio::time::timeout(PATIENCE, reader).await;
        assert!(told.expect("reads to the end").expect("a reader found nothing wrong") >= 1, "nobody told");
    }
}
