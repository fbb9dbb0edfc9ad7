//! More connections than can be served: they wait, they are told, and nothing else suffers.

use std::time::{Duration, Instant};

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use rustix::process::{Pid, Resource, Rlimit, getrlimit, prlimit};
use tokio::task::JoinSet;

use crate::{events_of, metric, until_counted, until_metric};
use evergate_tests::PATIENCE;

const PAUSES: &str = "evergate_accept_pauses_total";

fn route() -> Request {
    Request::get("/v1/route")
}

#[tokio::test]
async fn those_who_ask_nothing_hold_up_others_only_for_a_while() {
    let options = Options::memory().set("limits.pending_max", "2").set("http.head_timeout", "1s");
    let server = Evergate::start(options).await;
    // Whoever has asked is no longer waited for.
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        stream.opened().await;
        held.push(stream);
    }
    let mut silent = [Connection::open(server.http()).await, Connection::open(server.http()).await];
    // It waits, is not reset, and is served when the silent ones are let go.
    assert_eq!(call(server.http(), route()).await.status(), 200);
    assert!(metric(&server, PAUSES, "pending").await >= 1.0);
    for connection in &mut silent {
        connection.closed().await;
    }
    assert!(metric(&server, "evergate_connections_refused_total", "head-timeout").await >= 1.0);
}

#[tokio::test]
async fn an_address_that_asks_nothing_cannot_hold_up_the_others() {
    let options = || {
        Options::memory()
            .set("limits.pending_max", "4")
            .set("limits.pending_per_address", "2")
            .set("http.head_timeout", "5m")
    };
    let server = Evergate::start(options()).await;
    // Never more than two of them, so nobody else ever waits; asking gives the place back.
    let mut silent = [Connection::open(server.http()).await, Connection::open(server.http()).await];
    for _ in 0..5 {
        Connection::open(server.http()).await.closed().await;
    }
    assert!(metric(&server, "evergate_connections_refused_total", "pending-of-address").await >= 5.0);
    assert!(metric(&server, PAUSES, "pending").await < 0.5);
    let [first, _second] = &mut silent;
    assert_eq!(first.call(&route()).await.status(), 200);
    let mut held = Vec::new();
    for _ in 0..5 {
        let mut connection = Connection::open(server.http()).await;
        assert_eq!(connection.call(&route()).await.status(), 200);
        held.push(connection);
    }

    // A proxy is many clients.
    let server = Evergate::start(options().set("http.trusted_proxies", "127.0.0.1")).await;
    let _silent = [0; 3].map(|_| std::net::TcpStream::connect(server.http()).expect("it listens"));
    assert_eq!(call(server.http(), route()).await.status(), 200);
}

/// Whatever they carry: nothing, requests, or a stream that the engine has.
#[tokio::test]
async fn an_address_has_its_connections_and_no_more() {
    let server = Evergate::start(Options::memory().set("limits.connections_per_address", "3")).await;
    let mut stream = Subscription::open(server.http(), &events_of("s")).await;
    stream.opened().await;
    let mut asks = Connection::open(server.http()).await;
    assert_eq!(asks.call(&route()).await.status(), 200);
    let silent = Connection::open(server.http()).await;
    for _ in 0..3 {
        Connection::open(server.http()).await.closed().await;
    }
    assert!(metric(&server, "evergate_connections_refused_total", "connections-of-address").await >= 3.0);
    assert_eq!(asks.call(&route()).await.status(), 200, "those that are in stay");
    drop((silent, stream));
    let until = Instant::now() + PATIENCE;
    loop {
        let mut again = Connection::open(server.http()).await;
        if again.try_call(&route()).await.is_ok_and(|answer| answer.status() == 200) {
            break;
        }
        assert!(Instant::now() < until, "no place was given back");
    }
}

#[tokio::test]
async fn an_http2_connection_that_asks_nothing_is_let_go_too() {
    let options = Options::memory().set("limits.pending_max", "1").set("http.head_timeout", "500ms");
    let server = Evergate::start(options).await;
    let mut silent = Connection::open(server.http()).await;
    // The preface and empty settings.
    silent.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    assert_eq!(call(server.http(), route()).await.status(), 200);
    silent.closed().await;
}

#[tokio::test]
async fn an_http2_connection_without_a_stream_is_closed_when_idle() {
    let server = Evergate::start(Options::memory().set("http.idle_timeout", "1s")).await;
    let mut client = evergate_tests::http2::Client::open(server.http()).await;
    let mut stream = Subscription::over_http2(&mut client, &events_of("s"), &[]).await;
    stream.opened().await;
    tokio::time::sleep(Duration::from_secs(3)).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("still here")).await;
    assert_eq!(stream.event().await.data, "still here", "a stream is of use, however quiet");
    drop(stream);
    until_metric(&server, "evergate_connections_open", "", 0.0, PATIENCE).await;
}

#[tokio::test]
async fn a_storm_of_connects_is_taken_at_the_pace_that_is_set_and_nobody_is_refused() {
    const CLIENTS: u32 = 60;
    const RATE: u32 = 20;
    let server = Evergate::start(Options::memory().set("limits.accepts_per_second", &RATE.to_string())).await;
    let begun = Instant::now();
    let mut clients = JoinSet::new();
    for _ in 0..CLIENTS {
        let at = server.http();
        clients.spawn(async move { call(at, route()).await.status() });
    }
    while let Some(status) = clients.join_next().await {
        assert_eq!(status.expect("answered, not reset"), 200);
    }
    // A burst at once and the one that was let in before anybody came, the others one by one.
    let least = Duration::from_secs(1) * (CLIENTS - RATE - 1) / RATE;
    assert!(begun.elapsed() >= least, "{:?} for {CLIENTS} at {RATE} a second", begun.elapsed());
    assert!(metric(&server, PAUSES, "rate").await >= 1.0);
}

#[tokio::test]
async fn whatever_clients_take_the_rest_of_the_process_keeps_its_descriptors() {
    // Of 256 a quarter is not for clients, and of what is, an eighth only for being told so.
    const STREAMS: usize = 168;
    const TOLD: usize = 24;
    let options = Options::memory().launched_by(&["prlimit", "--nofile=256:256"]);
    let server = Evergate::start(options).await;
    let mut held = Vec::new();
    for _ in 0..STREAMS {
        let mut stream = Subscription::open(server.http(), &events_of("s")).await;
        stream.opened().await;
        held.push(stream);
    }
    let mut refused = Subscription::open(server.http(), &events_of("s")).await;
    let busy = refused.frame().await;
    assert_eq!(busy.event.as_deref(), Some("evergate.busy"));
    assert_eq!(busy.json()["reason"], "full");
    let plain = call(server.http(), Request::get(&(events_of("s") + "?errors=http"))).await;
    plain.problem(503);
    assert!(plain.head.header("retry-after").is_some(), "{plain:?}");
    drop(refused);
    until_metric(&server, "evergate_streams_open", "", 168.0, PATIENCE).await;

    // Every place is taken by whoever asks nothing. The next one waits.
    let mut silent = Vec::new();
    for _ in 0..TOLD + 5 {
        silent.push(Connection::open(server.http()).await);
    }
    until_counted(&server, PAUSES, "connections").await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("all the same")).await;
    for stream in &mut held {
        assert_eq!(stream.event().await.data, "all the same");
    }
    drop(silent);
    assert_eq!(call(server.http(), route()).await.status(), 200);
}

#[tokio::test]
async fn without_descriptors_connections_wait_and_the_process_rests() {
    let server = Evergate::start(Options::memory()).await;
    let pid = Pid::from_raw(i32::try_from(server.pid()).expect("a pid")).expect("above zero");
    let (mut admin, mut stream) =
        (Connection::open(server.admin()).await, Subscription::open(server.http(), &events_of("s")).await);
    stream.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    // It is connected before it was accepted; this is answered after that.
    publisher.publish("other", event("first")).await;
    let pauses = async |admin: &mut Connection| {
        let page = admin.call(&Request::get("/metrics")).await;
        let line = page.text().lines().find(|line| line.starts_with(PAUSES) && line.contains("descriptors"));
        line.map_or(0.0, |line| line.rsplit_once(' ').expect("a value").1.parse::<f64>().expect("a number"))
    };
    assert!(pauses(&mut admin).await < 1.0);

    // From now on no descriptor can be had.
    let set = |current| {
        let maximum = getrlimit(Resource::Nofile).maximum;
        prlimit(Some(pid), Resource::Nofile, Rlimit { current: Some(current), maximum })
            .expect("our own child");
    };
    set(1);
    let mut waiting = Connection::open(server.http()).await;
    waiting.send(&route()).await;
    let begun = Instant::now();
    while pauses(&mut admin).await < 5.0 {
        assert!(begun.elapsed() < PATIENCE, "the want of descriptors was never counted");
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    let counted = pauses(&mut admin).await;
    let rests = begun.elapsed().as_secs_f64() / 0.1;
    assert!(counted <= rests + 2.0, "{counted} attempts in {:?} is spinning", begun.elapsed());
    assert_eq!(server.output().matches("no connection can be accepted").count(), 1, "said once");
    // Whoever is connected notices nothing.
    publisher.publish("s", event("x")).await;
    assert_eq!(stream.event().await.data, "x");

    set(200);
    assert_eq!(waiting.read_response(false).await.status(), 200, "it waited and was not reset");
    server.writes("connections are accepted again").await;
}
