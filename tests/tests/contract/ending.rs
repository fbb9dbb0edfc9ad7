//! How a stream ends.

use std::collections::HashSet;
use std::time::{Duration, Instant};

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{End, Subscription};
use tokio::task::JoinSet;

use crate::events_of;

const EXIT_MAX: Duration = Duration::from_secs(20);

fn options() -> Options {
    Options::memory().set("shutdown.drain", "300ms").set("sse.retry_min", "1s").set("sse.retry_max", "2s")
}

#[tokio::test]
async fn a_shutdown_tells_clients_to_go_elsewhere_and_ends_cleanly() {
    let mut server = Evergate::start(options()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut streams = Vec::new();
    for _ in 0..5 {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        stream.opened().await;
        streams.push(stream);
    }
    let request = Request::get(&events_of("s")).http10();
    let mut old = Subscription::request(server.http(), &request).await;
    old.opened().await;
    streams.push(old);
    publisher.publish("s", event("last words")).await;

    server.terminate();
    for mut stream in streams {
        let (frames, end) = stream.end().await;
        let [words, goaway] = frames.as_slice() else { panic!("{frames:?}") };
        assert_eq!(words.data, "last words");
        assert_eq!(goaway.event.as_deref(), Some("evergate.goaway"));
        assert!((1000..=2000).contains(&goaway.retry.expect("a retry")), "{goaway:?}");
        assert!(goaway.json()["reason"].as_str().is_some_and(|why| !why.is_empty()), "{goaway:?}");
        assert_eq!(goaway.id, None, "the client's own position stands");
        assert_eq!(end, End::Clean);
    }
    let status = server.ended(EXIT_MAX).await;
    assert_eq!(status.code(), Some(0), "{}", server.output());
}

/// The pace of a drain: streams are told to go one after the other, in no order that a crowd could follow, each with
/// a pause of its own.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_drain_tells_streams_to_go_at_its_pace_and_in_no_order() {
    const STREAMS: usize = 200;
    /// 100 a second, so two seconds, of which no half may have much more than its quarter of the streams.
    const SPREAD: Duration = Duration::from_millis(1_500);
    const PART: Duration = Duration::from_millis(500);
    const IN_A_PART_MAX: usize = 110;
    let mut server = Evergate::start(options().set("shutdown.pace", "100")).await;
    let mut streams = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        stream.opened().await;
        streams.push(stream);
    }
    let mut waiting = JoinSet::new();
    for (opened, mut stream) in streams.into_iter().enumerate() {
        waiting.spawn(async move {
            let goaway = stream.control("evergate.goaway").await;
            let told = (Instant::now(), opened, goaway.retry.expect("a retry"));
            assert_eq!(stream.end().await, (Vec::new(), End::Clean));
            told
        });
    }
    server.terminate();
    let mut told = Vec::new();
    while let Some(one) = waiting.join_next().await {
        told.push(one.expect("every stream is told"));
    }
    told.sort();
    let at: Vec<_> = told.iter().map(|(at, ..)| *at).collect();
    let spread = at[STREAMS - 1].duration_since(at[0]);
    assert!(spread >= SPREAD, "all within {spread:?}");
    for (n, from) in at.iter().enumerate() {
        let together = at[n..].iter().take_while(|other| other.duration_since(*from) < PART).count();
        assert!(together <= IN_A_PART_MAX, "{together} within {PART:?}");
    }
    // By chance each follows the one that was opened before it in half of the cases.
    let in_order = told.windows(2).filter(|pair| pair[0].1 < pair[1].1).count();
    assert!((STREAMS / 4..STREAMS * 3 / 4).contains(&in_order), "{in_order} in the order of their opening");
    let retries: HashSet<_> = told.iter().map(|(_, _, retry)| *retry).collect();
    assert!(retries.iter().all(|retry| (1_000..=2_000).contains(retry)), "{retries:?}");
    assert!(retries.len() > STREAMS / 2, "{} pauses for {STREAMS} streams", retries.len());
    assert_eq!(server.ended(EXIT_MAX).await.code(), Some(0), "{}", server.output());
}

/// What is late is named, with what it still holds, and the process says that it did not end as it should.
#[tokio::test]
async fn a_phase_that_is_late_is_named_with_what_it_holds() {
    let mut server = Evergate::start(options().set("shutdown.deadline", "400ms")).await;
    let mut connection = Connection::open(server.http()).await;
    connection.send(&Request::get(&events_of("s"))).await;
    connection.read_head().await;
    // It never closes, and a client has a second for that.
    server.terminate();
    server.ended(EXIT_MAX).await;
    let output = server.output();
    let late = output.lines().find(|line| line.contains("shutdown phase late"));
    let late = late.unwrap_or_else(|| panic!("nothing is said to be late: {output}"));
    assert!(late.contains("end streams") && late.contains("1 streams, "), "{late}");
    assert!(output.contains("ended clean=false"), "{output}");
}

#[tokio::test]
async fn who_was_let_in_before_a_shutdown_is_answered() {
    let mut server = Evergate::start(options()).await;
    let mut silent = Connection::open(server.http()).await;
    // Accepted after it.
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    server.terminate();
    stream.end().await;
    silent.send(&Request::get("/nothing")).await;
    assert_eq!(silent.read_head().await.status, 404);
    let status = server.ended(EXIT_MAX).await;
    assert_eq!(status.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn a_client_that_does_not_close_holds_up_no_shutdown() {
    let mut server = Evergate::start(options()).await;
    let mut connection = Connection::open(server.http()).await;
    connection.send(&Request::get(&events_of("s"))).await;
    connection.read_head().await;
    server.terminate();
    let status = server.ended(EXIT_MAX).await;
    assert_eq!(status.code(), Some(0), "{}", server.output());
    assert!(connection.closed().await, "an orderly end, not a reset");
}

#[tokio::test]
async fn a_client_that_takes_a_clean_end_as_final_can_ask_for_another() {
    let mut server = Evergate::start(options()).await;
    let target = events_of("s") + "?end=abort";
    let mut stream = Subscription::open(server.http(), &target).await;
    stream.opened().await;
    server.terminate();
    let (frames, end) = stream.end().await;
    assert_eq!(frames.len(), 1, "{frames:?}");
    assert_eq!(end, End::Cut, "without the last chunk");
    assert_eq!(server.ended(EXIT_MAX).await.code(), Some(0));
}

#[tokio::test]
async fn a_second_word_to_end_is_no_crash() {
    let mut server = Evergate::start(options()).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    server.terminate();
    server.terminate();
    let status = server.ended(EXIT_MAX).await;
    assert!(status.code().is_some(), "ended by itself: {status}");
}

#[tokio::test]
async fn a_cut_resets_one_connection_and_no_other() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut cut = Subscription::open(server.http(), &events_of("s")).await;
    let mut other = Subscription::open(server.http(), &events_of("s")).await;
    let connection = cut.opened().await.connection;
    other.opened().await;

    let answer = call(server.http(), Request::new("POST", &format!("/dev/cut/{connection}"))).await;
    assert_eq!(answer.status(), 204);
    assert_eq!(cut.end().await, (Vec::new(), End::Cut));
    publisher.publish("s", event("still here")).await;
    assert_eq!(other.event().await.data, "still here");

    let again = Request::new("POST", &format!("/dev/cut/{connection}"));
    call(server.http(), again).await.problem(404);
    call(server.http(), Request::new("POST", "/dev/cut/nonsense")).await.problem(404);
}

/// The way of an operator: `evergate drain`, which a balancer learns of before it meets a closed port.
#[tokio::test]
async fn a_drain_is_announced_before_anything_closes() {
    let mut server = Evergate::start(options().set("shutdown.grace", "1500ms")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut before = Subscription::open(server.http(), &events_of("s")).await;
    before.opened().await;
    let admin = server.admin().to_string();
    let drain = tokio::process::Command::new(evergate_tests::process::binary())
        .args(["drain", "--yes", "--admin", &admin, "--wait", "20"])
        .output();
    let watch = async {
        // Unready first.
        while call(server.admin(), Request::get("/readyz")).await.status() == 200 {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        // And still taking whoever has not noticed.
        let mut late = Subscription::open(server.http(), &events_of("s")).await;
        late.opened().await;
        publisher.publish("s", event("last words")).await;
        for stream in [&mut before, &mut late] {
            let (frames, end) = stream.end().await;
            let [words, goaway] = frames.as_slice() else { panic!("{frames:?}") };
            assert_eq!(
                (words.data.as_str(), goaway.event.as_deref()),
                ("last words", Some("evergate.goaway"))
            );
            assert_eq!(end, End::Clean);
        }
    };
    let (drained, ()) = tokio::join!(drain, watch);
    let drained = drained.expect("it ran");
    assert!(drained.status.success(), "{}", String::from_utf8_lossy(&drained.stderr));
    assert!(String::from_utf8_lossy(&drained.stdout).contains("has ended"), "{drained:?}");
    assert_eq!(server.ended(EXIT_MAX).await.code(), Some(0), "{}", server.output());
}

#[tokio::test]
async fn a_drain_that_nobody_confirms_does_nothing() {
    let server = Evergate::start(options()).await;
    let admin = server.admin().to_string();
    for (arguments, told) in [
        (vec!["drain", "--admin", &admin], "--yes"),
        (vec!["drain", "--yes", "--admin", "127.0.0.1:1"], "cannot be asked"),
    ] {
        let output = tokio::process::Command::new(evergate_tests::process::binary())
            .args(&arguments)
            .stdin(std::process::Stdio::null())
            .output()
            .await
            .expect("it ran");
        assert!(!output.status.success());
        assert!(String::from_utf8_lossy(&output.stderr).contains(told), "{output:?}");
    }
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);
}

/// A supervisor that drains a process first sends it a signal all the same.
#[tokio::test]
async fn a_signal_after_a_drain_is_no_second_one() {
    let mut server = Evergate::start(options().set("shutdown.grace", "1s")).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    let request = Request::post("/drain", "text/plain", "").header("evergate-admin", "drain");
    assert_eq!(call(server.admin(), request).await.status(), 202);
    while call(server.admin(), Request::get("/readyz")).await.status() == 200 {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    server.terminate();
    let (frames, end) = stream.end().await;
    assert_eq!(frames.last().and_then(|frame| frame.event.as_deref()), Some("evergate.goaway"));
    assert_eq!(end, End::Clean);
    assert_eq!(server.ended(EXIT_MAX).await.code(), Some(0), "{}", server.output());
}
