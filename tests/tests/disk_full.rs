//! The log's disk runs full: publishers are told so, readers notice nothing, and it heals by itself.

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::left_out::left_out;
use evergate_tests::offset::Offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use evergate_tests::tiny_disk::TinyDisk;
use tokio::time::Instant;
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

const EVENTS: &str = "/v1/streams/s/events";
const DISK_MIB: u32 = 256;

fn text(n: u64) -> String {
    format!("{n} {}", "x".repeat(100_000))
}

/// Publishes until the disk is full. Returns how many were taken, and the refusal.
async fn publish_until_full(publisher: &Publisher, from: u64) -> (u64, Status) {
    // More than the disk could ever hold.
    let most = u64::from(DISK_MIB) * 11;
    for n in from..from + most {
        if let Err(status) = publisher.try_publish("s", event(text(n))).await {
            return (n - from, status);
        }
    }
    panic!("a disk of {DISK_MIB} MiB took {most} events of 100 KB");
}

async fn publish_once_there_is_room(publisher: &Publisher, text: &str) -> Offset {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match publisher.try_publish("s", event(text)).await {
            Ok(answer) => return evergate_tests::offset::offset(&answer.offset),
            Err(status) => {
                assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
                assert!(Instant::now() < deadline, "there is room again, but {status:?}");
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
        }
    }
}

async fn a_full_disk_is_survived(test: &str, reserve: &str, leave_mib: u64) {
    let disk = match TinyDisk::mount(DISK_MIB) {
        Ok(disk) => disk,
        Err(why) => return left_out(test, &why),
    };
    let launcher = disk.launcher();
    let options = Options::disk_at(&disk.path().join("log"))
        .set("disk.reserve_bytes", reserve)
        .launched_by(&launcher.each_ref().map(String::as_str));
    let mut server = Evergate::start(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut live = Subscription::open(server.http(), EVENTS).await;
    let start = live.opened().await.offset();

    disk.fill(leave_mib);
    let (taken, status) = publish_until_full(&publisher, 1).await;
    assert_eq!(status.code(), Code::ResourceExhausted, "{status:?}");
    assert!(!status.message().is_empty());
    let details = status.get_error_details();
    let delay = details.retry_info().and_then(|info| info.retry_delay);
    assert!(delay.is_some_and(|delay| !delay.is_zero()), "when to try again is told: {status:?}");

    let large = Request::post(EVENTS, "text/plain", text(0));
    let answer = call(server.http(), large).await;
    answer.problem(507);
    assert!(answer.head.must("retry-after").parse::<u64>().is_ok_and(|seconds| seconds > 0), "{answer:?}");

    // Live readers have everything that was acknowledged, new ones get it, and nothing more.
    for n in 1..=taken {
        let frame = live.event().await;
        assert_eq!(frame.offset(), start.plus(n));
        assert_eq!(frame.data, text(n));
    }
    let target = format!("{EVENTS}?from=earliest");
    let mut replay = Subscription::open(server.http(), &target).await;
    replay.opened().await;
    for n in 1..=taken {
        assert_eq!(replay.event().await.data, text(n), "replayed from a full disk");
    }

    disk.empty();
    let offset = publish_once_there_is_room(&publisher, "room").await;
    assert_eq!(offset, start.plus(taken + 1), "what was refused left no hole");
    for stream in [&mut live, &mut replay] {
        assert_eq!(stream.event().await.data, "room");
    }

    // Full once more, and killed while it is: what was acknowledged is still there.
    disk.fill(leave_mib);
    let (more, _) = publish_until_full(&publisher, taken + 2).await;
    server.kill();
    disk.empty();
    server.restart().await;
    let target = format!("{EVENTS}?from={offset}");
    let mut after = Subscription::open(server.http(), &target).await;
    after.opened().await;
    for n in 0..more {
        assert_eq!(after.event().await.data, text(taken + 2 + n));
    }
    let publisher = Publisher::connect(server.grpc()).await;
    publish_once_there_is_room(&publisher, "after").await;
    assert_eq!(after.event().await.data, "after");
}

#[tokio::test]
async fn publishing_stops_at_the_reserve() {
    a_full_disk_is_survived("publishing_stops_at_the_reserve", "32MiB", 64).await;
}

#[tokio::test]
async fn a_disk_that_is_really_full_is_survived() {
    a_full_disk_is_survived("a_disk_that_is_really_full_is_survived", "0", 24).await;
}
