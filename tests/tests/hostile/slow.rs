//! Connections that cost their owner nothing and hold what others need.

use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, over_tls};
use evergate_tests::figures::{metric, until_metric};
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use tokio_rustls::rustls::ClientConnection;

use crate::{ALIVE_WITHIN, EVENTS, GROWTH_MAX, during};

const HEAD_TIMEOUT: Duration = Duration::from_secs(1);
const CROWD: usize = 200;

async fn server() -> Evergate {
    let options = Options::memory().set("http.head_timeout", "1s").set("http.idle_timeout", "2s");
    Evergate::start(options).await
}

/// Waits until the server has hung up.
async fn hung_up(mut connection: Connection) -> Duration {
    let began = Instant::now();
    while let Ok(1..) = connection.read_more(Duration::from_secs(30)).await {}
    began.elapsed()
}

#[tokio::test]
async fn whoever_never_finishes_its_request_is_hung_up_on() {
    let server = server().await;
    during(&server, async {
        for beginning in ["", "G", "GET /v1/route HTTP/1.1\r\nHost: x\r\nX: ", "PRI * HT"] {
            let mut crowd = Vec::new();
            for _ in 0..CROWD / 4 {
                let mut connection = Connection::open(server.http()).await;
                connection.send_bytes(beginning.as_bytes()).await;
                crowd.push(connection);
            }
            for connection in crowd {
                assert!(hung_up(connection).await < HEAD_TIMEOUT * 15, "{beginning:?}");
            }
        }
    })
    .await;
}

/// A byte now and then, so that nothing that only waits for silence ever notices.
#[tokio::test]
async fn whoever_sends_a_byte_now_and_then_is_hung_up_on() {
    let server = server().await;
    during(&server, async {
        let mut crowd = Vec::new();
        for _ in 0..50 {
            let mut connection = Connection::open(server.http()).await;
            connection.send_bytes(b"GET /v1/route HTTP/1.1\r\nHost: x\r\n").await;
            crowd.push(connection);
        }
        let began = Instant::now();
        while !crowd.is_empty() {
            assert!(began.elapsed() < HEAD_TIMEOUT * 15, "{} still hold on", crowd.len());
            let mut left = Vec::new();
            for mut connection in crowd {
                // A broken connection takes no more, perhaps only at the second byte.
                if connection.try_send_bytes(b"X: y\r\n").await.is_ok() {
                    left.push(connection);
                }
            }
            crowd = left;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    })
    .await;
}

/// Handshakes that are begun and left: with nothing at all, in the middle of the first record, and after it, when the
/// server has done its part.
#[tokio::test]
async fn handshakes_that_are_never_finished_hold_up_nobody() {
    let authority = Authority::new();
    let options = Options::memory().set("tls.handshake_timeout", "1s").set("grpc.tls", "off");
    let server = Evergate::start(over_tls(options, &authority.sign("edge", &["localhost"]))).await;
    // What a client says first, as it is on the wire.
    let hello = hello(&authority);
    assert!(hello.len() > 100 && hello[0] == 0x16, "{hello:?}");
    // The witness of this one comes by TLS too.
    let open = async || {
        Connection::over(authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed"))
    };
    let mut witness = open().await;
    witness.send(&Request::get(EVENTS)).await;
    let mut witness = Subscription::over(witness).await.expect("answered");
    witness.opened().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let before = server.resident_bytes();
    for said in [0, 1, hello.len() / 2, hello.len()] {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut connection = Connection::open(server.http()).await;
            connection.send_bytes(&hello[..said]).await;
            crowd.push(connection);
        }
        publisher.publish("s", event(said.to_string())).await;
        assert_eq!(witness.data(1).await, [said.to_string()]);
        let alive = tokio::time::timeout(ALIVE_WITHIN, call(server.admin(), Request::get("/livez"))).await;
        assert_eq!(alive.expect("it is alive and says so").status(), 200);
        let answer = open().await.call(&Request::get("/v1/route")).await;
        assert_eq!(answer.status(), 200, "whoever comes is served");
        let grown = server.resident_bytes().saturating_sub(before);
        assert!(grown <= GROWTH_MAX, "{grown} bytes more than before");
        for connection in crowd {
            assert!(hung_up(connection).await < HEAD_TIMEOUT * 15, "after {said} bytes");
        }
    }
    let timed_out = metric(&server, "evergate_connections_refused_total", "tls-timeout").await;
    assert!(timed_out >= CROWD as f64, "{timed_out}");
}

/// The first record of a client.
fn hello(authority: &Authority) -> Vec<u8> {
    let name = "localhost".try_into().expect("a name");
    let mut client =
        ClientConnection::new(Arc::new(authority.client(&["http/1.1"], None)), name).expect("a client");
    let mut hello = Vec::new();
    client.write_tls(&mut hello).expect("written");
    hello
}

/// Not even one that comes but for its end, and is held in memory until then.
#[tokio::test]
async fn a_body_that_never_comes_holds_up_nobody() {
    let server = server().await;
    let most = vec![b'x'; 150_000];
    during(&server, async {
        let mut crowd = Vec::new();
        for n in 0..CROWD {
            let mut connection = Connection::open(server.http()).await;
            let head = format!(
                "POST {EVENTS} HTTP/1.1\r\nHost: x\r\nContent-Type: text/plain\r\nContent-Length: 200000\r\n\r\nx"
            );
            connection.send_bytes(head.as_bytes()).await;
            if n % 2 == 0 {
                connection.send_bytes(&most).await;
            }
            crowd.push(connection);
        }
        for _ in 0..20 {
            let good = call(server.http(), Request::post("/v1/streams/t/events", "text/plain", "good")).await;
            assert_eq!(good.status(), 200);
        }
        drop(crowd);
    })
    .await;
}

/// All that a subscriber misses which reads nothing is one place in a log.
#[tokio::test]
async fn whoever_reads_nothing_costs_no_more_for_all_that_it_misses() {
    let options = Options::memory().set("retention.bytes", "1MiB");
    let server = Evergate::start(options).await;
    during(&server, async {
        let mut crowd = Vec::new();
        for _ in 0..CROWD {
            let mut connection = Connection::open(server.http()).await;
            let head = format!("GET {EVENTS} HTTP/1.1\r\nHost: x\r\n\r\n");
            connection.send_bytes(head.as_bytes()).await;
            crowd.push(connection);
        }
        until_metric(&server, "evergate_streams_open", "", CROWD as f64 + 1.0, PATIENCE).await;
        let publisher = Publisher::connect(server.grpc()).await;
        // 32 MiB for each, if anybody kept them.
        for _ in 0..64 {
            let events = (0..8).map(|_| event("x".repeat(64 << 10))).collect();
            publisher.try_batch("s", events).await.expect("the batch is taken");
        }
        drop(crowd);
    })
    .await;
}

/// Whoever opens thousands of connections and closes them at once leaves nothing behind.
#[tokio::test]
async fn connections_that_come_and_go_leave_nothing_behind() {
    let server = server().await;
    let before = server.descriptors();
    during(&server, async {
        for _ in 0..10 {
            let crowd = futures(CROWD, &server).await;
            drop(crowd);
        }
    })
    .await;
    let began = Instant::now();
    // The witness and its publisher may not be gone yet either.
    while server.descriptors() > before + 8 {
        assert!(began.elapsed() < Duration::from_secs(20), "{} before, {} now", before, server.descriptors());
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

async fn futures(count: usize, server: &Evergate) -> Vec<Connection> {
    let mut crowd = Vec::with_capacity(count);
    for _ in 0..count {
        crowd.push(Connection::open(server.http()).await);
    }
    crowd
}
