//! Looks at edges all the time: of one version of the view no two of them ever have different rings.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evergate_tests::figures::figure;
use evergate_tests::http1::{Connection, Request};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

const LOOK_EVERY: Duration = Duration::from_millis(200);

/// One look after the other at each edge, until it is dropped.
pub(crate) struct Onlooker {
    seen: Arc<Mutex<Seen>>,
    _looking: JoinSet<()>,
}

#[derive(Default)]
struct Seen {
    /// The last 32 bits of the digest of the rings, by the version of the view, as the first told it who had it.
    rings: BTreeMap<u64, u64>,
    looks: usize,
    disagreements: Vec<String>,
}

impl Onlooker {
    /// Looks at the edges that have their admin pages here.
    pub(crate) fn at(edges: impl IntoIterator<Item = SocketAddr>) -> Self {
        let seen = Arc::<Mutex<Seen>>::default();
        let mut looking = JoinSet::new();
        for admin in edges {
            let seen = Arc::clone(&seen);
            looking.spawn(async move {
                loop {
                    // One that is dead or has no view has nothing to tell.
                    if let Ok(page) = page(admin).await
                        && let Some((version, ring)) = told(&page)
                    {
                        seen.lock().expect("no one panicked with it").take(admin, version, ring);
                    }
                    tokio::time::sleep(LOOK_EVERY).await;
                }
            });
        }
        Self { seen, _looking: looking }
    }

    /// Judges what was seen so far, of the edges and of the control nodes. Tells how many looks and versions it was.
    pub(crate) fn judge(&self, rings_of_controls: &BTreeMap<u64, u64>) -> (usize, usize) {
        let seen = self.seen.lock().expect("no one panicked with it");
        assert!(seen.disagreements.is_empty(), "{:?}", seen.disagreements);
        assert!(!seen.rings.is_empty(), "no edge has told anything");
        for (version, ring) in &seen.rings {
            if let Some(other) = rings_of_controls.get(version) {
                assert_eq!(ring, other, "edges and control nodes have two rings at version {version}");
            }
        }
        (seen.looks, seen.rings.len())
    }
}

impl Seen {
    fn take(&mut self, admin: SocketAddr, version: u64, ring: u64) {
        self.looks += 1;
        let known = *self.rings.entry(version).or_insert(ring);
        if known != ring {
            let wrong = format!("version {version}: {ring:08x} at {admin}, and {known:08x} elsewhere");
            self.disagreements.push(wrong);
        }
    }
}

fn told(page: &str) -> Option<(u64, u64)> {
    let number = |name| figure(page, name).map(|figure| figure as u64);
    let version = number("evergate_view_version").filter(|version| *version > 0)?;
    Some((version, number("evergate_ring_digest")?))
}

async fn page(admin: SocketAddr) -> std::io::Result<String> {
    let socket = TcpStream::connect(admin).await?;
    let answer = Connection::over(socket).try_call(&Request::get("/metrics")).await?;
    String::from_utf8(answer.body).map_err(std::io::Error::other)
}
