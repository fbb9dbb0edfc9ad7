//! Attacks over real sockets. During each the process says that it lives, a witness misses nothing, nobody is
//! told that the server is at fault, and memory grows by no more than is said here; after it, it is given back.

mod forged;
mod injection;
mod malformed;
mod random;
mod slow;

use std::cell::Cell;
use std::future::Future;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use tokio::time::timeout;

const EVENTS: &str = "/v1/streams/s/events";

/// How soon a supervisor is answered, whatever goes on.
const ALIVE_WITHIN: Duration = Duration::from_secs(1);

/// Events that the witness gets at least during an attack, however short that is.
const WITNESSED_MIN: usize = 20;

async fn server() -> Evergate {
    Evergate::start(Options::memory()).await
}

/// What a process may take more of memory at any time during an attack, in bytes.
const GROWTH_MAX: u64 = 64 << 20;

/// What it may have kept of that when nobody has asked it for anything for a while.
const LEFT_MAX: u64 = 16 << 20;

/// The allocator gives back what was not used for ten seconds, bit by bit.
const GIVEN_BACK_WITHIN: Duration = Duration::from_secs(60);

/// Lets an attack run while the server is used as ever.
async fn during<T>(server: &Evergate, attack: impl Future<Output = T>) -> T {
    let publisher = Publisher::connect(server.grpc()).await;
    let mut witness = Subscription::open(server.http(), "/v1/streams/witness/events").await;
    witness.opened().await;
    let over = Cell::new(false);
    let before = server.resident_bytes();
    let attacking = async {
        let result = attack.await;
        over.set(true);
        result
    };
    let living = async {
        let mut seen = 0;
        while !over.get() || seen < WITNESSED_MIN {
            publisher.publish("witness", event(seen.to_string())).await;
            assert_eq!(witness.data(1).await, [seen.to_string()]);
            seen += 1;
            let alive = timeout(ALIVE_WITHIN, call(server.admin(), Request::get("/livez"))).await;
            assert_eq!(alive.expect("it is alive and says so").status(), 200);
            let grown = server.resident_bytes().saturating_sub(before);
            assert!(grown <= GROWTH_MAX, "{grown} bytes more than before the attack");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let result = tokio::join!(attacking, living).0;
    drop((publisher, witness));
    let deadline = Instant::now() + GIVEN_BACK_WITHIN;
    while server.resident_bytes() > before + LEFT_MAX {
        let left = server.resident_bytes().saturating_sub(before);
        assert!(Instant::now() < deadline, "{left} bytes are not given back");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    result
}

/// Sends bytes and reads whatever comes until the other side ends or is silent for a while.
async fn answers_to(address: SocketAddr, bytes: &[u8]) -> String {
    let mut connection = Connection::open(address).await;
    // It may have hung up in the middle, having seen enough.
    let _ = connection.try_send_bytes(bytes).await;
    while let Ok(1..) = connection.read_more(Duration::from_millis(500)).await {}
    String::from_utf8_lossy(&connection.take_unread()).into_owned()
}

/// The statuses of all answers in what came.
fn statuses(answers: &str) -> Vec<u16> {
    let lines = answers.match_indices("HTTP/1.").filter_map(|(at, _)| answers.get(at + 9..at + 12));
    lines.filter_map(|status| status.parse().ok()).collect()
}
