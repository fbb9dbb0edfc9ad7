//! A real Redis for a log: on a port of its own, in a folder of its own, killed and started again at
//! the same address.
//!
//! Promises: the process never outlives its test (it is killed when the value is dropped, and by the
//! kernel when the thread that started it is gone), and only that process is ever signalled, by pid.

mod cluster;
mod watched;

use std::fs::{self, File};
use std::io;
use std::net::{IpAddr, Ipv4Addr, SocketAddr, TcpListener};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::clients::system;
use crate::left_out::say;
use crate::process::Options;

const LOOK_EVERY: Duration = Duration::from_millis(5);
/// Where it lies, the server is a Sentinel.
pub(crate) const SENTINEL_FILE: &str = "sentinel.conf";
const LOCALHOST: IpAddr = IpAddr::V4(Ipv4Addr::LOCALHOST);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the server still knows after it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// All it ever answered for: `appendonly yes`, `appendfsync always`.
    Everything,
    /// Nothing.
    Nothing,
}

pub use cluster::Cluster;
pub use watched::Watched;

/// A Redis server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    keeps: Keeps,
    /// Said besides what every server is told.
    arguments: Vec<String>,
    /// Commands that end by executing what follows them.
    launcher: Vec<String>,
    folder: TempDir,
    /// The address it listens at.
    host: IpAddr,
    port: u16,
    child: Option<Child>,
}

impl RedisServer {
    /// Starts a server and returns once it answers. `None`, said aloud, if there is no
    /// `redis-server` here.
    ///
    /// Call it on the thread of the test: the kernel kills the process when that thread ends.
    ///
    /// # Panics
    /// If `redis-server` is missing on CI, or does not start.
    pub async fn start(test: &str, keeps: Keeps) -> Option<Self> {
        Self::start_with(test, keeps, &[]).await
    }

    /// Starts one with more arguments.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_with(test: &str, keeps: Keeps, arguments: &[&str]) -> Option<Self> {
        let mut server = Self::prepare(test, keeps, arguments)?;
        server.run().await;
        Some(server)
    }

    /// Starts one of this program.
    ///
    /// # Panics
    /// If it does not start.
    pub async fn start_program(program: &Path, keeps: Keeps, arguments: &[&str]) -> Self {
        let mut server = Self::of(program.to_owned(), keeps, arguments);
        server.run().await;
        server
    }

    /// Starts one whose files lie in this folder, and which is launched by these words.
    ///
    /// # Panics
    /// As [`start`](Self::start).
    pub async fn start_in(test: &str, keeps: Keeps, arguments: &[&str], launcher: &[String]) -> Option<Self> {
        let mut server = Self::prepare(test, keeps, arguments)?;
        server.launcher = launcher.to_vec();
        server.run().await;
        Some(server)
    }

    /// One that does not run yet: its port and folder are known.
    pub(crate) fn prepare(test: &str, keeps: Keeps, arguments: &[&str]) -> Option<Self> {
        Some(Self::of(system(test, &["redis-server"])?, keeps, arguments))
    }

    fn of(program: PathBuf, keeps: Keeps, arguments: &[&str]) -> Self {
        let folder = tempfile::Builder::new().prefix("evergate-redis-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let arguments = arguments.iter().map(|&word| word.to_owned()).collect();
        Self {
            program,
            keeps,
            arguments,
            launcher: vec![],
            folder,
            host: LOCALHOST,
            port: free_port(),
            child: None,
        }
    }

    pub(crate) fn folder(&self) -> &std::path::Path {
        self.folder.path()
    }

    /// Has it listen at another address of this machine from the next start.
    pub(crate) fn move_to(&mut self, host: IpAddr) {
        self.host = host;
    }

    /// Adds an argument for the next start.
    pub(crate) fn argue(&mut self, words: &[&str]) {
        self.arguments.extend(words.iter().map(|&word| word.to_owned()));
    }

    /// Where it listens.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.port
    }

    /// Stops it where it is, as if the machine were asleep.
    pub fn pause(&self) {
        self.signal(Signal::STOP);
    }

    /// Lets it go on.
    pub fn resume(&self) {
        self.signal(Signal::CONT);
    }

    fn signal(&self, signal: Signal) {
        let child = self.child.as_ref().expect("it runs");
        kill_process(Pid::from_child(child), signal).expect("our own child can be signalled");
    }

    /// How an `evergate` with its log in this server is to be started.
    #[must_use]
    pub fn options(&self) -> Options {
        Options::redis(&format!("redis://127.0.0.1:{}/0", self.port))
    }

    /// SIGKILL, and waits until the process is gone.
    pub fn kill(&mut self) {
        let mut child = self.child.take().expect("it runs");
        child.kill().expect("our own child can be killed");
        child.wait().expect("our own child can be waited for");
    }

    /// Starts it again at the same address, with what it kept. It must have been killed.
    pub async fn restart(&mut self) {
        assert!(self.child.is_none(), "a restart wants the old process gone");
        self.run().await;
    }

    /// Sends one command over a connection of its own; returns the answer, which is text.
    ///
    /// # Errors
    /// Nobody answers there, or the answer is an error.
    pub async fn ask(&self, words: &[&str]) -> io::Result<String> {
        Ok(self.ask_list(words).await?.join("\n"))
    }

    /// Sends one command over a connection of its own; returns the answer's texts, one by one,
    /// however they are nested.
    ///
    /// # Errors
    /// Nobody answers there, or the answer is an error.
    pub async fn ask_list(&self, words: &[&str]) -> io::Result<Vec<String>> {
        let asking = async {
            let mut stream = BufReader::new(TcpStream::connect(self.address()).await?);
            let mut command = format!("*{}\r\n", words.len());
            for word in words {
                command += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(command.as_bytes()).await?;
            let (mut texts, mut wanted) = (Vec::new(), 1);
            while wanted > 0 {
                wanted -= 1;
                let mut line = String::new();
                stream.read_line(&mut line).await?;
                let odd = || io::Error::other(format!("{words:?} is answered by {line:?}"));
                let line = line.strip_suffix("\r\n").ok_or_else(odd)?;
                let (kind, rest) = line.split_at_checked(1).ok_or_else(odd)?;
                match (kind, rest) {
                    ("$" | "*", "-1") => {}
                    ("$", length) => {
                        let mut text = vec![0; length.parse::<usize>().map_err(|_| odd())? + 2];
                        stream.read_exact(&mut text).await?;
                        text.truncate(text.len() - 2);
                        texts.push(String::from_utf8(text).map_err(|_| odd())?);
                    }
                    ("*", count) => wanted += count.parse::<usize>().map_err(|_| odd())?,
                    ("+" | ":", text) => texts.push(text.to_owned()),
                    _ => return Err(odd()),
                }
            }
            Ok(texts)
        };
        tokio::time::timeout(ANSWER_MAX, asking).await?
    }

    /// Whether it takes itself for a primary. One that does not answer is none.
    pub async fn is_primary(&self) -> bool {
        self.ask(&["INFO", "replication"]).await.is_ok_and(|told| told.contains("role:master"))
    }

    /// Waits until it is a replica, in step with its primary.
    ///
    /// # Panics
    /// If that takes too long.
    pub async fn until_in_step(&self) {
        let deadline = Instant::now() + PATIENCE * 2;
        loop {
            let told = self.ask(&["INFO", "replication"]).await.unwrap_or_default();
            if told.contains("master_link_status:up") {
                return;
            }
            assert!(Instant::now() < deadline, "it is never in step: {told}");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Sends one command that must succeed.
    ///
    /// # Panics
    /// If it does not.
    pub async fn must(&self, words: &[&str]) -> String {
        self.ask(words).await.unwrap_or_else(|error| panic!("{words:?}: {error}"))
    }

    /// Forgets everything there is.
    pub async fn flush(&self) {
        assert_eq!(self.ask(&["FLUSHALL"]).await.expect("it answers"), "OK");
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from((self.host, self.port))
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output.txt")
    }

    /// Starts the process and waits until it answers. One that ends at once is started again: its
    /// port may be the momentary end of somebody else's connection.
    pub(crate) async fn run(&mut self) {
        let deadline = Instant::now() + PATIENCE;
        loop {
            let mut child = self.spawn();
            let pid = child.id();
            while child.try_wait().expect("our own child can be asked").is_none() {
                if self.is_answered_by(pid).await {
                    self.child = Some(child);
                    return;
                }
                if Instant::now() > deadline {
                    let _ = child.kill();
                    let _ = child.wait();
                    panic!("redis-server answers nothing within {PATIENCE:?}; it wrote:\n{}", self.told());
                }
                tokio::time::sleep(LOOK_EVERY).await;
            }
            assert!(Instant::now() < deadline, "redis-server does not stay; it wrote:\n{}", self.told());
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    /// Whether it is this process that answers at the address, and no stranger, and it has read
    /// everything it kept.
    async fn is_answered_by(&self, pid: u32) -> bool {
        if self.ask(&["PING"]).await.is_err() {
            return false;
        }
        let told = self.ask(&["INFO", "server"]).await;
        told.is_ok_and(|told| told.lines().any(|line| line == format!("process_id:{pid}")))
    }

    fn spawn(&self) -> Child {
        let output = File::options().create(true).append(true).open(self.output());
        let output = output.expect("the folder is ours");
        let persistence: &[&str] = match self.keeps {
            Keeps::Everything => &["--appendonly", "yes", "--appendfsync", "always"],
            Keeps::Nothing => &["--appendonly", "no"],
        };
        let mut command = Command::new("setpriv");
        command.args(["--pdeathsig", "KILL", "--"]).args(&self.launcher).arg(&self.program);
        if self.is_sentinel() {
            command.arg(self.folder.path().join(SENTINEL_FILE)).arg("--sentinel");
        } else {
            command
                .args(["--bind", &self.host.to_string(), "--port", &self.port.to_string(), "--save", ""])
                .args(["--repl-diskless-sync-delay", "0"])
                .args(guarded_debug(&self.program))
                .arg("--dir")
                .arg(self.folder.path())
                .args(persistence)
                .args(&self.arguments);
        }
        command
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .expect("setpriv can be started")
    }

    fn is_sentinel(&self) -> bool {
        self.folder.path().join(SENTINEL_FILE).exists()
    }

    fn told(&self) -> String {
        fs::read_to_string(self.output()).unwrap_or_default()
    }
}

impl Drop for RedisServer {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            // Both fail only where the process is gone already, which is what is wanted.
            let _ = child.kill();
            let _ = child.wait();
        }
        if std::thread::panicking() {
            say(&format!("--- redis-server wrote:\n{}---\n", self.told()));
        }
    }
}

/// A port that was free a moment ago.
fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("there are free ports");
    listener.local_addr().expect("it is bound").port()
}

/// What has a server answer DEBUG, which is guarded since Redis 7; one before knows no such setting.
fn guarded_debug(program: &Path) -> &'static [&'static str] {
    let told = Command::new(program).arg("--version").output().expect("a server tells its version");
    let old = String::from_utf8_lossy(&told.stdout).contains("v=6.");
    if old { &[] } else { &["--enable-debug-command", "yes"] }
}
