//! What an idle event stream over HTTP/2 costs.

use evergate_tests::PATIENCE;
use evergate_tests::http2::{Client, Incoming};
use evergate_tests::process::{Evergate, Options};

use crate::{events_of, until_metric};

const STREAMS: usize = 100;

/// Opens connections with a hundred streams each.
async fn open(server: &Evergate, connections: usize) -> Vec<(Client, Vec<Incoming>)> {
    let mut all = Vec::new();
    for _ in 0..connections {
        let mut client = Client::open(server.http()).await;
        let mut streams = Vec::new();
        for _ in 0..STREAMS {
            let (head, mut body) = client.get(&events_of("s"), &[]).await;
            assert_eq!(head.status, 200);
            assert!(body.read(&mut Vec::new(), PATIENCE).await.expect("the first frame"));
            streams.push(body);
        }
        all.push((client, streams));
    }
    all
}

/// User memory of the process per stream, connections included, told apart from what it has anyway by
/// two numbers of connections.
#[tokio::test]
async fn an_idle_stream_costs_less_than_two_kilobytes() {
    let server = Evergate::start(Options::memory()).await;
    let mut held = open(&server, 10).await;
    let before = server.resident_bytes();
    held.extend(open(&server, 60).await);
    until_metric(&server, "evergate_streams_open", "", 7_000.0, PATIENCE).await;
    let each = (server.resident_bytes() - before) / (60 * STREAMS) as u64;
    println!("{each} bytes for each idle event stream over HTTP/2, {STREAMS} on a connection");
    assert!(each <= 2 << 10, "{each} bytes");
}
