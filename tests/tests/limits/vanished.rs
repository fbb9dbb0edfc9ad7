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
use evergate_tests::offset::Offset;
use serde_json::json;

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

/// Publishes by the near end.
async fn publish(near: &mut Connection, data: &str) {
    let answer = near.call(&Request::post(&events_of("kept"), "text/plain", data)).await;
    assert_eq!(answer.status(), 200, "{}", answer.text());
}

/// Reads events of a client that acknowledges, and acknowledges one. Gives where that is.
async fn acknowledged(stream: &mut Subscription, connection: &str, near: &mut Connection) -> Offset {
    let offset = stream.events(3).await[1].offset();
    let body = json!({ "connection": connection, "cursor": offset.to_string() }).to_string();
    let answer = near.call(&Request::post("/v1/acks", "application/json", body)).await;
    assert_eq!(answer.status(), 204, "{}", answer.text());
    offset
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
    // Two whose places are kept, and who say how far they have come.
    let named = |name| format!("{}?client_id={name}&acks=1", events_of("kept"));
    let mut connection = Connection::over(far(server.http()));
    connection.send(&Request::get(&named("alone"))).await;
    let mut alone = Subscription::over(connection).await.expect("an answer");
    let mut among = Subscription::over_http2(&mut http2, &named("among"), &[]).await;
    let (of_alone, of_among) = (alone.opened().await.connection, among.opened().await.connection);
    let mut near = Connection::over(cable.connect(End::Near, server.http()).expect("a neighbour"));
    for data in ["1", "2", "3"] {
        publish(&mut near, data).await;
    }
    let at = [
        ("alone", acknowledged(&mut alone, &of_alone, &mut near).await),
        ("among", acknowledged(&mut among, &of_among, &mut near).await),
    ];
    drop(near);
    streams.extend([alone, among]);
    let mut publishing = Connection::over(far(server.grpc()));
    // An HTTP/2 preface and empty settings: enough to be a connection.
    publishing.send_bytes(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\x04\0\0\0\0\0").await;
    let mut asked = Connection::over(far(server.http()));
    assert_eq!(asked.call(&Request::get("/v1/route")).await.status(), 200);
    let during = holds(&server, &mut admin).await;
    assert!(during.gauges[0] > 33.0 && during.descriptors >= before.descriptors + 33, "{during:?}");

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
    // Their places are where they said.
    for (name, at) in at {
        let mut connection = Connection::over(cable.connect(End::Near, server.http()).expect("a neighbour"));
        connection.send(&Request::get(&named(name))).await;
        let mut back = Subscription::over(connection).await.expect("an answer");
        let opened = back.opened().await;
        assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", at.to_string()), "{name}");
        assert_eq!(back.data(1).await, ["3"], "{name}");
    }
    println!("subscribers gone after {gone:?}, everything after {:?}", cut.elapsed());
}
