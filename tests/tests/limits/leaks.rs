//! Opened and abandoned, in every way and over and over: nothing stays behind.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evergate_tests::http1::{Connection, Request};
use evergate_tests::http2::Client;
use evergate_tests::left_out::say;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::{GAUGES, value_on};
use evergate_tests::PATIENCE;

/// As many as fit into the time.
const OPENS_MAX: usize = 200_000;
const TIME_MAX: Duration = Duration::from_secs(90);
/// As many as it is said that nothing is left of.
const OPENS_MIN: usize = 100_000;
/// At the same time.
const BATCH: usize = 500;
/// After these, memory that is kept for use again is about as large as it gets.
const WARM_UP: usize = 40 * BATCH;
/// How much more a process may have at the least moment of the second half than at that of the first:
/// what is kept for use again comes and goes. 100,000 leaks of 64 bytes are more.
const GROWTH_MAX: u64 = 6 << 20;

/// Opens a connection and abandons it, in one of seven ways.
async fn abandon(at: SocketAddr, n: usize) -> std::io::Result<()> {
    let stream = TcpStream::connect(at).await?;
    if n.is_multiple_of(2) {
        // Closing is then a reset, and no port is kept busy by it.
        stream.set_zero_linger()?;
    }
    if n % 7 == 5 {
        // A stream on a connection that could carry more, and that is to be pinged for.
        let mut client = Client::over(stream, "abandoned").await;
        let leased = format!("/v1/streams/s{}/events?lease=1", n % 97);
        Subscription::over_http2(&mut client, &leased, &[]).await.opened().await;
        return Ok(());
    }
    let mut connection = Connection::over(stream);
    // The same clients come again and again: the place of each is kept for a day, as promised.
    let (stream, key) = (n % 97, n % 31);
    let target = format!("/v1/streams/s{stream}/events?key=k{key}&client_id=c{stream}");
    match n % 7 {
        0 => {}
        1 => connection.try_send_bytes(b"GET /v1/streams/s/events HT").await?,
        // Asked, and gone before the answer.
        2 => connection.try_send_bytes(&Request::get(&target).encode()).await?,
        3 => connection.try_send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await?,
        4 => {
            connection.try_send_bytes(&Request::get(&target).encode()).await?;
            Subscription::over(connection).await?.opened().await;
        }
        _ => {
            let several = format!("/v1/events?stream=s{}&stream=t{}&from=-3", n % 97, n % 13);
            connection.try_send_bytes(&Request::get(&several).encode()).await?;
            Subscription::over(connection).await?.opened().await;
        }
    }
    Ok(())
}

async fn batch(at: SocketAddr, from: usize) {
    let mut all = JoinSet::new();
    for n in from..from + BATCH {
        all.spawn(abandon(at, n));
    }
    while let Some(one) = all.join_next().await {
        one.expect("nothing was wrong with an answer").expect("the server is there");
    }
}

/// The gauges and the descriptors, once they are what they were; or as they are after long enough.
async fn settled(server: &Evergate, admin: &mut Connection, expected: Option<&Vec<f64>>) -> Vec<f64> {
    let deadline = Instant::now() + PATIENCE;
    let mut before = Vec::new();
    loop {
        let page = admin.call(&Request::get("/metrics")).await;
        let mut now: Vec<f64> = GAUGES.iter().map(|name| value_on(page.text(), name, "")).collect();
        now.push(server.descriptors() as f64);
        let done = expected.map_or(now == before && now[0] < 0.5, |expected| now == *expected);
        if done || Instant::now() > deadline {
            return now;
        }
        before = now;
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn whatever_is_abandoned_leaves_nothing_behind() {
    let options = Options::memory()
        .set("limits.streams_per_address", "1000000")
        .set("limits.streams_per_client", "1000000")
        .set("limits.connects_per_second", "1000000")
        .set("limits.connects_burst", "1000000");
    let server = Evergate::start(options).await;
    let mut admin = Connection::open(server.admin()).await;
    let empty = settled(&server, &mut admin, None).await;
    let mut opened = 0;
    while opened < WARM_UP {
        batch(server.http(), opened).await;
        opened += BATCH;
    }
    assert_eq!(settled(&server, &mut admin, Some(&empty)).await, empty, "{GAUGES:?} and descriptors");

    let begun = Instant::now();
    let mut memory = Vec::new();
    while opened < OPENS_MAX && begun.elapsed() < TIME_MAX {
        for _ in 0..10 {
            batch(server.http(), opened).await;
            opened += BATCH;
        }
        memory.push(server.resident_bytes());
    }
    let took = begun.elapsed();
    assert_eq!(settled(&server, &mut admin, Some(&empty)).await, empty, "{GAUGES:?} and descriptors");
    let halves = memory.split_at(memory.len() / 2);
    let least = |half: &[u64]| half.iter().copied().min().unwrap_or(0);
    let grown = least(halves.1).saturating_sub(least(halves.0));
    let told = format!("{opened} opened and abandoned, the last in {took:?}; grown by {grown}: {memory:?}\n");
    assert!(opened >= OPENS_MIN, "{told}");
    assert!(grown <= GROWTH_MAX, "{told}");
    if opened < OPENS_MAX {
        say(&format!("not all of {OPENS_MAX}: {told}"));
    }
    println!("{told}");
}
