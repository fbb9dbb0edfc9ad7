//! The role as it is shipped: `evergate control`, its admin pages, and its end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evergate_tests::figures::figure;
use evergate_tests::left_out::left_out;
use evergate_tests::namespace::Namespace;
use evergate_tests::process::{binary, own_settings_only};
use rustix::process::{Pid, Signal, kill_process};

use super::cluster::PATIENCE;

/// A node, killed when dropped.
struct Role {
    child: Child,
    admin: SocketAddr,
}

impl Role {
    fn start(home: &Path, id: u64, control: SocketAddr, admin: SocketAddr, peers: &str) -> Self {
        Self::launch(home, id, control, admin, &[format!("control.peers={peers}")], &[])
    }

    /// With more settings, by a launcher that ends by executing what follows it.
    fn launch(
        home: &Path,
        id: u64,
        control: SocketAddr,
        admin: SocketAddr,
        more: &[String],
        launcher: &[String],
    ) -> Self {
        let settings = [
            format!("node=control-{}", id - 1),
            format!("admin.address={admin}"),
            format!("control.address={control}"),
            format!("control.data_dir={}", home.join(id.to_string()).display()),
            "control.election_min=800ms".to_owned(),
            "control.election_max=1600ms".to_owned(),
        ];
        let sets = settings.iter().chain(more).flat_map(|setting| ["--set", setting]);
        let mut command = Command::new("setpriv");
        own_settings_only(&mut command);
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
            .args(launcher)
            .arg(binary())
            .arg("control")
            .args(sets)
            .current_dir(home)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(home.join(format!("{id}.log"))).expect("the folder is ours"))
            .spawn()
            .expect("the binary starts");
        Self { child, admin }
    }

    fn page(&self, path: &str) -> Option<String> {
        let mut socket = TcpStream::connect(self.admin).ok()?;
        socket.set_read_timeout(Some(Duration::from_secs(5))).ok()?;
        write!(socket, "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").ok()?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer).ok()?;
        Some(answer)
    }

    /// Whether it is not ready, and says so at `/readyz`.
    fn waits_for(&self, why: &str) -> bool {
        self.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 503 ") && page.contains(why))
    }

    fn is_ready(&self) -> bool {
        self.page("/readyz").is_some_and(|page| page.starts_with("HTTP/1.1 200 "))
    }

    fn gauge(&self, name: &str) -> Option<f64> {
        let page = self.page("/metrics")?;
        figure(&page, name)
    }
}

impl Drop for Role {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}

fn wait(what: &str, so: impl Fn() -> bool) {
    let begun = Instant::now();
    while !so() {
        assert!(begun.elapsed() < PATIENCE, "{what} does not come");
        std::thread::sleep(Duration::from_millis(100));
    }
}

#[test]
fn control_nodes_become_ready_name_a_lost_leader_and_end_in_order() {
    let home = tempfile::tempdir().expect("a folder");
    let places: Vec<_> = (1..=3).map(|id| (id, free(), free())).collect();
    let peers: Vec<_> = places.iter().map(|(id, control, _)| format!("{id}=http://{control}")).collect();
    let peers = peers.join(",");
    let start = |(id, control, admin): (u64, SocketAddr, SocketAddr)| {
        Role::start(home.path(), id, control, admin, &peers)
    };
    let mut nodes: Vec<_> = places[..2].iter().copied().map(start).collect();
    wait("the admin pages", || nodes.iter().all(|node| node.page("/livez").is_some()));
    assert!(!nodes.iter().any(Role::is_ready), "before there is a group");
    nodes.push(start(places[2]));
    wait("readiness of all", || nodes.iter().all(Role::is_ready));
    let leaders = || nodes.iter().filter(|node| node.gauge("evergate_raft_is_leader") == Some(1.0)).count();
    wait("one leader", || leaders() == 1);
    assert!(nodes.iter().all(|node| node.gauge("evergate_raft_members") == Some(3.0)));

    for node in &mut nodes[1..] {
        kill_process(Pid::from_child(&node.child), Signal::TERM).expect("it runs");
        let status = node.child.wait().expect("it ends");
        assert!(status.success(), "{status}");
    }
    // Alone it can do nothing, which is no fault of its own: it says so, and stays ready.
    let left = &nodes[0];
    wait("the loss of the leader", || {
        left.gauge("evergate_raft_has_leader") == Some(0.0)
            || left.gauge("evergate_raft_quorum_silence_seconds").is_some_and(|silence| silence > 2.0)
    });
    assert!(left.is_ready());
}

#[test]
fn nodes_with_other_lists_say_so_and_found_nothing_until_they_have_the_same() {
    let home = tempfile::tempdir().expect("a folder");
    let places: Vec<_> = (1..=3).map(|id| (id, free(), free())).collect();
    let list = |ids: &[u64]| {
        let listed = places.iter().filter(|(id, ..)| ids.contains(id));
        listed.map(|(id, control, _)| format!("{id}=http://{control}")).collect::<Vec<_>>().join(",")
    };
    let start = |at: usize, ids: &[u64]| {
        let (id, control, admin) = places[at];
        Role::start(home.path(), id, control, admin, &list(ids))
    };
    let mut nodes = vec![start(0, &[1, 2, 3]), start(1, &[1, 2, 3])];
    wait("the word of a node that misses one", || {
        nodes[0].waits_for("waiting for a control group: node 3 at ")
    });
    nodes.push(start(2, &[1, 3]));
    wait("the word of those with the same list", || {
        nodes[..2].iter().all(|node| node.waits_for("node 3 was told other peers"))
    });
    wait("the word of the one with another list", || nodes[2].waits_for("node 1 was told other peers"));
    assert!(nodes.iter().all(|node| node.gauge("evergate_raft_has_leader") == Some(0.0)));
    // Once it is told what the others are, there is a group, of all three.
    drop(nodes.pop());
    nodes.push(start(2, &[1, 2, 3]));
    wait("readiness of all", || nodes.iter().all(Role::is_ready));
    wait("three members", || nodes.iter().all(|node| node.gauge("evergate_raft_members") == Some(3.0)));
    let page = nodes[0].page("/readyz").expect("it is there");
    assert!(!page.contains("waiting for a control group"), "{page}");
}

#[test]
fn three_nodes_behind_one_name_found_a_group() {
    const TEST: &str = "three_nodes_behind_one_name_found_a_group";
    let home = tempfile::tempdir().expect("a folder");
    let hosts = home.path().join("hosts");
    let names = |count: u8| (1..=count).map(|id| format!("127.0.0.{id} control.test\n")).collect::<String>();
    std::fs::write(&hosts, names(2)).expect("the folder is ours");
    // Where they are, the name leads to all of them, as that of a headless service does.
    let unshare = ["--mount", "--propagation", "private"];
    let script = "mount --bind \"$0\" /etc/hosts";
    let namespace = match Namespace::enter(&unshare, script, hosts.to_str().expect("a plain name")) {
        Ok(namespace) => namespace,
        Err(why) => return left_out(TEST, &why),
    };
    let launcher = ["nsenter", "--target", &namespace.id().to_string(), "--mount"].map(str::to_owned);
    let port = free().port();
    let start = |id: u8| {
        let host = format!("127.0.0.{id}");
        let control = SocketAddr::new(host.parse().expect("an address"), port);
        let more = [
            format!("control.peers=any=http://control.test:{port}"),
            "control.nodes=3".to_owned(),
            format!("control.host={host}"),
        ];
        Role::launch(home.path(), id.into(), control, free(), &more, &launcher)
    };
    let nodes: Vec<_> = (1..=3).map(start).collect();
    // The third one is up, and is not behind the name yet.
    wait("the word of those behind the name", || {
        nodes[..2].iter().all(|node| node.waits_for("waiting for a control group: 2 of 3 nodes are there"))
    });
    assert!(!nodes.iter().any(Role::is_ready));
    // In place: it is this file that they see.
    std::fs::write(&hosts, names(3)).expect("the folder is ours");
    wait("readiness of all", || nodes.iter().all(Role::is_ready));
    wait("three members", || nodes.iter().all(|node| node.gauge("evergate_raft_members") == Some(3.0)));
    let leaders = || nodes.iter().filter(|node| node.gauge("evergate_raft_is_leader") == Some(1.0)).count();
    wait("one leader", || leaders() == 1);
}

#[test]
fn a_mistake_is_told_before_anything_is_begun() {
    let home = tempfile::tempdir().expect("a folder");
    for (setting, says) in [
        ("control.id=0", "control.id: give one"),
        ("control.peers=a=http://h:1", "is no number of a control node"),
        ("control.certificate_file=/none", "given together"),
        ("control.heartbeat=2s", "control.election_min"),
    ] {
        let mut command = Command::new(binary());
        own_settings_only(&mut command);
        command.arg("control").current_dir(home.path()).args(["--set", "admin.address=127.0.0.1:0"]);
        command.args(["--set", "control.address=127.0.0.1:0", "--set", "node=x"]);
        if !setting.starts_with("control.id") {
            command.args(["--set", "control.id=1"]);
        }
        let output = command.args(["--set", setting]).output().expect("it runs");
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(!output.status.success() && told.contains(says), "{setting}: {told}");
        assert!(!home.path().join("evergate-control").exists(), "{setting}");
    }
}
