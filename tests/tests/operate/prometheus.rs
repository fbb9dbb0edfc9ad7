//! A real Prometheus of a test's own, which scrapes real processes.

use std::fs;
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use evergate_tests::clients::{checkout, system};
use evergate_tests::http1::{Request, call};
use serde_json::Value;
use tempfile::TempDir;

/// How long it may take to start, or to have what is asked for.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running Prometheus. Dropping it kills it.
pub(crate) struct Prometheus {
    child: Child,
    address: SocketAddr,
    home: TempDir,
}

impl Prometheus {
    /// Starts one that scrapes these admin ports every second and evaluates the chart's rules. `None`,
    /// said aloud, where it is not installed.
    pub(crate) async fn start(test: &str, targets: &[SocketAddr]) -> Option<Self> {
        let program = system(test, &["prometheus"])?;
        let home = tempfile::tempdir().expect("a folder can be made");
        let targets: Vec<String> = targets.iter().map(ToString::to_string).collect();
        // As fast as the test is: the chart's own interval would let it wait for half a minute.
        let rules =
            fs::read_to_string(checkout().join("helm/evergate/rules/evergate.yaml")).expect("readable");
        let rules = rules.replace("interval: 30s", "interval: 1s");
        fs::write(home.path().join("rules.yaml"), rules).expect("the folder is ours");
        let config = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [rules.yaml]\n\
             scrape_configs:\n  - job_name: evergate\n    honor_labels: true\n    static_configs:\n      - targets: {targets:?}\n"
        );
        let file = home.path().join("prometheus.yaml");
        fs::write(&file, config).expect("the folder is ours");
        let address = {
            // Its own log is the only place where it would tell a port of the system's choice.
            let free = TcpListener::bind("127.0.0.1:0").expect("a port is free");
            free.local_addr().expect("it is bound")
        };
        let log = fs::File::create(home.path().join("log")).expect("the folder is ours");
        let child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL"])
            .arg(program)
            .arg(format!("--config.file={}", file.display()))
            .arg(format!("--storage.tsdb.path={}", home.path().join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .arg("--enable-feature=exemplar-storage")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv starts");
        let prometheus = Self { child, address, home };
        let begun = Instant::now();
        // It listens before it has loaded anything, and answers 503 until then.
        while !prometheus.is_ready().await {
            assert!(begun.elapsed() < PATIENCE, "Prometheus is not ready: {}", prometheus.log());
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
        Some(prometheus)
    }

    async fn is_ready(&self) -> bool {
        std::net::TcpStream::connect(self.address).is_ok()
            && call(self.address, Request::get("/-/ready")).await.status() == 200
    }

    fn log(&self) -> String {
        fs::read_to_string(self.home.path().join("log")).unwrap_or_default()
    }

    /// What its API answers below `data`.
    ///
    /// # Panics
    /// With its own words, if it refuses.
    pub(crate) async fn ask(&self, path: &str) -> Value {
        let answer = call(self.address, Request::get(path)).await;
        let json = answer.json();
        assert_eq!(json["status"], "success", "{path}: {json}");
        json["data"].clone()
    }

    /// The series that a query finds now.
    pub(crate) async fn query(&self, query: &str) -> Vec<Value> {
        let data = self.ask(&format!("/api/v1/query?query={}", encoded(query))).await;
        data["result"].as_array().cloned().unwrap_or_default()
    }

    /// Waits until this finds something.
    ///
    /// # Panics
    /// If it never does.
    pub(crate) async fn until<T>(&self, what: &str, find: impl AsyncFn() -> Option<T>) -> T {
        let begun = Instant::now();
        loop {
            if let Some(found) = find().await {
                return found;
            }
            assert!(begun.elapsed() < PATIENCE, "{what} is never found: {}", self.log());
            tokio::time::sleep(Duration::from_millis(200)).await;
        }
    }

    /// Waits until each query finds something. Returns those that never did.
    pub(crate) async fn empty_after_patience(&self, queries: &[(String, String)]) -> Vec<String> {
        let begun = Instant::now();
        let mut left: Vec<&(String, String)> = queries.iter().collect();
        loop {
            let mut still = Vec::new();
            for of in left {
                if self.query(&of.1).await.is_empty() {
                    still.push(of);
                }
            }
            left = still;
            if left.is_empty() || begun.elapsed() > PATIENCE {
                return left.into_iter().map(|(place, query)| format!("{place}: {query}")).collect();
            }
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }
}

impl Drop for Prometheus {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A query as part of a URL.
fn encoded(query: &str) -> String {
    query
        .bytes()
        .map(|byte| match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'_' | b'.' | b'-' => char::from(byte).to_string(),
            _ => format!("%{byte:02X}"),
        })
        .collect()
}
