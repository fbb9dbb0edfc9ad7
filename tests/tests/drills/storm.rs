//! An edge dies with all its streams beside another one that has as many of its own.
//!
//! ```text
//!   EVERGATE_STORM_SUBSCRIBERS=8000 cargo test --release -p evergate-tests --test drills -- storm --nocapture
//! ```
//! after `cargo build --release --workspace`.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evergate_tests::ledger::{Demands, Ledger, Traffic};
use evergate_tests::left_out::say;
use evergate_tests::offset::Offset;
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::{PATIENCE, size};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

use crate::crowd::{Crowd, Page, Scene, text};
use crate::figures::Figures;

/// Of each edge; more by `EVERGATE_STORM_SUBSCRIBERS`.
const SUBSCRIBERS: usize = 3_000;
/// From so many on the figures are judged: fewer say nothing.
const JUDGED_FROM: usize = 8_000;
/// So many connect at the same time at first: the storm is to come later.
const ARRIVE_TOGETHER: usize = 200;
const PUBLISH_EVERY: Duration = Duration::from_millis(400);
/// The calm that the storm is compared with, and the storm: as long, so that as much is published.
const WINDOW: Duration = Duration::from_secs(8);
/// The last who came back did so within this.
const BACK_MAX: Duration = Duration::from_secs(6);
/// However slow the machine, this is enough.
const CATCH_UP_MAX: Duration = Duration::from_secs(90);

/// How many subscribers an edge can have within this process's descriptors.
fn subscribers() -> usize {
    let wanted = size::of("EVERGATE_STORM_SUBSCRIBERS", SUBSCRIBERS);
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let fit = maximum.map_or(wanted, |limit| usize::try_from(limit).unwrap_or(usize::MAX) / 2 - 250);
    if fit < wanted {
        say(&format!("only {fit} of {wanted} subscribers at each edge: too few descriptors\n"));
    }
    fit.min(wanted)
}

async fn until(crowds: &mut [&mut Crowd], what: &str, within: Duration, mut done: impl FnMut() -> bool) {
    let deadline = Instant::now() + within;
    while !done() {
        assert!(Instant::now() < deadline, "not within {within:?}: {what}");
        tokio::time::sleep(Duration::from_millis(10)).await;
        crowds.iter_mut().for_each(|crowd| crowd.check());
    }
}

/// An event, where it stands, and when it was sent.
type Published = (String, Offset);

async fn publish(publisher: Publisher, scene: Arc<Scene>, stop: Arc<AtomicBool>) -> Vec<Published> {
    let mut published = Vec::new();
    while !stop.load(Ordering::Relaxed) {
        let text = text(published.len(), scene.now());
        let at = publisher.publish("s", event(text.as_str())).await;
        published.push((text, at));
        tokio::time::sleep(PUBLISH_EVERY).await;
    }
    published
}

/// How late events came that were sent within a time.
fn latencies<'a>(pages: impl IntoIterator<Item = &'a Page>, from: u64, until: u64) -> Figures {
    let receipts = pages.into_iter().flat_map(|page| &page.received);
    let within = receipts.filter(|receipt| (from..until).contains(&receipt.sent));
    Figures::of(within.map(|receipt| receipt.came - receipt.sent))
}

fn load() -> String {
    std::fs::read_to_string("/proc/loadavg").map_or("unknown".to_owned(), |load| load.trim().to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_streams_of_a_killed_edge_come_back_to_one_that_has_its_own() {
    const TEST: &str = "the_streams_of_a_killed_edge_come_back_to_one_that_has_its_own";
    let each = subscribers();
    let Some(redis) = RedisServer::start(TEST, Keeps::Everything).await else { return };
    let edge = |node| {
        let options = redis.options().set("node", node).set("http.connections_max", "18000");
        Evergate::start(options.set("sse.retry_min", "500ms").set("sse.retry_max", "1500ms"))
    };
    let (mut doomed, survivor) = (edge("doomed").await, edge("survivor").await);
    let scene = Scene::new();
    let mut crowds = [Crowd::new(), Crowd::new()];
    let [staying, moving] = &mut crowds;
    for n in 0..each {
        staying.join(&scene, format!("own-{n}"), survivor.http(), survivor.http());
        moving.join(&scene, format!("moved-{n}"), doomed.http(), survivor.http());
        if (n + 1) % (ARRIVE_TOGETHER / 2) == 0 || n + 1 == each {
            let all = || scene.live.load(Ordering::Relaxed) == 2 * (n + 1);
            until(&mut [&mut *staying, &mut *moving], "they all listen", PATIENCE, all).await;
        }
    }
    let stop = Arc::<AtomicBool>::default();
    let publisher = Publisher::connect(survivor.grpc()).await;
    let publishing = tokio::spawn(publish(publisher, Arc::clone(&scene), Arc::clone(&stop)));
    let window = u64::try_from(WINDOW.as_micros()).expect("seconds");
    tokio::time::sleep(WINDOW).await;

    doomed.kill();
    let killed = scene.now();
    let all = || scene.live.load(Ordering::Relaxed) == 2 * each && scene.now() >= killed + window;
    until(&mut [staying, moving], "everybody is back", CATCH_UP_MAX, all).await;
    stop.store(true, Ordering::Relaxed);
    let published = publishing.await.expect("every event was taken");
    // What was lost never comes: then the ledger says which it was.
    let owed = published.len() * 2 * each;
    let _ = tokio::time::timeout(CATCH_UP_MAX, async {
        while scene.received.load(Ordering::Relaxed) < owed {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    })
    .await;
    let [staying, moving] = crowds;
    let (own, moved) = (staying.end().await, moving.end().await);

    let mut ledger = Ledger::new();
    ledger.injected();
    for (text, at) in &published {
        ledger.attempted("s", text);
        ledger.acknowledged("s", *at, text);
    }
    own.iter().chain(&moved).for_each(|page| page.tell(&mut ledger));
    let traffic = Traffic { acknowledged: 10, received: owed };
    let totals = ledger.judge_run(Demands { traffic, resumes: each, injected: 1 }).expect_sound();

    assert!(own.iter().all(|page| page.opened.len() == 1), "nobody else was cut");
    assert!(moved.iter().all(|page| page.opened.len() == 2), "and nobody twice");
    let back = Figures::of(moved.iter().map(|page| page.opened[1].1 - killed));
    let before = latencies(&own, killed - window, killed);
    let after = latencies(&own, killed, killed + window);
    println!(
        "{each} moved to an edge with {each} of its own: {totals:?}, 0 lost, 0 doubled\n\
         back after the kill:          {back}\n\
         the survivor's own, before:   {before}\n\
         the survivor's own, during:   {after}\n\
         {} times busy, {} connects that failed or broke; load average {}",
        scene.busy.load(Ordering::Relaxed),
        scene.failed.load(Ordering::Relaxed),
        load(),
    );
    let back_max = u64::try_from(BACK_MAX.as_micros()).expect("seconds");
    assert!(back.permille(990) <= back_max, "{back}");
    if each >= JUDGED_FROM {
        assert!(after.permille(990) <= 2 * before.permille(990), "{before}, then {after}");
    }
}
