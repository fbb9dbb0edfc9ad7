//! Several processes on one port.

use std::collections::BTreeMap;
use std::os::fd::OwnedFd;
use std::time::Duration;

use evergate_tests::http1::{Connection, Request};
use evergate_tests::left_out::left_out;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;
use rustix::net::sockopt;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags, pidfd_getfd, pidfd_open};
use tokio::net::TcpStream;

fn sharing(node: &str) -> Options {
    Options::memory().set("http.share_port", "true").set("node", node)
}

/// How many of these streams each process serves: a connection's id begins with its node.
async fn served(server: &Evergate, streams: usize) -> (Vec<Subscription>, BTreeMap<String, usize>) {
    let (mut open, mut by_node) = (Vec::new(), BTreeMap::new());
    for _ in 0..streams {
        let mut stream = Subscription::open(server.http(), "/v1/streams/s/events").await;
        let connection = stream.opened().await.connection;
        let node = connection.split('~').next().expect("a name").to_owned();
        *by_node.entry(node).or_default() += 1;
        open.push(stream);
    }
    (open, by_node)
}

#[tokio::test]
async fn processes_share_a_port_and_both_serve() {
    let one = Evergate::start(sharing("one")).await;
    let mut two = one.beside(sharing("two")).await.expect("the port is shared");
    assert_eq!(one.http(), two.http());
    assert_ne!(one.pid(), two.pid());
    let (open, by_node) = served(&one, 60).await;
    // The system throws a die for each: that all fall one way happens once in 2^59.
    assert!(by_node.len() == 2 && by_node.values().all(|streams| *streams > 0), "{by_node:?}");
    drop(open);
    // One that is left goes on alone.
    two.kill();
    let (_open, by_node) = served(&one, 10).await;
    assert_eq!(by_node, BTreeMap::from([("one".to_owned(), 10)]));
}

#[tokio::test]
async fn without_being_told_so_a_second_process_is_refused_the_port() {
    let one = Evergate::start(Options::memory()).await;
    let why = one.beside(Options::memory()).await.expect_err("the port is taken");
    assert!(why.contains("HTTP") && why.contains("in use"), "{why}");
}

#[tokio::test]
async fn a_congestion_algorithm_is_one_that_the_system_has() {
    // Every Linux has this one.
    let server = Evergate::start(Options::memory().set("http.congestion", "reno")).await;
    let (_open, by_node) = served(&server, 1).await;
    assert_eq!(by_node.len(), 1);
    let told = std::process::Command::new("ss")
        .args(["-tin", "state", "established", "sport", "="])
        .arg(format!(":{}", server.http().port()))
        .output()
        .expect("ss runs");
    let told = String::from_utf8_lossy(&told.stdout);
    assert!(told.contains(" reno "), "{told}");
    let why = Evergate::refusal(Options::memory().set("http.congestion", "fast")).await;
    assert!(why.contains("http.congestion"), "{why}");
}

/// The process's own end of a connection that it accepted: a second descriptor of the same socket. Why not, if the system
/// lets nobody look.
fn accepted(server: &Evergate, peer: std::net::SocketAddr) -> Result<OwnedFd, String> {
    let pid = Pid::from_raw(server.pid().cast_signed()).expect("it has one");
    let process = pidfd_open(pid, PidfdFlags::empty()).map_err(|error| format!("pidfd_open: {error}"))?;
    let held =
        std::fs::read_dir(format!("/proc/{}/fd", server.pid())).expect("our own child can be looked at");
    for entry in held {
        let name = entry.expect("it can be read").file_name();
        let number = name.to_str().and_then(|name| name.parse().ok()).expect("a number");
        let copy = match pidfd_getfd(&process, number, PidfdGetfdFlags::empty()) {
            Ok(copy) => copy,
            // Closed meanwhile.
            Err(rustix::io::Errno::BADF) => continue,
            Err(error) => return Err(format!("pidfd_getfd: {error}")),
        };
        let of = rustix::net::getpeername(&copy).ok().flatten();
        if of.and_then(|address| std::net::SocketAddr::try_from(address).ok()) == Some(peer) {
            return Ok(copy);
        }
    }
    panic!("{peer} was accepted by nobody");
}

/// What docs say of every connection, asked of the socket itself.
#[tokio::test]
async fn a_connection_is_asked_for_and_sends_at_once() {
    let server = Evergate::start(Options::memory().set("http.peer_timeout", "7s")).await;
    let stream = TcpStream::connect(server.http()).await.expect("the server accepts");
    let own = stream.local_addr().expect("it is connected");
    let mut connection = Connection::over(stream);
    connection.send(&Request::get("/v1/streams/s/events")).await;
    let mut open = Subscription::over(connection).await.expect("an answer");
    open.opened().await;
    let socket = match accepted(&server, own) {
        Ok(socket) => socket,
        Err(why) => return left_out("a_connection_is_asked_for_and_sends_at_once", &why),
    };
    assert_eq!(sockopt::tcp_nodelay(&socket), Ok(true));
    assert_eq!(sockopt::socket_keepalive(&socket), Ok(true));
    assert_eq!(sockopt::tcp_keepidle(&socket), Ok(Duration::from_secs(60)));
    assert_eq!(sockopt::tcp_keepintvl(&socket), Ok(Duration::from_secs(10)));
    assert_eq!(sockopt::tcp_keepcnt(&socket), Ok(3));
    assert_eq!(sockopt::tcp_user_timeout(&socket), Ok(7_000));
}
