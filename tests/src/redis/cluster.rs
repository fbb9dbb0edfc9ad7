//! A Redis Cluster.

use std::time::{Duration, Instant};

use tokio::process::Command;

use super::{Keeps, RedisServer};
use crate::PATIENCE;
use crate::clients::system;
use crate::process::Options;

/// Primaries, each with one replica.
const PRIMARIES: usize = 3;

/// Six nodes: three primaries, and a replica of each. Dropping it kills them.
#[derive(Debug)]
pub struct Cluster {
    /// All nodes.
    pub nodes: Vec<RedisServer>,
}

impl Cluster {
    /// Starts them all, and returns once every node finds the cluster sound. `None`, said aloud, if
    /// there is no Redis here.
    ///
    /// # Panics
    /// If they do not find each other.
    pub async fn start(test: &str) -> Option<Self> {
        let cli = system(test, &["redis-cli"])?;
        let words = [
            ["--cluster-enabled", "yes"],
            ["--cluster-node-timeout", "1500"],
            ["--cluster-require-full-coverage", "no"],
            ["--cluster-replica-validity-factor", "0"],
            ["--repl-ping-replica-period", "1"],
        ];
        let mut nodes = Vec::new();
        for _ in 0..2 * PRIMARIES {
            let mut node = RedisServer::prepare(test, Keeps::Nothing, &words.concat())?;
            // By default it would be the port plus 10,000, which may be no port at all.
            node.argue(&["--cluster-port", &super::free_port().to_string()]);
            node.run().await;
            nodes.push(node);
        }
        let cluster = Self { nodes };
        let mut create = Command::new(cli);
        create.args(["--cluster", "create"]).args(cluster.nodes.iter().map(address));
        let made = create.args(["--cluster-replicas", "1", "--cluster-yes"]).output().await;
        let made = made.expect("redis-cli can be started");
        assert!(made.status.success(), "no cluster: {}", String::from_utf8_lossy(&made.stdout));
        let deadline = Instant::now() + PATIENCE;
        for node in &cluster.nodes {
            while !cluster.is_sound(node).await {
                assert!(Instant::now() < deadline, "{:?}", node.ask(&["CLUSTER", "NODES"]).await);
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
        Some(cluster)
    }

    async fn is_sound(&self, node: &RedisServer) -> bool {
        let info = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
        let nodes = node.ask(&["CLUSTER", "NODES"]).await.unwrap_or_default();
        let replication = node.ask(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("cluster_state:ok")
            && nodes.matches("slave").count() == PRIMARIES
            && (replication.contains("connected_slaves:1") || replication.contains("master_link_status:up"))
    }

    /// How an `evergate` with its log here is to be started.
    #[must_use]
    pub fn options(&self) -> Options {
        let at: Vec<_> = self.nodes[..2].iter().map(address).collect();
        Options::redis(&format!("redis-cluster://{}", at.join(",")))
    }

    /// The primary that holds this stream, and the hash slot of its keys.
    ///
    /// # Panics
    /// If nobody has it.
    pub async fn owner(&self, stream: &str) -> (usize, u16) {
        let at = self.owner_now(stream).await.unwrap_or_else(|| panic!("nobody holds {stream}"));
        let pattern = format!("evergate:*:meta:{stream}");
        let key = self.nodes[at].must(&["KEYS", &pattern]).await;
        let slot = self.nodes[at].must(&["CLUSTER", "KEYSLOT", &key]).await;
        (at, slot.parse().expect("a number"))
    }

    /// The primary that holds this stream, if anybody does now.
    pub async fn owner_now(&self, stream: &str) -> Option<usize> {
        let pattern = format!("evergate:*:meta:{stream}");
        for (at, node) in self.nodes.iter().enumerate() {
            if node.is_primary().await
                && !node.ask_list(&["KEYS", &pattern]).await.unwrap_or_default().is_empty()
            {
                return Some(at);
            }
        }
        None
    }

    /// So many hash slots of a primary, those that are nearest to this one.
    ///
    /// # Panics
    /// If it does not answer, or has fewer.
    pub async fn held_around(&self, node: usize, slot: u16, many: usize) -> Vec<u16> {
        let told = self.nodes[node].must(&["CLUSTER", "NODES"]).await;
        let mine = told.lines().find(|line| line.contains("myself")).expect("it knows itself");
        let mut held: Vec<u16> = Vec::new();
        for range in mine.split_whitespace().skip(8) {
            let (first, last) = range.split_once('-').unwrap_or((range, range));
            // What is on its way from or to it stands there in another form.
            if let (Ok(first), Ok(last)) = (first.parse::<u16>(), last.parse::<u16>()) {
                held.extend(first..=last);
            }
        }
        held.sort_by_key(|held| held.abs_diff(slot));
        held.truncate(many);
        assert_eq!(held.len(), many, "{told}");
        held
    }

    /// How many keys lie in these hash slots of a primary.
    ///
    /// # Panics
    /// If it does not answer.
    pub async fn keys_in(&self, node: usize, slots: &[u16]) -> usize {
        let mut keys = 0;
        for slot in slots {
            let told = self.nodes[node].must(&["CLUSTER", "COUNTKEYSINSLOT", &slot.to_string()]).await;
            keys += told.parse::<usize>().expect("a number");
        }
        keys
    }

    /// The replica of a primary.
    ///
    /// # Panics
    /// If it has none.
    pub async fn replica_of(&self, primary: usize) -> usize {
        let id = self.id(primary).await;
        let told = self.nodes[primary].ask_list(&["CLUSTER", "REPLICAS", &id]).await.expect("an answer");
        let line = told.first().expect("it has a replica");
        let is_it = |node: &RedisServer| line.contains(&format!("127.0.0.1:{}@", node.port()));
        self.nodes.iter().position(is_it).expect("one of ours")
    }

    async fn id(&self, node: usize) -> String {
        self.nodes[node].ask(&["CLUSTER", "MYID"]).await.expect("it answers")
    }

    /// Moves hash slots from one primary to another, one after the other, as `redis-cli` does.
    ///
    /// # Panics
    /// If a node refuses.
    pub async fn reshard(&self, slots: impl Iterator<Item = u16>, from: usize, to: usize) {
        let (source, target) = (self.id(from).await, self.id(to).await);
        let (from, to) = (&self.nodes[from], &self.nodes[to]);
        for slot in slots {
            let slot = slot.to_string();
            to.must(&["CLUSTER", "SETSLOT", &slot, "IMPORTING", &source]).await;
            from.must(&["CLUSTER", "SETSLOT", &slot, "MIGRATING", &target]).await;
            loop {
                let keys = from.ask_list(&["CLUSTER", "GETKEYSINSLOT", &slot, "2"]).await.expect("keys");
                if keys.is_empty() {
                    break;
                }
                let port = to.port().to_string();
                let mut words = vec!["MIGRATE", "127.0.0.1", &port, "", "0", "5000", "KEYS"];
                words.extend(keys.iter().map(String::as_str));
                from.must(&words).await;
            }
            to.must(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await;
            from.must(&["CLUSTER", "SETSLOT", &slot, "NODE", &target]).await;
        }
    }
}

fn address(node: &RedisServer) -> String {
    format!("127.0.0.1:{}", node.port())
}
