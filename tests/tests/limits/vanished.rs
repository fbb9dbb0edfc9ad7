//! Peers that vanish without a word: nothing they sent arrives any more, no end and no reset.

use std::time::{Duration, Instant};

use evergate_tests::cable::{Cable, End};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::http2::Client;
use evergate_tests::left_out::left_out;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;

use crate::{GAUGES, events_of, value_on};
use evergate_tests::PATIENCE;

const HEARTBEAT: Duration = Duration::from_secs(1);
const PEER_TIMEOUT: Duration = Duration::from_secs(3);
/// For the system to try once more after the time is up, and for a busy machine.
const SLACK: Duration = Duration::from_secs(5);
/// gRPC asks its peers every 15 s and waits 5 s for the answer.
const GRPC_BOUND: Duration = Duration::from_secs(20);

/// What the process holds, as far as the outside can see.
#[derive(Debug, Clone, PartialEq)]
struct Holds {
    gauges: Vec<f64>,
    descriptors: usize,
}

async fn holds(server: &Evergate, admin: &mut Connection) -> Holds {
    let page = admin.call(&Request::get("/metrics")).await;
    let gauges = GAUGES.iter().map(|name| value_on(page.text(), name, "")).collect();
    Holds { gauges, descriptors: server.descriptors() }
}

#[tokio::test]
async fn peers_that_vanish_are_gone_from_every_table_within_a_known_time() {
    let cable = match Cable::lay() {
        Ok(cable) => cable,
        Err(why) => return left_out("peers_that_vanish_are_gone_from_every_table_within_a_known_time", &why),
    };
    let launcher = cable.launcher();
    let options = Options::memory()
        .listening_at(cable.address())
        .launched_by(&launcher.each_ref().map(String::as_str))
        .set("sse.heartbeat", &format!("{}s", HEARTBEAT.as_secs()))
        .set("http.peer_timeout", &format!("{}s", PEER_TIMEOUT.as_secs()))
        .set("http.idle_timeout", "2s");
    let server = Evergate::start(options).await;
    let far = |to| cable.connect(End::Far, to).expect("the cable works");
    let mut admin = Connection::over(cable.connect(End::Near, server.admin()).expect("a neighbour"));
    let before = holds(&server, &mut admin).await;

    let mut streams = Vec::new();
    let several = "/v1/events?stream=a&stream=b".to_owned();
    for n in 0..30 {
        let mut connection = Connection::over(far(server.http()));
        let request = match n % 3 {
            // Parked in a shard, a task of its own, and a body of the parser's.
            0 => Request::get(&events_of("s")),
            1 => Request::get(&several),
            _ => Request::get(&events_of("s")).http10(),
        };
        connection.send(&request).await;
        let mut stream = Subscription::over(connection).await.expect("an answer");
        stream.opened().await;
        streams.push(stream);
    }
    let mut http2 = Client::over(far(server.http()), "far").await;
    for target in [&events_of("s"), &several] {
        let mut stream = Subscription::over_http2(&mut http2, target, &[]).await;
        stream.opened().await;
        streams.push(stream);
    }
    let mut publishing = Connection::over(far(server.grpc()));
    // An HTTP/2 preface and empty settings: enough to be a connection.
    publishing.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut asked = Connection::over(far(server.http()));
    assert_eq!(asked.call(&Request::get("/v1/route")).await.status(), 200);
    let during = holds(&server, &mut admin).await;
    assert!(during.gauges[0] > 31.0 && during.descriptors >= before.descriptors + 32, "{during:?}");

    cable.cut();
    let cut = Instant::now();
    // What we close now is not heard of at the other end.
    drop((streams, http2, publishing, asked));
    let mut gone = None;
    loop {
        let now = holds(&server, &mut admin).await;
        if gone.is_none() && now.gauges[..4] == before.gauges[..4] {
            gone = Some(cut.elapsed());
        }
        if now == before {
            break;
        }
        assert!(cut.elapsed() < GRPC_BOUND + PATIENCE, "still held: {now:?}, before: {before:?}");
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    let gone = gone.expect("seen by the last look");
    assert!(gone >= PEER_TIMEOUT, "it was cut, not reset: {gone:?}");
    assert!(gone <= HEARTBEAT + PEER_TIMEOUT + SLACK, "subscribers were held for {gone:?}");
    assert!(cut.elapsed() <= GRPC_BOUND + SLACK, "a publisher was held for {:?}", cut.elapsed());
    println!("subscribers gone after {gone:?}, everything after {:?}", cut.elapsed());
}
