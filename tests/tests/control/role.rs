//! The role as it is shipped: `evergate control`, its admin pages, and its end.

use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evergate_tests::figures::figure;
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
        let settings = [
            format!("node=control-{}", id - 1),
            format!("admin.address={admin}"),
            format!("control.address={control}"),
            format!("control.peers={peers}"),
            format!("control.data_dir={}", home.join(id.to_string()).display()),
            "control.election_min=800ms".to_owned(),
            "control.election_max=1600ms".to_owned(),
        ];
        let sets = settings.iter().flat_map(|setting| ["--set", setting]);
        let mut command = Command::new("setpriv");
        own_settings_only(&mut command);
        let child = command
            .args(["--pdeathsig", "KILL", "--"])
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
