//! One running `evergate`: started in a folder of its own, waited for, killed, restarted.
//!
//! Promises: the process never outlives its test (it is killed when the value is dropped, and by the
//! kernel when the thread that started it is gone), and only that process is ever signalled, by pid.

use std::fs::{self, File};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal};
use tempfile::TempDir;

/// A slow start is a mistake of its own, but not one every test should fail for.
const START_MAX: Duration = Duration::from_secs(30);
/// Until what was seen is also said.
const WRITTEN_MAX: Duration = Duration::from_secs(30);
const LOOK_EVERY: Duration = Duration::from_millis(5);

/// How the process is to be started.
#[derive(Debug, Clone)]
pub struct Options {
    role: &'static str,
    log: Log,
    settings: Vec<(String, String)>,
    /// The text of a configuration file.
    file: Option<String>,
    host: IpAddr,
    launcher: Vec<String>,
}

#[derive(Debug, Clone)]
enum Log {
    Memory,
    /// In the process's own folder, or at a place given.
    Disk(Option<PathBuf>),
    /// In a Redis, by its URL.
    Redis(String),
}

/// Where the process listens.
#[derive(Debug, Clone, Copy)]
pub struct Addresses {
    /// SSE and HTTP API.
    pub http: SocketAddr,
    /// gRPC.
    pub grpc: SocketAddr,
    /// Health, metrics, admin.
    pub admin: SocketAddr,
}

/// A running process. Dropping it kills it.
#[derive(Debug)]
pub struct Evergate {
    child: Child,
    addresses: Addresses,
    options: Options,
    home: TempDir,
    starts: u32,
}

impl Options {
    /// With a log that dies with the process.
    #[must_use]
    pub fn memory() -> Self {
        Self::new(Log::Memory)
    }

    /// With a durable log in the process's own folder.
    #[must_use]
    pub fn disk() -> Self {
        Self::new(Log::Disk(None))
    }

    /// With a durable log at a given place.
    #[must_use]
    pub fn disk_at(folder: &Path) -> Self {
        Self::new(Log::Disk(Some(folder.to_owned())))
    }

    /// With its log in the Redis at this URL.
    #[must_use]
    pub fn redis(url: &str) -> Self {
        Self::new(Log::Redis(url.to_owned()))
    }

    fn new(log: Log) -> Self {
        let host = Ipv4Addr::LOCALHOST.into();
        Self { role: "dev", log, settings: Vec::new(), file: None, host, launcher: Vec::new() }
    }

    /// Runs it as an edge, as it is run in production.
    #[must_use]
    pub fn as_edge(mut self) -> Self {
        self.role = "edge";
        self
    }

    /// Adds `--set key=value`.
    #[must_use]
    pub fn set(mut self, key: &str, value: &str) -> Self {
        self.settings.push((key.to_owned(), value.to_owned()));
        self
    }

    /// Gives it a configuration file with this text.
    #[must_use]
    pub fn configured(mut self, text: &str) -> Self {
        self.file = Some(text.to_owned());
        self
    }

    /// Listens at this address instead of the machine's own.
    #[must_use]
    pub fn listening_at(mut self, host: IpAddr) -> Self {
        self.host = host;
        self
    }

    /// A command that ends by executing what follows it, such as `unshare`. It must keep the pid.
    #[must_use]
    pub fn launched_by(mut self, command: &[&str]) -> Self {
        self.launcher = command.iter().map(|&word| word.to_owned()).collect();
        self
    }
}

impl Addresses {
    /// Ports of the system's choice.
    fn anywhere(host: IpAddr) -> Self {
        let address = SocketAddr::new(host, 0);
        Self { http: address, grpc: address, admin: address }
    }
}

impl Evergate {
    /// Starts a process and returns once every listener is bound.
    ///
    /// Call it on the thread of the test: the kernel kills the process when that thread ends.
    pub async fn start(options: Options) -> Self {
        let home = new_home();
        let launched = launch(&options, home.path(), Addresses::anywhere(options.host), 1).await;
        let (child, addresses) = launched.unwrap_or_else(|why| panic!("{why}"));
        Self { child, addresses, options, home, starts: 1 }
    }

    /// Starts a second process at the addresses of this one, which must leave them to it, and returns
    /// once it is ready.
    pub async fn successor(&self, options: Options) -> Self {
        let home = new_home();
        let launched = launch(&options, home.path(), self.addresses, 1).await;
        let (child, addresses) = launched.unwrap_or_else(|why| panic!("{why}"));
        Self { child, addresses, options, home, starts: 1 }
    }

    /// Starts a second process at the HTTP address of this one, which goes on. The error is what it wrote.
    pub async fn beside(&self, options: Options) -> Result<Self, String> {
        let home = new_home();
        let at = Addresses { http: self.addresses.http, ..Addresses::anywhere(options.host) };
        let (child, addresses) = launch(&options, home.path(), at, 1).await?;
        Ok(Self { child, addresses, options, home, starts: 1 })
    }

    /// Starts a process that must refuse to run. Returns what it wrote.
    pub async fn refusal(options: Options) -> String {
        let home = new_home();
        match launch(&options, home.path(), Addresses::anywhere(options.host), 1).await {
            Err(why) => why,
            Ok((mut child, _)) => {
                let _ = child.kill();
                let _ = child.wait();
                panic!("it runs, with {options:?}");
            }
        }
    }

    /// The address of SSE and the HTTP API.
    #[must_use]
    pub fn http(&self) -> SocketAddr {
        self.addresses.http
    }

    /// The gRPC address.
    #[must_use]
    pub fn grpc(&self) -> SocketAddr {
        self.addresses.grpc
    }

    /// The admin address.
    #[must_use]
    pub fn admin(&self) -> SocketAddr {
        self.addresses.admin
    }

    /// The URL of a path on the HTTP listener.
    #[must_use]
    pub fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addresses.http)
    }

    /// The process id.
    #[must_use]
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Where a durable log lies.
    #[must_use]
    pub fn log_folder(&self) -> PathBuf {
        match &self.options.log {
            Log::Disk(Some(folder)) => folder.clone(),
            Log::Disk(None) => own_log(self.home.path()),
            Log::Memory | Log::Redis(_) => panic!("this log lies in no folder"),
        }
    }

    /// How many descriptors the process has open.
    #[must_use]
    pub fn descriptors(&self) -> usize {
        fs::read_dir(format!("/proc/{}/fd", self.pid())).expect("our own child can be looked at").count()
    }

    /// The memory the process has in use, in bytes.
    #[must_use]
    pub fn resident_bytes(&self) -> u64 {
        let status = fs::read_to_string(format!("/proc/{}/status", self.pid()));
        let status = status.expect("our own child can be looked at");
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).expect("it has memory");
        let kib: u64 = line.trim().trim_end_matches(" kB").parse().expect("a number");
        kib << 10
    }

    /// Everything the process has written so far, of its latest start.
    #[must_use]
    pub fn output(&self) -> String {
        output_of(self.home.path(), self.starts)
    }

    /// Waits until it has written this. What it does can be seen before what it says of it.
    ///
    /// # Panics
    /// If it never does.
    pub async fn writes(&self, text: &str) {
        let deadline = Instant::now() + WRITTEN_MAX;
        while !self.output().contains(text) {
            assert!(Instant::now() < deadline, "{text:?} is never written:\n{}", self.output());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        self.child.kill().expect("our own child can be killed");
        self.child.wait().expect("our own child can be waited for");
    }

    /// SIGTERM. Does not wait.
    pub fn terminate(&self) {
        self.signal(Signal::TERM);
    }

    /// Sends a signal to the process.
    pub fn signal(&self, signal: Signal) {
        rustix::process::kill_process(Pid::from_child(&self.child), signal)
            .expect("our own child can be signalled");
    }

    /// Waits for the process to end by itself.
    pub async fn ended(&mut self, within: Duration) -> ExitStatus {
        let deadline = Instant::now() + within;
        loop {
            if let Some(status) = self.child.try_wait().expect("our own child can be asked") {
                return status;
            }
            assert!(
                Instant::now() < deadline,
                "the process did not end within {within:?}; it wrote:\n{}",
                self.output()
            );
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Adds `--set key=value` for the next start, such as where others have come to listen.
    pub fn set(&mut self, key: &str, value: &str) {
        self.options = self.options.clone().set(key, value);
    }

    /// Starts it again on the same ports and the same log. It must have ended or been killed.
    /// Returns how long it took until every listener was bound.
    pub async fn restart(&mut self) -> Duration {
        let ended = self.child.try_wait().expect("our own child can be asked");
        assert!(ended.is_some(), "a restart wants the old process gone");
        self.starts += 1;
        let begun = Instant::now();
        let launched = launch(&self.options, self.home.path(), self.addresses, self.starts).await;
        let (child, addresses) = launched.unwrap_or_else(|why| panic!("{why}"));
        self.child = child;
        self.addresses = addresses;
        begun.elapsed()
    }
}

impl Drop for Evergate {
    fn drop(&mut self) {
        // Both fail only where the process is gone already, which is what is wanted.
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            crate::left_out::say(&format!(
                "--- evergate, start {}, wrote:\n{}---\n",
                self.starts,
                self.output()
            ));
        }
    }
}

/// Every setting can also come from the environment; those of whoever runs the tests must not leak in.
pub fn own_settings_only(command: &mut Command) {
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVERGATE_") {
            command.env_remove(name);
        }
    }
}

/// The binary under test: `EVERGATE_BIN`, or the one built beside the test.
#[must_use]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("EVERGATE_BIN") {
        return path.into();
    }
    // <target>/<profile>/deps/<test> stands beside <target>/<profile>/evergate.
    let test = std::env::current_exe().expect("a test knows its own path");
    let beside = test.ancestors().nth(2).expect("a test is built in deps/").join("evergate");
    assert!(
        beside.exists(),
        "{} is missing: run `cargo build -p evergate` first, or `make test`, or set EVERGATE_BIN",
        beside.display()
    );
    beside
}

fn new_home() -> TempDir {
    let home = tempfile::Builder::new().prefix("evergate-test-").tempdir();
    home.expect("a temporary folder can be made")
}

/// Starts a process; an error says how it ended instead, and what it wrote.
async fn launch(
    options: &Options,
    home: &Path,
    at: Addresses,
    start: u32,
) -> Result<(Child, Addresses), String> {
    let ready = home.join("ready.json");
    // A file of an earlier start would tell of listeners that are gone.
    let _ = fs::remove_file(&ready);
    let output = File::create(output_path(home, start)).expect("the folder is ours");

    let mut words: Vec<String> = vec!["setpriv".into(), "--pdeathsig".into(), "KILL".into()];
    words.extend(options.launcher.iter().cloned());
    words.push(binary().display().to_string());
    words.push(options.role.into());
    let log = match &options.log {
        Log::Memory => "memory".to_owned(),
        Log::Redis(url) => url.clone(),
        Log::Disk(None) => format!("disk:{}", own_log(home).display()),
        Log::Disk(Some(folder)) => format!("disk:{}", folder.display()),
    };
    let flags = [
        ("--http", at.http.to_string()),
        ("--grpc", at.grpc.to_string()),
        ("--admin", at.admin.to_string()),
        ("--log", log),
        ("--ready-file", ready.display().to_string()),
    ];
    for (flag, value) in flags {
        words.push(flag.into());
        words.push(value);
    }
    if let Some(text) = &options.file {
        let file = home.join("evergate.toml");
        fs::write(&file, text).expect("the folder is ours");
        words.push("--config".into());
        words.push(file.display().to_string());
    }
    for (key, value) in &options.settings {
        words.push("--set".into());
        words.push(format!("{key}={value}"));
    }

    let mut command = Command::new(&words[0]);
    command
        .args(&words[1..])
        .current_dir(home)
        .stdin(Stdio::null())
        .stdout(output.try_clone().expect("a file handle can be cloned"))
        .stderr(output);
    own_settings_only(&mut command);
    // No balancer looks at it here. What a test sets itself says more than the environment.
    command.env("EVERGATE_SHUTDOWN_GRACE", "0s");
    let mut child = command.spawn().unwrap_or_else(|error| panic!("{} cannot be started: {error}", words[0]));

    let deadline = Instant::now() + START_MAX;
    let text = loop {
        // Renamed into place, so what is there is whole.
        if let Ok(text) = fs::read_to_string(&ready) {
            break text;
        }
        let ended = child.try_wait().expect("our own child can be asked");
        if ended.is_some() || Instant::now() > deadline {
            let _ = child.kill();
            let _ = child.wait();
            let what = ended.map_or_else(
                || format!("was not ready within {START_MAX:?}"),
                |status| format!("ended before it was ready ({status}, signal {:?})", status.signal()),
            );
            return Err(format!("{} {what}; it wrote:\n{}", words.join(" "), output_of(home, start)));
        }
        tokio::time::sleep(LOOK_EVERY).await;
    };
    let told: serde_json::Value = serde_json::from_str(&text).expect("the ready file is JSON");
    assert_eq!(told["pid"], child.id(), "the ready file names the process: {text}");
    let address = |name: &str| {
        told[name]
            .as_str()
            .and_then(|text| text.parse::<SocketAddr>().ok())
            .unwrap_or_else(|| panic!("the ready file tells the {name} address: {text}"))
    };
    let addresses = Addresses { http: address("http"), grpc: address("grpc"), admin: address("admin") };
    Ok((child, addresses))
}

fn own_log(home: &Path) -> PathBuf {
    home.join("log")
}

fn output_path(home: &Path, start: u32) -> PathBuf {
    home.join(format!("output-{start}.txt"))
}

fn output_of(home: &Path, start: u32) -> String {
    fs::read_to_string(output_path(home, start)).unwrap_or_default()
}
