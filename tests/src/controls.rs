//! A real control group: `evergate control` processes on one machine, each in a folder of its own; and
//! `evergate cluster`, with which it is asked.
//!
//! Promises what [`process`](crate::process) promises: nothing outlives its test, and only our own children
//! are signalled.

use std::fs::{self, File};
use std::net::{SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use serde_json::Value;
use tempfile::TempDir;

use crate::figures::figure;
use crate::http1::{Request, Response, call};
use crate::left_out::say;
use crate::network::Network;
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
    network: Option<Network>,
    home: TempDir,
}

/// How a group is to be started.
#[derive(Debug)]
pub struct Plan {
    count: usize,
    settings: Vec<(String, String)>,
    network: Option<Network>,
    launchers: Vec<Vec<String>>,
    folders: Vec<Option<PathBuf>>,
}

impl Plan {
    /// So many nodes on this machine.
    #[must_use]
    pub fn of(count: usize) -> Self {
        Self {
            count,
            settings: Vec::new(),
            network: None,
            launchers: vec![Vec::new(); count],
            folders: vec![None; count],
        }
    }

    /// Each at its own place of a network, which has one more for whoever asks them.
    #[must_use]
    pub fn on(mut self, network: Network) -> Self {
        for (at, launcher) in self.launchers.iter_mut().enumerate() {
            *launcher = network.launcher(at as u64 + 1);
        }
        self.network = Some(network);
        self
    }

    /// Each with one more setting.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// One of them launched by this too, which ends by executing what follows it. It must keep the pid.
    #[must_use]
    pub fn launched_by(mut self, at: usize, command: &[String]) -> Self {
        self.launchers[at].extend_from_slice(command);
        self
    }

    /// One of them with its folder at a place given.
    #[must_use]
    pub fn housed(mut self, at: usize, folder: &Path) -> Self {
        self.folders[at] = Some(folder.to_owned());
        self
    }
}

/// One of its nodes; its id is its place in the group, counted from 1.
#[derive(Debug)]
struct ControlNode {
    id: usize,
    address: SocketAddr,
    /// Where its admin pages are wanted.
    admin_wanted: SocketAddr,
    /// Of whom it is told.
    peers: String,
    folder: PathBuf,
    launcher: Vec<String>,
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
        let set = |plan: Plan, (key, value): &(&str, &str)| plan.set(key, value);
        Self::start_as(settings.iter().fold(Plan::of(count), set)).await
    }

    /// Starts them as a plan says, and returns once all of them are ready.
    pub async fn start_as(plan: Plan) -> Self {
        let Plan { count, settings, network, launchers, folders } = plan;
        let home = tempfile::Builder::new().prefix("evergate-test-").tempdir().expect("a folder");
        fs::write(home.path().join("token"), TOKEN).expect("the folder is ours");
        let place = |id: usize| match &network {
            None => (free(), SocketAddr::from(([127, 0, 0, 1], 0))),
            Some(network) => {
                let host = network.address(id as u64).parse().expect("an address");
                (SocketAddr::new(host, 8083), SocketAddr::new(host, 8082))
            }
        };
        let places: Vec<_> = (1..=count).map(|id| (id, place(id))).collect();
        let peers: Vec<_> =
            places.iter().map(|(id, (address, _))| format!("{id}=http://{address}")).collect();
        let nodes = places.into_iter().zip(launchers.into_iter().zip(folders));
        let node =
            |((id, (address, admin_wanted)), (launcher, folder)): (_, (_, Option<PathBuf>))| ControlNode {
                id,
                address,
                admin_wanted,
                peers: peers.join(","),
                folder: folder.unwrap_or_else(|| home.path().join(id.to_string())),
                launcher,
                admin: None,
                child: None,
                starts: 0,
            };
        let mut group = Self { nodes: nodes.map(node).collect(), settings, network, home };
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

    /// The network they are on.
    ///
    /// # Panics
    /// If they have none of their own.
    #[must_use]
    pub fn network(&self) -> &Network {
        self.network.as_ref().expect("it was planned")
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
        self.ended(at).await
    }

    /// Whether a node has ended by itself.
    pub fn has_ended(&mut self, at: usize) -> bool {
        let child = self.nodes[at].child.as_mut().expect("it was started");
        child.try_wait().expect("our own child can be asked").is_some()
    }

    /// Waits until a node has ended.
    pub async fn ended(&mut self, at: usize) -> ExitStatus {
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
        self.nodes.push(ControlNode {
            id: at + 1,
            address: free(),
            admin_wanted: SocketAddr::from(([127, 0, 0, 1], 0)),
            peers: String::new(),
            folder: self.home.path().join((at + 1).to_string()),
            launcher: Vec::new(),
            admin: None,
            child: None,
            starts: 0,
        });
        self.launch(at);
        at
    }

    /// Returns once a node knows a leader and has caught up.
    pub async fn ready(&mut self, at: usize) {
        let path = self.ready_path(at);
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

    /// Which of these nodes leads, as soon as all of them say so.
    pub async fn leader_of(&self, nodes: &[usize]) -> usize {
        wait("one of them leads", async || {
            let told = nodes.iter().map(|at| self.json(*at, &["members"])?["leader"].as_u64());
            let told: Vec<_> = told.collect::<Option<_>>()?;
            let leader = usize::try_from(told[0]).ok()?.checked_sub(1)?;
            (nodes.contains(&leader) && told.iter().all(|other| *other == told[0])).then_some(leader)
        })
        .await
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

    fn ready_path(&self, at: usize) -> PathBuf {
        self.home.path().join(format!("{}.ready", self.nodes[at].id))
    }

    fn output_path(&self, at: usize) -> PathBuf {
        let node = &self.nodes[at];
        self.home.path().join(format!("{}-{}.log", node.id, node.starts))
    }

    fn launch(&mut self, at: usize) {
        self.nodes[at].starts += 1;
        let node = &self.nodes[at];
        let ready = self.ready_path(at);
        let _ = fs::remove_file(&ready);
        let mut settings = vec![
            format!("node=control-{}", node.id - 1),
            format!("admin.address={}", node.admin_wanted),
            format!("ready_file={}", ready.display()),
            format!("control.address={}", node.address),
            format!("control.peers={}", node.peers),
            format!("control.data_dir={}", node.folder.display()),
            format!("control.admin_token_file={}", self.token().display()),
            "control.election_min=800ms".to_owned(),
            "control.election_max=1600ms".to_owned(),
        ];
        settings.extend(self.settings.iter().map(|(key, value)| format!("{key}={value}")));
        let output = File::create(self.output_path(at)).expect("the folder is ours");
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&node.launcher).arg(binary()).arg("control");
        command.args(settings.iter().flat_map(|setting| ["--set", setting]));
        command.current_dir(self.home.path()).stdin(Stdio::null());
        command.stdout(output.try_clone().expect("a file handle can be cloned")).stderr(output);
        own_settings_only(&mut command);
        self.nodes[at].child = Some(command.spawn().expect("the binary starts"));
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
