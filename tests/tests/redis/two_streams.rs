//! Two streams on one connection, cut at random and gone on with at the other gateway: one token is the exact
//! place in both.

use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use evergate_domain::{Cursor, StreamName, StreamSet};
use evergate_tests::ledger::{Demands, Ledger, Traffic};
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use tokio::task::JoinSet;

use crate::work::STREAMS;

const EVENTS: usize = 400;
const READERS: usize = 2;
/// Frames after which a reader is cut, at the most.
const CUT_AFTER_MAX: usize = 40;
const IN_TIME: Duration = Duration::from_secs(120);

#[derive(Default)]
struct Books {
    ledger: Mutex<Ledger>,
    cuts: AtomicUsize,
}

impl Books {
    fn ledger(&self) -> MutexGuard<'_, Ledger> {
        self.ledger.lock().expect("no one panicked with it")
    }
}

fn streams() -> StreamSet {
    StreamSet::new(STREAMS.map(|name| StreamName::new(name).expect("valid")).into()).expect("two")
}

/// The places in both streams that a token stands for, in the order of [`STREAMS`].
fn places(token: &str) -> [Offset; 2] {
    let cursor = Cursor::parse(&streams(), token).unwrap_or_else(|error| panic!("{token}: {error}"));
    let place = |at: usize| offset(&cursor.offsets()[at].to_string());
    [place(0), place(1)]
}

/// Each event by itself, at either gateway.
async fn publish(to: [Publisher; 2], stream: &'static str, mut random: fastrand::Rng, books: Arc<Books>) {
    for n in 0..EVENTS {
        let text = format!("{stream} {n}");
        books.ledger().attempted(stream, &text);
        let at = to[random.usize(0..2)].publish(stream, event(text.as_str())).await;
        books.ledger().acknowledged(stream, at, &text);
        if random.u32(0..4) == 0 {
            tokio::time::sleep(Duration::from_millis(random.u64(1..20))).await;
        }
    }
}

/// Reads both streams to their ends, a few frames at each gateway in turn.
async fn read(
    name: String,
    gateways: [std::net::SocketAddr; 2],
    mut random: fastrand::Rng,
    books: Arc<Books>,
) {
    let target = format!("/v1/events?stream={}&stream={}&from=earliest", STREAMS[0], STREAMS[1]);
    let (mut held, mut seen, mut turn) = (None::<String>, [0; 2], 0);
    while seen != [EVENTS; 2] {
        let gateway = gateways[turn % 2];
        turn += 1;
        let mut stream = match &held {
            None => Subscription::open(gateway, &target).await,
            Some(token) => Subscription::resume(gateway, &target, token).await,
        };
        let opened = stream.opened().await;
        for (stream, at) in STREAMS.iter().zip(places(&opened.cursor)) {
            if held.is_some() {
                books.ledger().resumed(&name, stream, at);
            } else {
                books.ledger().subscribed(&name, stream, at);
            }
        }
        if let Some(token) = &held {
            assert_eq!((opened.resume.as_str(), &opened.cursor), ("exact", token), "{name}");
            books.cuts.fetch_add(1, Ordering::Relaxed);
        }
        held = Some(opened.cursor);
        for _ in 0..random.usize(0..CUT_AFTER_MAX) {
            if seen == [EVENTS; 2] {
                break;
            }
            let frame = stream.event().await;
            let told = frame.json();
            let of = STREAMS.iter().position(|name| told["stream"] == *name).expect("one of the two");
            let token = frame.must_id().to_owned();
            let text = told["data"].as_str().expect("it is text");
            books.ledger().received(&name, STREAMS[of], places(&token)[of], text);
            seen[of] += 1;
            held = Some(token);
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_token_is_exact_in_both_streams_at_either_gateway() {
    const TEST: &str = "one_token_is_exact_in_both_streams_at_either_gateway";
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let seed = std::env::var("EVERGATE_SEED").ok().and_then(|seed| seed.parse().ok());
    let seed = seed.unwrap_or_else(|| fastrand::u64(..));
    println!("repeat with EVERGATE_SEED={seed} cargo test -p evergate-tests --test redis -- {TEST}");
    let mut random = fastrand::Rng::with_seed(seed);
    let servers = [Evergate::start(redis.options()).await, Evergate::start(redis.options()).await];
    let books = Arc::<Books>::default();
    let mut everybody = JoinSet::new();
    for stream in STREAMS {
        let to = [Publisher::connect(servers[0].grpc()).await, Publisher::connect(servers[1].grpc()).await];
        everybody.spawn(publish(to, stream, random.fork(), books.clone()));
    }
    for n in 0..READERS {
        let order = if n % 2 == 0 { [0, 1] } else { [1, 0] };
        let gateways = order.map(|at| servers[at].http());
        everybody.spawn(read(format!("reader-{n}"), gateways, random.fork(), books.clone()));
    }
    let done = tokio::time::timeout(IN_TIME, async {
        while let Some(one) = everybody.join_next().await {
            one.expect("nobody found anything wrong");
        }
    });
    done.await.unwrap_or_else(|_| panic!("not all of it comes: {:?}", books.ledger().totals()));
    let cuts = books.cuts.load(Ordering::Relaxed);
    let traffic = Traffic { acknowledged: 2 * EVENTS, received: 2 * EVENTS * READERS };
    let totals = books.ledger().judge_run(Demands { traffic, resumes: 2 * 30, injected: 0 }).expect_sound();
    println!("{cuts} cuts: {totals:?}");
}
