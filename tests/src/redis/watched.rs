//! A primary with replicas, watched by Sentinels.

use std::fs;
use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use super::{Keeps, RedisServer, SENTINEL_FILE};
use crate::PATIENCE;
use crate::process::Options;

/// The name under which the Sentinels know the primary.
const NAME: &str = "main";
const SENTINELS: usize = 3;

/// One primary, two replicas and three Sentinels. Dropping it kills them.
#[derive(Debug)]
pub struct Watched {
    /// The first of them begins as the primary.
    pub servers: Vec<RedisServer>,
    sentinels: Vec<RedisServer>,
}

impl Watched {
    /// Starts them all, and returns once the Sentinels know each other and both replicas. `None`,
    /// said aloud, if there is no `redis-server` here.
    ///
    /// # Panics
    /// If they do not find each other.
    pub async fn start(test: &str) -> Option<Self> {
        Self::start_at(test, IpAddr::V4(Ipv4Addr::LOCALHOST)).await
    }

    /// Starts them all, the first primary at this address of the machine, so that it can be cut off.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_at(test: &str, host: IpAddr) -> Option<Self> {
        let host_text = host.to_string();
        let always = ["--repl-ping-replica-period", "1", "--repl-timeout", "5", "--protected-mode", "no"];
        let announced = |host: &'static str| [&always[..], &["--replica-announce-ip", host]].concat();
        let mut primary = RedisServer::prepare(test, Keeps::Nothing, &always)?;
        primary.argue(&["--replica-announce-ip", &host_text]);
        primary.move_to(host);
        primary.run().await;
        let port = primary.port().to_string();
        let mut servers = vec![primary];
        for _ in 0..2 {
            let replica = [&announced("127.0.0.1")[..], &["--replicaof", &host_text, &port]].concat();
            servers.push(RedisServer::start_with(test, Keeps::Nothing, &replica).await?);
        }
        let mut sentinels = Vec::new();
        for _ in 0..SENTINELS {
            let mut sentinel = RedisServer::prepare(test, Keeps::Nothing, &[])?;
            let text = format!(
                "port {}\nbind 127.0.0.1\nprotected-mode no\ndir {}\nsentinel announce-ip 127.0.0.1\nsentinel monitor {NAME} {host} {port} 2\n\
                 sentinel down-after-milliseconds {NAME} 1000\nsentinel failover-timeout {NAME} 4000\n",
                sentinel.port(),
                sentinel.folder().display(),
            );
            fs::write(sentinel.folder().join(SENTINEL_FILE), text).expect("the folder is ours");
            sentinel.run().await;
            sentinels.push(sentinel);
        }
        let group = Self { servers, sentinels };
        group
            .until("the Sentinels know everybody", |fields| {
                fields.contains(&"num-slaves=2".to_owned())
                    && fields.contains(&format!("num-other-sentinels={}", SENTINELS - 1))
            })
            .await;
        for replica in &group.servers[1..] {
            replica.until_in_step().await;
        }
        Some(group)
    }

    /// How an `evergate` with its log here is to be started.
    #[must_use]
    pub fn options(&self) -> Options {
        let at: Vec<_> =
            self.sentinels.iter().map(|sentinel| format!("127.0.0.1:{}", sentinel.port())).collect();
        Options::redis(&format!("redis-sentinel://{}/{NAME}", at.join(",")))
    }

    /// Which of the servers the Sentinels take for the primary now.
    ///
    /// # Panics
    /// If they do not answer.
    pub async fn primary(&self) -> usize {
        let asked = self.sentinels[0].ask_list(&["SENTINEL", "GET-MASTER-ADDR-BY-NAME", NAME]).await;
        let port: u16 = asked.expect("a Sentinel answers")[1].parse().expect("a port");
        self.servers.iter().position(|server| server.port() == port).expect("one of ours")
    }

    /// Waits until another server than this one is the primary.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn until_not(&self, old: usize) -> usize {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let now = self.primary().await;
            if now != old {
                return now;
            }
            assert!(Instant::now() < deadline, "no other primary is found");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has the Sentinels hand the primary's part over to another, in order, and waits until they have.
    ///
    /// # Panics
    /// If they do not.
    pub async fn hand_over(&self) {
        let old = self.primary().await;
        let deadline = Instant::now() + PATIENCE;
        // Refused while an earlier change is not finished.
        while self.sentinels[0].ask(&["SENTINEL", "FAILOVER", NAME]).await.is_err() {
            assert!(Instant::now() < deadline, "the Sentinels refuse to hand over");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        self.until_not(old).await;
        self.until("it is over", |fields| {
            fields.contains(&"flags=master".to_owned()) && fields.contains(&"num-slaves=2".to_owned())
        })
        .await;
    }

    async fn until(&self, what: &str, done: impl Fn(&[String]) -> bool) {
        let deadline = Instant::now() + PATIENCE;
        for sentinel in &self.sentinels {
            loop {
                let told = sentinel.ask_list(&["SENTINEL", "MASTER", NAME]).await.unwrap_or_default();
                let fields: Vec<_> = told.chunks(2).map(|pair| pair.join("=")).collect();
                if done(&fields) {
                    break;
                }
                assert!(Instant::now() < deadline, "waited in vain until {what}: {fields:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}
