//! A network of a test's own: each node in a namespace, all on one switch, any way between two of them
//! cut and mended, one direction at a time.

use std::collections::BTreeMap;
use std::process::Command;

use evergate_tests::namespace::Namespace;

/// The network, and the processes that keep it alive.
pub(crate) struct Network {
    nodes: BTreeMap<u64, Namespace>,
    _switch: Namespace,
}

impl Network {
    /// Nodes 1 to `count`, each connected with all.
    pub(crate) fn lay(count: u64) -> Result<Self, String> {
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

    pub(crate) fn address(&self, id: u64) -> String {
        format!("10.98.0.{id}")
    }

    /// The words before a command that send it to a node's place.
    pub(crate) fn launcher(&self, id: u64) -> Vec<String> {
        let target = self.nodes[&id].id().to_string();
        ["nsenter", "--target", &target, "--net"].map(str::to_owned).to_vec()
    }

    /// From now on nothing that `from` sends to `to` arrives, and nobody is told.
    pub(crate) fn cut(&self, from: u64, to: u64) {
        self.route("replace", from, to);
    }

    /// It arrives again.
    pub(crate) fn mend(&self, from: u64, to: u64) {
        self.route("del", from, to);
    }

    /// Cuts off some nodes from all others, both ways.
    pub(crate) fn part(&self, some: &[u64]) {
        self.between(some, |from, to| self.cut(from, to));
    }

    /// Undoes it.
    pub(crate) fn join(&self, some: &[u64]) {
        self.between(some, |from, to| self.mend(from, to));
    }

    fn between(&self, some: &[u64], act: impl Fn(u64, u64)) {
        for one in some {
            for other in self.nodes.keys().filter(|id| !some.contains(id)) {
                act(*one, *other);
                act(*other, *one);
            }
        }
    }

    fn route(&self, verb: &str, from: u64, to: u64) {
        let address = format!("{}/32", self.address(to));
        ip(&self.nodes[&from], &["route", verb, "blackhole", &address]).expect("a route can be set");
    }
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
