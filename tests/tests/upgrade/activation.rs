//! Listeners that somebody else holds, as systemd does: who connects while no process is there waits,
//! and is answered.

use std::net::TcpListener;
use std::os::fd::{AsRawFd as _, OwnedFd};

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use rustix::io::{FdFlags, fcntl_dupfd_cloexec, fcntl_setfd};

/// A descriptor above all that a shell uses for itself.
const ABOVE: i32 = 60;

/// A listener that a child inherits.
fn inherited() -> (TcpListener, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    let handle = fcntl_dupfd_cloexec(&listener, ABOVE).expect("there are free descriptors");
    fcntl_setfd(&handle, FdFlags::empty()).expect("it is ours");
    (listener, handle)
}

/// What systemd does before it executes a service: the sockets from descriptor 3 on, and their names.
fn activated(options: Options, handles: &[OwnedFd], names: &str) -> Options {
    let mut script = String::new();
    for (n, handle) in (3..).zip(handles) {
        let from = handle.as_raw_fd();
        script += &format!("exec {n}<&{from} {from}<&-; ");
    }
    script += &format!("LISTEN_PID=$$ LISTEN_FDS={} LISTEN_FDNAMES={names} exec \"$@\"", handles.len());
    options.launched_by(&["bash", "-c", &script, "bash"])
}

#[tokio::test]
async fn a_restart_under_socket_activation_refuses_nobody() {
    let (listeners, handles): (Vec<_>, Vec<_>) = (0..3).map(|_| inherited()).unzip();
    let [http, grpc, admin] = [0, 1, 2].map(|n: usize| listeners[n].local_addr().expect("it is bound"));
    let options = Options::disk().set("shutdown.drain", "100ms");
    let mut server = Evergate::start(activated(options, &handles, "http:grpc:admin")).await;
    assert_eq!([server.http(), server.grpc(), server.admin()], [http, grpc, admin], "by their names");
    Publisher::connect(grpc).await.publish("s", event("before")).await;
    assert_eq!(call(admin, Request::get("/readyz")).await.status(), 200);

    server.terminate();
    assert_eq!(server.ended(PATIENCE).await.code(), Some(0), "{}", server.output());
    // Nobody is there, and still nobody is refused.
    let mut waiting = Connection::open(http).await;
    waiting.send(&Request::get("/v1/streams/s/events?from=earliest")).await;
    server.restart().await;
    let mut stream = Subscription::over(waiting).await.expect("who waited is answered");
    stream.opened().await;
    assert_eq!(stream.events(1).await[0].data, "before", "the log is the old one's");
    Publisher::connect(grpc).await.publish("s", event("after")).await;
    assert_eq!(stream.events(1).await[0].data, "after");
}

#[tokio::test]
async fn sockets_without_the_right_names_are_refused_in_a_sentence() {
    let handles = [inherited().1, inherited().1];
    for (names, expected) in [
        ("http", "systemd hands over 2 sockets with 1 names"),
        ("http:https", "\"https\" is no name of a listener"),
        ("http:http", "there are two listeners named http"),
    ] {
        let said = Evergate::refusal(activated(Options::memory(), &handles, names)).await;
        assert!(said.contains(expected), "{names}: {said}");
    }
}
