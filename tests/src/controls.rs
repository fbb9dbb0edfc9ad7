//! A real control group: `evergate control` processes on one machine, each in a folder of its own; and
//! `evergate cluster`, with which it is asked.
//!
//! Promises what [`process`](crate::process) promises: nothing outlives its test, and only our own children
//! are signalled.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::figures::figure;
use crate::http1::{Request, Response, call};
use crate::left_out::say;
use crate::process::{Options, binary, own_settings_only};

/// For everything that comes by itself on a machine that others use too.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOK_EVERY: Duration = Duration::from_millis(50);
/// What operators prove themselves by.
const TOKEN: &str = "a-token-of-operators";

/// A control group. Dropping it kills its nodes.
#[derive(Debug)]
pub struct Controls {
    nodes: Vec<ControlNode>,
    settings: Vec<(String, String)>,
    home: TempDir,
}

/// One of its nodes; its id is its place in the group, counted from 1.
#[derive(Debug)]
struct ControlNode {
    id: usize,
    address: SocketAddr,
    /// Of whom it is told.
    peers: String,
    admin: Option<SocketAddr>,
    child: Option<Child>,
    starts: u32,
}

/// Waits until there is something.
///
/// # Panics
/// If it never comes.
pub async fn wait<T>(what: &str, mut so: impl AsyncFnMut() -> Option<T>) -> T {
    let began = Instant::now();
    loop {
        if let Some(found) = so().await {
            return found;
        }
        assert!(began.elapsed() < PATIENCE, "never: {what}");
        tokio::time::sleep(LOOK_EVERY).await;
    }
}

impl Controls {
    /// Starts so many nodes, and returns once all of them are ready.
    pub async fn start(count: usize) -> Self {
        Self::start_with(count, &[]).await
    }

    /// The same, each with more settings.
    pub async fn start_with(count: usize, settings: &[(&str, &str)]) -> Self {
        let home = tempfile::Builder::new().prefix("evergate-test-").tempdir().expect("a folder");
        fs::write(home.path().join("token"), TOKEN).expect("the folder is ours");
        let places: Vec<_> = (1..=count).map(|id| (id, free())).collect();
        let peers: Vec<_> = places.iter().map(|(id, address)| format!("{id}=http://{address}")).collect();
        let node = |(id, address)| ControlNode::new(id, address, peers.join(","));
        let settings = settings.iter().map(|&(key, value)| (key.to_owned(), value.to_owned())).collect();
        let mut group = Self { nodes: places.into_iter().map(node).collect(), settings, home };
        for at in 0..count {
            group.launch(at);
        }
        for at in 0..count {
            group.ready(at).await;
        }
        group
    }

    /// How many nodes there are, up or not.
    #[must_use]
    pub fn count(&self) -> usize {
        self.nodes.len()
    }

    /// With this an edge belongs to the cluster.
    #[must_use]
    pub fn followed_by(&self, options: Options) -> Options {
        let places: Vec<_> = self.nodes.iter().map(|node| format!("http://{}", node.address)).collect();
        options.set("cluster.control", &places.join(","))
    }

    /// Where a node serves its admin pages.
    #[must_use]
    pub fn admin(&self, at: usize) -> SocketAddr {
        self.nodes[at].admin.expect("it was ready once")
    }

    /// Where a node serves the others.
    #[must_use]
    pub fn address(&self, at: usize) -> SocketAddr {
        self.nodes[at].address
    }

    /// SIGKILL, and waits until the node is gone.
    pub fn kill(&mut self, at: usize) {
        let mut child = self.nodes[at].child.take().expect("it runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    /// SIGTERM, and waits until the node has ended.
    pub async fn end(&mut self, at: usize) -> ExitStatus {
        self.signal(at, Signal::TERM);
        let mut child = self.nodes[at].child.take().expect("it runs");
        wait("the end of a control node", async || child.try_wait().expect("our own child can be asked"))
            .await
    }

    /// Sends a signal to a node.
    pub fn signal(&self, at: usize, signal: Signal) {
        let child = self.nodes[at].child.as_ref().expect("it runs");
        rustix::process::kill_process(Pid::from_child(child), signal)
            .expect("our own child can be signalled");
    }

    /// Starts a node that is gone, with what it has in its folder, and returns once it is ready.
    pub async fn restart(&mut self, at: usize) {
        self.launch(at);
        self.ready(at).await;
    }

    /// Starts one node more, with the next id, which is told of nobody: it waits until it is added.
    pub fn newcomer(&mut self) -> usize {
        let at = self.nodes.len();
        self.nodes.push(ControlNode::new(at + 1, free(), String::new()));
        self.launch(at);
        at
    }

    /// Returns once a node knows a leader and has caught up.
    pub async fn ready(&mut self, at: usize) {
        let path = self.folder(at).with_extension("ready");
        let admin = wait("the ready file of a control node", async || {
            let told: Value = serde_json::from_slice(&fs::read(&path).ok()?).ok()?;
            told["admin"].as_str()?.parse().ok()
        })
        .await;
        self.nodes[at].admin = Some(admin);
        wait("readiness of a control node", async || {
            self.check(at);
            (call(admin, Request::get("/readyz")).await.status() == 200).then_some(())
        })
        .await;
    }

    /// What a node answers on its admin pages.
    pub async fn page(&self, at: usize, path: &str) -> Response {
        call(self.admin(at), Request::get(path)).await
    }

    /// One figure of a node's.
    pub async fn figure(&self, at: usize, name: &str) -> Option<f64> {
        figure(self.page(at, "/metrics").await.text(), name)
    }

    /// `evergate cluster …`, asked of a node.
    #[must_use]
    pub fn ask(&self, at: usize, arguments: &[&str]) -> Output {
        let mut command = self.asking(at);
        command.arg("--token-file").arg(self.token());
        command.args(arguments).output().expect("the binary starts")
    }

    /// The same by somebody without a token.
    #[must_use]
    pub fn ask_as_stranger(&self, at: usize, arguments: &[&str]) -> Output {
        self.asking(at).args(arguments).output().expect("the binary starts")
    }

    fn asking(&self, at: usize) -> Command {
        let mut command = Command::new(binary());
        command.arg("cluster").arg("--server").arg(format!("http://{}", self.nodes[at].address));
        command.stdin(Stdio::null());
        command
    }

    /// What a node answers in JSON; `None` if it cannot, or refuses.
    #[must_use]
    pub fn json(&self, at: usize, arguments: &[&str]) -> Option<Value> {
        let output = self.ask(at, &[arguments, &["--output", "json"]].concat());
        output.status.success().then(|| serde_json::from_slice(&output.stdout).expect("JSON"))
    }

    /// The file with the operators' token.
    #[must_use]
    pub fn token(&self) -> PathBuf {
        self.home.path().join("token")
    }

    /// Which node leads, as soon as somebody of those who are up says so.
    pub async fn leader(&self) -> usize {
        wait("somebody leads", async || {
            let up = self.nodes.iter().enumerate().filter(|(_, node)| node.child.is_some());
            let told = up.filter_map(|(at, _)| self.json(at, &["members"])?["leader"].as_u64());
            // One that has just died may be told of by the others for a while.
            let is_up = |id: &usize| self.nodes.iter().any(|node| node.id == *id && node.child.is_some());
            told.filter_map(|id| usize::try_from(id).ok()).find(is_up).map(|id| id - 1)
        })
        .await
    }

    /// Everything that a node has written since its latest start.
    #[must_use]
    pub fn output(&self, at: usize) -> String {
        fs::read_to_string(self.output_path(at)).unwrap_or_default()
    }

    /// A node that ended though nobody asked it to has something to tell.
    fn check(&mut self, at: usize) {
        if let Some(child) = &mut self.nodes[at].child
            && let Some(status) = child.try_wait().expect("our own child can be asked")
        {
            panic!("control node {} ended: {status}; it wrote:\n{}", at + 1, self.output(at));
        }
    }

    fn folder(&self, at: usize) -> PathBuf {
        self.home.path().join(self.nodes[at].id.to_string())
    }

    fn output_path(&self, at: usize) -> PathBuf {
        let node = &self.nodes[at];
        self.home.path().join(format!("{}-{}.log", node.id, node.starts))
    }

    fn launch(&mut self, at: usize) {
        self.nodes[at].starts += 1;
        let node = &self.nodes[at];
        let ready = self.folder(at).with_extension("ready");
        let _ = fs::remove_file(&ready);
        let mut settings = vec![
            format!("node=control-{}", node.id - 1),
            "admin.address=127.0.0.1:0".to_owned(),
            format!("ready_file={}", ready.display()),
            format!("control.address={}", node.address),
            format!("control.peers={}", node.peers),
            format!("control.data_dir={}", self.folder(at).display()),
            format!("control.admin_token_file={}", self.token().display()),
            "control.election_min=800ms".to_owned(),
            "control.election_max=1600ms".to_owned(),
        ];
        settings.extend(self.settings.iter().map(|(key, value)| format!("{key}={value}")));
        let output = File::create(self.output_path(at)).expect("the folder is ours");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).arg(binary()).arg("control");
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file handle can be cloned")).stderr(output);
        own_settings_only(&mut command);
        self.nodes[at].child = Some(command.spawn().expect("the binary starts"));
    }
}

impl ControlNode {
    fn new(id: usize, address: SocketAddr, peers: String) -> Self {
        Self { id, address, peers, admin: None, child: None, starts: 0 }
    }
}

impl Drop for Controls {
    fn drop(&mut self) {
        for node in &mut self.nodes {
            if let Some(mut child) = node.child.take() {
                // Both fail only where the process is gone already, which is what is wanted.
                let _ = child.kill();
                let _ = child.wait();
            }
        }
        if std::thread::panicking() {
            for at in 0..self.nodes.len() {
                say(&format!("--- control node {} wrote:\n{}---\n", at + 1, self.output(at)));
            }
        }
    }
}

fn free() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port")
}
