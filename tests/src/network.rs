//! A network of a test's own: each node in a namespace, all on one switch, any way between two of them
//! cut and mended, one direction at a time.

use std::collections::BTreeMap;
use std::fs::File;
use std::os::fd::AsFd as _;
use std::process::Command;

use rustix::thread::{LinkNameSpaceType, move_into_link_name_space};

use crate::namespace::Namespace;

/// The network, and the processes that keep it alive.
#[derive(Debug)]
pub struct Network {
    nodes: BTreeMap<u64, Namespace>,
    _switch: Namespace,
}

impl Network {
    /// Nodes 1 to `count`, each connected with all.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn lay(count: u64) -> Result<Self, String> {
        let switch = Namespace::enter(
            &["--net"],
            "ip link add switch type bridge && ip link set switch up",
            "switch",
        )?;
        let mut nodes = BTreeMap::new();
        for id in 1..=count {
            let node = Namespace::enter(&["--net"], "ip link set lo up", "node")?;
            let (port, there) = (format!("port{id}"), switch.id().to_string());
            let address = format!("10.98.0.{id}/24");
            ip(&node, &["link", "add", "wire", "type", "veth", "peer", "name", &port, "netns", &there])?;
            ip(&node, &["addr", "add", &address, "dev", "wire"])?;
            ip(&node, &["link", "set", "wire", "up"])?;
            ip(&switch, &["link", "set", &port, "master", "switch"])?;
            ip(&switch, &["link", "set", &port, "up"])?;
            nodes.insert(id, node);
        }
        Ok(Self { nodes, _switch: switch })
    }

    /// The address of a node.
    #[must_use]
    pub fn address(&self, id: u64) -> String {
        format!("10.98.0.{id}")
    }

    /// Moves the calling thread to a node's place, for good: its sockets, and the threads and processes that it
    /// starts from now on.
    ///
    /// # Errors
    /// Why this system does not let us.
    pub fn enter(&self, id: u64) -> std::io::Result<()> {
        let space = File::open(format!("/proc/{}/ns/net", self.nodes[&id].id()))?;
        Ok(move_into_link_name_space(space.as_fd(), Some(LinkNameSpaceType::Network))?)
    }

    /// The words before a command that send it to a node's place.
    #[must_use]
    pub fn launcher(&self, id: u64) -> Vec<String> {
        let target = self.nodes[&id].id().to_string();
        ["nsenter", "--target", &target, "--net"].map(str::to_owned).to_vec()
    }

    /// From now on nothing that `from` sends to `to` arrives, and nobody is told.
    pub fn cut(&self, from: u64, to: u64) {
        self.route("replace", from, to);
    }

    /// It arrives again.
    pub fn mend(&self, from: u64, to: u64) {
        self.route("del", from, to);
    }

    /// Runs a story at a node's place: its sockets, threads and processes are there.
    ///
    /// # Panics
    /// If the story does, or this system does not let us.
    pub fn story<F: Future<Output = ()>>(self, id: u64, story: impl FnOnce(Self) -> F + Send) {
        let told = std::thread::scope(|scope| {
            let telling = scope.spawn(|| {
                self.enter(id).expect("a thread can go where the network is ours");
                // Made here, so that its threads are here too.
                let runtime =
                    tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
                runtime.expect("a runtime").block_on(story(self));
            });
            telling.join()
        });
        if let Err(panic) = told {
            std::panic::resume_unwind(panic);
        }
    }

    /// Cuts off some nodes from some others, both ways.
    pub fn divide(&self, some: &[u64], others: &[u64]) {
        for (one, other) in pairs(some, others) {
            self.cut(one, other);
            self.cut(other, one);
        }
    }

    /// Undoes it.
    pub fn unite(&self, some: &[u64], others: &[u64]) {
        for (one, other) in pairs(some, others) {
            self.mend(one, other);
            self.mend(other, one);
        }
    }

    /// Cuts off some nodes from all others, both ways.
    pub fn part(&self, some: &[u64]) {
        self.divide(some, &self.besides(some));
    }

    /// Undoes it.
    pub fn join(&self, some: &[u64]) {
        self.unite(some, &self.besides(some));
    }

    fn besides(&self, some: &[u64]) -> Vec<u64> {
        self.nodes.keys().copied().filter(|id| !some.contains(id)).collect()
    }

    fn route(&self, verb: &str, from: u64, to: u64) {
        let address = format!("{}/32", self.address(to));
        ip(&self.nodes[&from], &["route", verb, "blackhole", &address]).expect("a route can be set");
    }
}

fn pairs(some: &[u64], others: &[u64]) -> impl Iterator<Item = (u64, u64)> {
    some.iter().flat_map(move |one| others.iter().map(move |other| (*one, *other)))
}

fn ip(place: &Namespace, words: &[&str]) -> Result<(), String> {
    let target = place.id().to_string();
    let ran = Command::new("nsenter").args(["--target", &target, "--net", "ip"]).args(words).output();
    let output = ran.map_err(|error| format!("nsenter cannot be started: {error}"))?;
    if output.status.success() {
        return Ok(());
    }
    Err(format!("ip {}: {}", words.join(" "), String::from_utf8_lossy(&output.stderr).trim()))
}
