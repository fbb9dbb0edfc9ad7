//! How fast an edge took connections in, by its own count, looked at all the time.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use evergate_tests::figures::value_on;
use evergate_tests::http1::{Connection, Request};
use tokio::net::TcpStream;

const LOOK_EVERY: Duration = Duration::from_millis(50);

/// One look at one process: its count was read between two moments.
struct Look {
    asked: Instant,
    told: Instant,
    accepted: f64,
    pauses: f64,
}

/// All looks at one address, a list for each process that has served there.
#[derive(Default)]
pub(crate) struct Admission(Vec<Vec<Look>>);

impl Admission {
    /// Looks until told to stop. The process may be gone, and another one come.
    pub(crate) async fn watch(admin: SocketAddr, stop: Arc<AtomicBool>) -> Self {
        let mut seen = Self(vec![Vec::new()]);
        while !stop.load(Ordering::Relaxed) {
            let here = seen.0.last_mut().expect("there is one");
            match look(admin).await {
                Some(look) if here.last().is_none_or(|last| last.accepted <= look.accepted) => {
                    here.push(look);
                }
                Some(look) => seen.0.push(vec![look]),
                None if here.is_empty() => {}
                None => seen.0.push(Vec::new()),
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
        seen
    }

    /// Checks every stretch between two looks: no more than the rate in its time, and the burst once.
    /// Gives how many connections there were, and how often they had to wait.
    pub(crate) fn check(&self, per_second: f64) -> (f64, f64) {
        let (mut accepted, mut pauses) = (0.0, 0.0);
        for process in &self.0 {
            for (n, first) in process.iter().enumerate() {
                for last in &process[n..] {
                    let time = last.told - first.asked;
                    let at_most = per_second * time.as_secs_f64() + per_second;
                    let here = last.accepted - first.accepted;
                    assert!(here <= at_most, "{here} connections in {time:?}: more than {at_most:.0}");
                }
            }
            accepted += process.last().map_or(0.0, |look| look.accepted);
            pauses += process.last().map_or(0.0, |look| look.pauses);
        }
        (accepted, pauses)
    }
}

/// `None` if nobody is there.
async fn look(admin: SocketAddr) -> Option<Look> {
    let asked = Instant::now();
    let mut connection = Connection::over(TcpStream::connect(admin).await.ok()?);
    let answer = connection.try_call(&Request::get("/metrics")).await.ok()?;
    let (told, page) = (Instant::now(), answer.text().to_owned());
    let pauses = value_on(&page, "evergate_accept_pauses_total", "reason=\"rate\"");
    Some(Look { asked, told, accepted: value_on(&page, "evergate_connections_total", ""), pauses })
}

#[test]
fn too_many_at_once_do_not_pass() {
    let begun = Instant::now();
    let look = |ms: u64, accepted: f64| {
        let at = begun + Duration::from_millis(ms);
        Look { asked: at, told: at, accepted, pauses: 0.0 }
    };
    let within = Admission(vec![vec![look(0, 0.0), look(500, 150.0), look(1_000, 200.0)]]);
    assert_eq!(within.check(100.0), (200.0, 0.0));
    let beyond = Admission(vec![vec![look(0, 0.0), look(500, 10.0), look(600, 130.0), look(3_000, 130.0)]]);
    assert!(std::panic::catch_unwind(|| beyond.check(100.0)).is_err());
}
