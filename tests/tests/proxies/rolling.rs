//! A rolling restart: two edges with one log, behind nginx as documented. Each edge is told to end in
//! turn while thousands listen and publishers go on; nobody misses an event and nobody gets one twice, and
//! no edge takes connections in faster than it is allowed to.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use evergate_tests::audience::{Books, Post, Reader, place, publish, until};
use evergate_tests::http1::Request;
use evergate_tests::ledger::{Demands, Traffic, Verdict};
use evergate_tests::left_out::say;
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::{Evergate, binary};
use evergate_tests::program::Program;
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::{PATIENCE, size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::task::JoinSet;

use crate::admission::Admission;

const STREAM: &str = "s";
/// More by `EVERGATE_ROLLING_SUBSCRIBERS`; each costs a descriptor here and at its edge, and two in nginx.
const SUBSCRIBERS: usize = 2_000;
/// Descriptors of nginx that are none of theirs: what comes back while nginx still has its end of what it came from,
/// publishers, and its own.
const SPARE_DESCRIPTORS: usize = 2_000;
const ROUNDS: usize = 2;
/// Connections that an edge takes in a second, and at once after a rest: far fewer than come when the
/// other one ends.
const ACCEPTS: u32 = 300;
/// So many connect at the same time at first: a crowd is another test.
const ARRIVE_TOGETHER: usize = 100;
const PUBLISHERS: usize = 2;
/// Between two events of a publisher.
const PUBLISH_EVERY: Duration = Duration::from_millis(200);
const END_MAX: Duration = Duration::from_secs(20);
/// All that was published must be everywhere so long after the last restart.
const CATCH_UP_MAX: Duration = Duration::from_secs(60);

/// How many subscribers there may be within a process's descriptors: nginx has the most of them.
fn subscribers() -> usize {
    let wanted = size::of("EVERGATE_ROLLING_SUBSCRIBERS", SUBSCRIBERS);
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let limit = maximum.map_or(usize::MAX, |limit| usize::try_from(limit).unwrap_or(usize::MAX));
    let fit = limit.saturating_sub(SPARE_DESCRIPTORS) / 2;
    if fit < wanted {
        say(&format!("only {fit} of {wanted} subscribers: too few descriptors\n"));
    }
    fit.min(wanted)
}

/// The publisher that we ship: `evergate publish` over gRPC to one of the edges, which it outlives. A line is told to it
/// when the one before was acknowledged.
async fn publish_by_command(mut command: Program, name: String, books: Arc<Books>) {
    let mut seq = 0;
    while !books.stop.load(Ordering::Relaxed) {
        seq += 1;
        let text = format!("{name} {seq}");
        books.ledger().attempted_as(STREAM, &name, seq, &text);
        command.tell(&text).await;
        let told = command.line().await;
        let place = offset(told.split_whitespace().next().expect("an offset"));
        books.ledger().acknowledged(STREAM, place, &text);
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
    // It has had no error that it did not get over by itself.
    command.finish().await;
}

/// Reads for ever, coming back through the proxy when it was told to.
async fn read(mut reader: Reader, proxy: Arc<Proxy>, connections: Arc<AtomicUsize>) {
    loop {
        // `Subscription` itself panics at any status but 200.
        let stream = proxy.try_subscribe(&reader.request()).await;
        let mut stream = stream.unwrap_or_else(|error| panic!("{}: {error}", reader.name()));
        connections.fetch_add(1, Ordering::Relaxed);
        reader.read(&mut stream).await;
        reader.rest().await;
    }
}

struct ThroughProxy(Arc<Proxy>);

impl Post for ThroughProxy {
    /// `None` if the proxy or the edge says to try again, or the connection breaks.
    async fn post(&mut self, request: Request) -> Option<Offset> {
        let answer = self.0.try_call(&request).await.ok()?;
        match answer.status() {
            200 => Some(place(&answer.json()).expect("an offset")),
            502..=504 => None,
            other => panic!("{other}: {answer:?}"),
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_rolling_restart_loses_and_doubles_nothing() {
    const TEST: &str = "a_rolling_restart_loses_and_doubles_nothing";
    let subscribers = subscribers();
    // Everybody comes back at the rate at which they are let in.
    let catch_up_max =
        CATCH_UP_MAX + Duration::from_secs(1) * u32::try_from(subscribers).expect("few") / ACCEPTS;
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let limit = ACCEPTS.to_string();
    let edge = |node| {
        let options = redis.options().set("node", node).set("limits.accepts_per_second", &limit);
        Evergate::start(options)
    };
    let mut servers = [edge("a").await, edge("b").await];
    let behind = servers.each_ref().map(Upstream::of);
    let Some(proxy) = Proxy::start(TEST, Product::Nginx, behind).await else { return };
    let (proxy, books, connections) =
        (Arc::new(proxy), Arc::<Books>::default(), Arc::<AtomicUsize>::default());
    let watched = Arc::<AtomicBool>::default();
    let admissions =
        servers.each_ref().map(|server| tokio::spawn(Admission::watch(server.admin(), watched.clone())));

    let mut reading = JoinSet::new();
    for n in 0..subscribers {
        let reader = Reader::new(format!("reader-{n}"), STREAM, Duration::MAX, books.clone());
        reading.spawn(read(reader, proxy.clone(), connections.clone()));
        if (n + 1) % ARRIVE_TOGETHER == 0 || n + 1 == subscribers {
            until(&mut reading, "they all listen", PATIENCE, || books.live.load(Ordering::Relaxed) > n).await;
        }
    }
    let mut publishing = JoinSet::new();
    for n in 0..PUBLISHERS {
        let (way, name) = (ThroughProxy(proxy.clone()), format!("publisher-{n}"));
        publishing.spawn(publish(way, STREAM, name, PUBLISH_EVERY, books.clone()));
    }
    for (n, server) in servers.iter().enumerate() {
        let (name, grpc) = (format!("command-{n}"), format!("http://{}", server.grpc()));
        let arguments = ["publish", "--server", &grpc, "--stream", STREAM, "--producer", &name, "--seq", "1"];
        let command = Program::start(binary(), &arguments, &[]);
        publishing.spawn(publish_by_command(command, name, books.clone()));
    }

    let begun = Instant::now();
    for _ in 0..ROUNDS {
        for server in &mut servers {
            let before = books.ledger().totals().acknowledged;
            server.terminate();
            books.ledger().injected();
            let status = server.ended(END_MAX).await;
            assert!(status.success(), "an edge that is told to end ends well: {status}");
            server.restart().await;
            // The other one carries everybody, and events go on, before it is its turn.
            until(&mut reading, "everybody listens again", catch_up_max, || {
                books.live.load(Ordering::Relaxed) == subscribers
                    && books.ledger().totals().acknowledged > before + PUBLISHERS
            })
            .await;
        }
    }
    let took = begun.elapsed();

    books.stop.store(true, Ordering::Relaxed);
    while let Some(ended) = publishing.join_next().await {
        ended.expect("a publisher found nothing wrong");
    }
    let published = books.ledger().totals().acknowledged;
    let demands = Demands {
        traffic: Traffic { acknowledged: 20, received: published * subscribers },
        // Both edges ended at least once under everybody they had.
        resumes: subscribers,
        injected: ROUNDS * servers.len(),
    };
    let everything = || books.ledger().totals().received == published * subscribers;
    // What was lost never comes: then the ledger says which it was.
    let deadline = Instant::now() + catch_up_max;
    while !everything() && Instant::now() < deadline {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    reading.shutdown().await;
    watched.store(true, Ordering::Relaxed);
    let (mut accepted, mut paused) = (0.0, 0.0);
    for admission in admissions {
        let (here, pauses) = admission.await.expect("it only looks").check(f64::from(ACCEPTS));
        accepted += here;
        paused += pauses;
    }
    assert!(paused >= 1.0, "nobody ever had to wait, so the limit was not shown to hold");
    let verdict: Verdict = books.ledger().judge_run(demands);
    let totals = verdict.expect_sound();
    let count = |counter: &AtomicUsize| counter.load(Ordering::Relaxed);
    let (cuts, goaways) = (count(&books.cuts), count(&books.goaways));
    assert_eq!(goaways, cuts, "every stream that was ended was told so");
    println!(
        "{} restarts in {took:.1?}, {subscribers} subscribers: {totals:?}, {} connections, {cuts} streams ended, \
         {} times busy, {} publishes tried again; {accepted} connections accepted, {paused} waits for the rate",
        ROUNDS * servers.len(),
        count(&connections),
        count(&books.busy),
        count(&books.failed_publishes),
    );
}
