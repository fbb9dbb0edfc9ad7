//! Redis servers that tests start for themselves: on free ports, in folders of their own, ended by
//! their own process ids. `EVERGATE_REDIS_SERVER` names another program than `redis-server`.

use std::net::TcpListener;
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{Level, Retention, StreamLevels, StreamPolicies, UnixMillis};
use parking_lot::Mutex;
use redis::aio::MultiplexedConnection;
use redis::{FromRedisValue, cmd};

use super::address::Address;
use super::{RedisLog, RedisOptions, RedisUrl};
use crate::{Clock, ManualClock};

/// How long a test waits for what must come.
pub(super) const PATIENCE: Duration = Duration::from_secs(20);

/// A server. Killed when it is dropped.
pub(super) struct Server {
    dir: tempfile::TempDir,
    port: u16,
    arguments: Vec<String>,
    /// Without it, nothing is answered.
    password: Option<String>,
    child: Mutex<Option<Child>>,
}

impl Server {
    /// One without persistence.
    pub(super) async fn start() -> Self {
        Self::start_with(&["--appendonly", "no"]).await
    }

    /// One that has written every append to its file before it answers.
    pub(super) async fn start_durable() -> Self {
        Self::start_with(&["--appendonly", "yes", "--appendfsync", "always"]).await
    }

    pub(super) async fn start_with(arguments: &[&str]) -> Self {
        let server = Self {
            dir: tempfile::tempdir().expect("a directory"),
            port: free_port(),
            arguments: arguments.iter().map(|&argument| argument.to_owned()).collect(),
            password: None,
            child: Mutex::default(),
        };
        server.run().await;
        server
    }

    /// A Sentinel, told so much besides its port.
    pub(super) async fn sentinel(text: &str) -> Self {
        Self::guarded_sentinel(text, None).await
    }

    /// One that wants a password.
    pub(super) async fn guarded_sentinel(text: &str, password: Option<&str>) -> Self {
        let server = Self {
            dir: tempfile::tempdir().expect("a directory"),
            port: free_port(),
            arguments: vec![],
            password: password.map(str::to_owned),
            child: Mutex::default(),
        };
        let dir = server.dir.path().display();
        let guard = password.map(|password| format!("requirepass {password}\n")).unwrap_or_default();
        let text = format!("port {}\nbind 127.0.0.1\ndir {dir}\n{guard}{text}", server.port);
        std::fs::write(server.sentinel_file(), text).expect("a file");
        server.run().await;
        server
    }

    /// Where it lies, the server is a Sentinel.
    fn sentinel_file(&self) -> std::path::PathBuf {
        self.dir.path().join("sentinel.conf")
    }

    /// A replica of this one, in step with it.
    pub(super) async fn replica(&self) -> Self {
        let port = self.port.to_string();
        let replica = Self::start_with(&["--appendonly", "no", "--replicaof", "127.0.0.1", &port]).await;
        replica.synchronised().await;
        replica
    }

    /// Waits until this replica is in step.
    pub(super) async fn synchronised(&self) {
        until("the replica is in step", || async {
            let info: String = self.ask(&["INFO", "replication"]).await.unwrap_or_default();
            info.contains("master_link_status:up")
        })
        .await;
    }

    /// Starts the process, again if it was stopped.
    pub(super) async fn run(&self) {
        let log = std::fs::File::create(self.dir.path().join("log")).expect("a file");
        let program = std::env::var_os("EVERGATE_REDIS_SERVER").unwrap_or_else(|| "redis-server".into());
        let mut command = Command::new(program);
        if self.sentinel_file().exists() {
            command.arg(self.sentinel_file()).arg("--sentinel");
        } else {
            command
                .args(["--port", &self.port.to_string(), "--bind", "127.0.0.1", "--save", ""])
                .args(["--repl-diskless-sync-delay", "0", "--enable-debug-command", "yes"])
                .arg("--dir")
                .arg(self.dir.path())
                .args(&self.arguments);
        }
        let child = command
            .stdin(Stdio::null())
            .stdout(log)
            .spawn()
            .expect("redis-server is installed, see scripts/setup.sh");
        *self.child.lock() = Some(child);
        until("the server answers", || async {
            self.ask::<String>(&["PING"]).await.is_ok_and(|pong| pong == "PONG")
        })
        .await;
    }

    fn pid(&self) -> rustix::process::Pid {
        let child = self.child.lock();
        rustix::process::Pid::from_child(child.as_ref().expect("it runs"))
    }

    /// Sends it a signal.
    pub(super) fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(self.pid(), signal).expect("its own child");
    }

    /// Ends it at once.
    pub(super) fn kill(&self) {
        if let Some(mut child) = self.child.lock().take() {
            child.kill().expect("its own child");
            child.wait().expect("its own child");
        }
    }

    pub(super) fn port(&self) -> u16 {
        self.port
    }

    pub(super) fn url(&self) -> RedisUrl {
        let login = self.password.as_ref().map(|password| format!(":{password}@")).unwrap_or_default();
        RedisUrl::parse(&format!("redis://{login}127.0.0.1:{}", self.port)).expect("valid")
    }

    pub(super) async fn connect(&self) -> redis::RedisResult<MultiplexedConnection> {
        let address = Address::new("127.0.0.1", self.port);
        super::link::connect(&RedisOptions::new(self.url()), &address, None).await
    }

    /// Sends one command over a connection of its own.
    pub(super) async fn ask<T: FromRedisValue>(&self, words: &[&str]) -> redis::RedisResult<T> {
        let mut connection = self.connect().await?;
        let mut command = cmd(words[0]);
        command.arg(&words[1..]);
        command.query_async(&mut connection).await
    }

    /// How a log on it is opened.
    pub(super) fn options(&self, level: Level) -> RedisOptions {
        RedisOptions { levels: StreamLevels::all(level), ..RedisOptions::new(self.url()) }
    }

    /// A log on it.
    pub(super) async fn log(&self, level: Level) -> Arc<RedisLog> {
        log(self.options(level), StreamPolicies::open(Retention::FOREVER), clock()).await
    }
}

/// A log.
pub(super) async fn log(
    options: RedisOptions,
    policies: StreamPolicies,
    clock: Arc<dyn Clock>,
) -> Arc<RedisLog> {
    Arc::new(RedisLog::open(options, Arc::new(policies), clock).await.expect("opens"))
}

impl Drop for Server {
    fn drop(&mut self) {
        self.kill();
    }
}

/// A clock that stands still at a known time.
pub(super) fn clock() -> Arc<ManualClock> {
    Arc::new(ManualClock::at(UnixMillis::new(1_700_000_000_000)))
}

/// Waits for something that must become true.
pub(super) async fn until<F: Future<Output = bool>>(what: &str, mut is_so: impl FnMut() -> F) {
    let waiting = async {
        while !is_so().await {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    listener.local_addr().expect("bound").port()
}

/// What lies in a stream, read by another client over another connection: offsets and events, as
/// they are stored.
pub(super) async fn oracle(server: &Server, stream: &evergate_domain::StreamName) -> Vec<(String, String)> {
    use fred::prelude::{Builder, ClientLike as _, Config, StreamsInterface as _};
    use fred::types::streams::XReadValue;

    let config = Config::from_url(&format!("redis://127.0.0.1:{}", server.port())).expect("valid");
    let client = Builder::from_config(config).build().expect("a client");
    let _task = client.init().await.expect("connects");
    let key = super::keys::Keys::of(stream).log();
    let read: Vec<XReadValue<String, String, String>> =
        client.xrange_values(key.as_str(), "-", "+", None).await.expect("reads");
    client.quit().await.expect("quits");
    read.into_iter().map(|(id, mut fields)| (id, fields.remove("e").expect("an event"))).collect()
}
