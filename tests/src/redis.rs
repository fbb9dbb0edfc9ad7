//! A real Redis for a log: on a port of its own, in a folder of its own, killed and started again at
//! the same address.
//!
//! Promises: the process never outlives its test (it is killed when the value is dropped, and by the
//! kernel when the thread that started it is gone), and only that process is ever signalled, by pid.

use std::fs::{self, File};
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader};
use tokio::net::TcpStream;

use crate::PATIENCE;
use crate::clients::system;
use crate::left_out::say;
use crate::process::Options;

const LOOK_EVERY: Duration = Duration::from_millis(5);
const ANSWER_MAX: Duration = Duration::from_secs(5);

/// What the server still knows after it was killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Keeps {
    /// All it ever answered for: `appendonly yes`, `appendfsync always`.
    Everything,
    /// Nothing.
    Nothing,
}

/// A Redis server. Dropping it kills it.
#[derive(Debug)]
pub struct RedisServer {
    program: PathBuf,
    keeps: Keeps,
    folder: TempDir,
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
        let program = system(test, &["redis-server"])?;
        let folder = tempfile::Builder::new().prefix("evergate-redis-").tempdir();
        let folder = folder.expect("a temporary folder can be made");
        let mut server = Self { program, keeps, folder, port: free_port(), child: None };
        server.run().await;
        Some(server)
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
        let asking = async {
            let mut stream = BufReader::new(TcpStream::connect(self.address()).await?);
            let mut command = format!("*{}\r\n", words.len());
            for word in words {
                command += &format!("${}\r\n{word}\r\n", word.len());
            }
            stream.write_all(command.as_bytes()).await?;
            let mut line = String::new();
            stream.read_line(&mut line).await?;
            let odd = || io::Error::other(format!("{words:?} is answered by {line:?}"));
            let line = line.strip_suffix("\r\n").ok_or_else(odd)?;
            if let Some(length) = line.strip_prefix('$') {
                let mut text = vec![0; length.parse().map_err(|_| odd())?];
                stream.read_exact(&mut text).await?;
                return String::from_utf8(text).map_err(|_| odd());
            }
            line.strip_prefix('+').map(str::to_owned).ok_or_else(odd)
        };
        tokio::time::timeout(ANSWER_MAX, asking).await?
    }

    /// Forgets everything there is.
    pub async fn flush(&self) {
        assert_eq!(self.ask(&["FLUSHALL"]).await.expect("it answers"), "OK");
    }

    fn address(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.port))
    }

    fn output(&self) -> PathBuf {
        self.folder.path().join("output.txt")
    }

    /// Starts the process and waits until it answers. One that ends at once is started again: its
    /// port may be the momentary end of somebody else's connection.
    async fn run(&mut self) {
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
        Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(&self.program)
            .args(["--bind", "127.0.0.1", "--port", &self.port.to_string(), "--save", ""])
            .arg("--dir")
            .arg(self.folder.path())
            .args(persistence)
            .stdin(Stdio::null())
            .stdout(output.try_clone().expect("a file handle can be cloned"))
            .stderr(output)
            .spawn()
            .expect("setpriv can be started")
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
