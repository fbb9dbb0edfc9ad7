//! How a stream ends.

use std::time::Duration;

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::{End, Subscription};

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
