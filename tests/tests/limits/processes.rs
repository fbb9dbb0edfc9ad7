//! Several processes on one port.

use std::collections::BTreeMap;

use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;

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
