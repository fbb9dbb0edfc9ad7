//! The binary as its callers see it: exit codes, standard error, the ready file, signals.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::fs;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;

/// Longer than anything here takes, even on a loaded machine.
const PATIENCE: Duration = Duration::from_secs(30);

fn evergate(arguments: &[&str]) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_evergate"));
    command.args(arguments).stdin(Stdio::null());
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("EVERGATE_") {
            command.env_remove(name);
        }
    }
    command
}

fn run(arguments: &[&str]) -> Output {
    evergate(arguments).output().unwrap()
}

fn stderr(output: &Output) -> &str {
    std::str::from_utf8(&output.stderr).unwrap()
}

/// A gateway of its own, on ports of the system's choice.
struct Gateway {
    process: Child,
    directory: TempDir,
    addresses: Value,
}

impl Gateway {
    fn start(arguments: &[&str]) -> Self {
        Self::start_as("dev", arguments)
    }

    fn start_as(role: &str, arguments: &[&str]) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let ready = directory.path().join("ready.json");
        let mut process = evergate(&[role, "--http", "127.0.0.1:0", "--grpc", "127.0.0.1:0"])
            .args(["--admin", "127.0.0.1:0", "--log", "memory", "--ready-file"])
            .arg(&ready)
            .args(arguments)
            .current_dir(directory.path())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let addresses = wait_for(&mut process, &ready);
        Self { process, directory, addresses }
    }

    fn address(&self, of: &str) -> SocketAddr {
        self.addresses[of].as_str().unwrap().parse().unwrap()
    }

    fn ready_file(&self) -> PathBuf {
        self.directory.path().join("ready.json")
    }

    fn signal(&self, signal: Signal) {
        let pid = Pid::from_child(&self.process);
        kill_process(pid, signal).unwrap();
    }

    /// Waits for the end, and gives its code and what was logged.
    fn end(mut self) -> (Option<i32>, String) {
        let mut log = String::new();
        self.process.stderr.take().unwrap().read_to_string(&mut log).unwrap();
        (self.process.wait().unwrap().code(), log)
    }
}

impl Drop for Gateway {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

fn wait_for(process: &mut Child, ready: &Path) -> Value {
    let begun = Instant::now();
    loop {
        if let Ok(text) = fs::read(ready) {
            return serde_json::from_slice(&text).expect("the file appears whole");
        }
        assert!(process.try_wait().unwrap().is_none(), "it ended before it was ready");
        assert!(begun.elapsed() < PATIENCE, "it is not ready");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Status line and body.
fn get(address: SocketAddr, path: &str) -> (String, String) {
    let mut socket = TcpStream::connect(address).unwrap();
    write!(socket, "GET {path} HTTP/1.1\r\nhost: h\r\nconnection: close\r\n\r\n").unwrap();
    let mut answer = String::new();
    socket.read_to_string(&mut answer).unwrap();
    let (head, body) = answer.split_once("\r\n\r\n").unwrap();
    (head.lines().next().unwrap().to_owned(), body.to_owned())
}

/// An event stream that has been opened, and stays open.
fn open_stream(address: SocketAddr) -> BufReader<TcpStream> {
    let mut socket = TcpStream::connect(address).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    write!(socket, "GET /v1/streams/s/events HTTP/1.1\r\nhost: h\r\n\r\n").unwrap();
    let mut stream = BufReader::new(socket);
    read_until(&mut stream, "evergate.open");
    stream
}

fn read_until(stream: &mut impl BufRead, what: &str) {
    let mut line = String::new();
    while !line.contains(what) {
        line.clear();
        assert_ne!(stream.read_line(&mut line).unwrap(), 0, "it ended before {what}");
    }
}

#[test]
fn config_check_tells_every_mistake_and_exits_with_2() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("evergate.toml");
    fs::write(&path, "[http]\nadress = 1\n").unwrap();
    let name = path.to_str().unwrap();
    let output = evergate(&["config", "check", "--config", name, "--grpc", "nowhere"])
        .env("EVERGATE_SSE_HEARTBEAT", "1m")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(2));
    let expected = format!(
        "{name}:2:1: http.adress: unknown setting; did you mean \"http.address\"?\n\
         environment EVERGATE_SSE_HEARTBEAT: 1m is out of range: 1s to 25s\n\
         flag --grpc: \"nowhere\" is not an IP address with a port, such as \"127.0.0.1:8080\"\n"
    );
    assert_eq!(stderr(&output), expected);

    let output = evergate(&["config", "check"]).env("EVERGATE_CONFIG", name).output().unwrap();
    assert_eq!(output.status.code(), Some(2));
    fs::write(&path, "[http]\naddress = \"127.0.0.1:1\"\n").unwrap();
    let output = evergate(&["config", "check"]).env("EVERGATE_CONFIG", name).output().unwrap();
    assert_eq!((output.status.code(), &output.stdout[..]), (Some(0), &b"configuration is valid\n"[..]));
}

#[test]
fn what_is_mistaken_does_not_start() {
    let output = run(&["dev", "--set", "sse.heartbeat=1h"]);
    assert_eq!(output.status.code(), Some(2));
    assert_eq!(stderr(&output), "flag --set sse.heartbeat: 1h is out of range: 1s to 25s\n");
    assert_eq!(run(&["dev", "--nonsense"]).status.code(), Some(2));
}

#[test]
fn the_reference_is_printed() {
    let output = run(&["config", "reference"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == include_bytes!("../../../docs/configuration.md"));
}

#[test]
fn the_reference_of_the_metrics_is_printed() {
    let output = run(&["metrics"]);
    assert_eq!(output.status.code(), Some(0));
    assert!(output.stdout == include_bytes!("../../../docs/metrics.md"));
}

#[test]
fn an_edge_serves_streams_and_no_demo() {
    let edge = Gateway::start_as("edge", &[]);
    let address = edge.address("http");
    assert_eq!(get(address, "/").0, "HTTP/1.1 404 Not Found");
    drop(open_stream(address));
    edge.signal(Signal::TERM);
    assert_eq!(edge.end().0, Some(0));

    let dev = Gateway::start(&[]);
    assert_eq!(get(dev.address("http"), "/").0, "HTTP/1.1 200 OK");
}

#[test]
fn a_gateway_says_where_it_is_and_takes_that_back_when_it_ends() {
    let gateway = Gateway::start(&["--node", "n1"]);
    assert_eq!(gateway.addresses["pid"], gateway.process.id());
    let (status, body) = get(gateway.address("admin"), "/readyz");
    assert_eq!(status, "HTTP/1.1 200 OK");
    assert!(body.contains("\"node\":\"n1\""), "{body}");
    let (_, metrics) = get(gateway.address("admin"), "/metrics");
    assert!(metrics.contains("evergate_build_info{"), "{metrics}");

    let path = gateway.ready_file();
    let mut stream = open_stream(gateway.address("http"));
    gateway.signal(Signal::TERM);
    read_until(&mut stream, "evergate.goaway");
    let directory = path.parent().unwrap().to_owned();
    let (code, log) = gateway.end();
    assert_eq!(code, Some(0), "{log}");
    assert!(!path.exists(), "{directory:?}");
    for phase in ["stop accepting", "end streams", "close the edge", "flush and close the log"] {
        assert!(log.contains(phase), "{log}");
    }
    assert!(log.contains("clean=true"), "{log}");
}

#[test]
fn a_second_signal_ends_it_at_once() {
    let gateway = Gateway::start(&["--set", "shutdown.drain=1h", "--set", "shutdown.deadline=2h"]);
    let mut stream = open_stream(gateway.address("http"));
    gateway.signal(Signal::INT);
    // Not a second one before the first has been seen.
    let begun = Instant::now();
    while get(gateway.address("admin"), "/readyz").0 != "HTTP/1.1 503 Service Unavailable" {
        assert!(begun.elapsed() < PATIENCE, "it goes on as if nothing was");
    }
    gateway.signal(Signal::TERM);
    let (code, log) = gateway.end();
    assert_eq!(code, Some(1), "{log}");
    let mut rest = Vec::new();
    let _ = stream.read_to_end(&mut rest);
}

#[test]
fn an_address_in_use_is_told_with_its_purpose() {
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let address = taken.local_addr().unwrap().to_string();
    for (flag, purpose) in [("--http", "HTTP"), ("--grpc", "gRPC"), ("--admin", "the admin pages")] {
        let mut arguments = vec!["dev", "--log", "memory"];
        for other in ["--http", "--grpc", "--admin"] {
            arguments.extend([other, if other == flag { &address } else { "127.0.0.1:0" }]);
        }
        let output = run(&arguments);
        assert_eq!(output.status.code(), Some(1));
        let expected = format!("evergate: cannot listen on {address} for {purpose}: Address already in use");
        assert!(stderr(&output).contains(&expected), "{}", stderr(&output));
    }
}

#[test]
fn what_is_published_is_followed_and_a_repetition_is_told() {
    let gateway = Gateway::start(&[]);
    let http = format!("http://{}", gateway.address("http"));
    let grpc = format!("http://{}", gateway.address("grpc"));
    let publish = |input: &str| {
        let mut process =
            evergate(&["publish", "--server", &grpc, "--stream", "quote", "--producer", "p", "--seq", "1"])
                .stdin(Stdio::piped())
                .stdout(Stdio::piped())
                .stderr(Stdio::piped())
                .spawn()
                .unwrap();
        process.stdin.take().unwrap().write_all(input.as_bytes()).unwrap();
        process.wait_with_output().unwrap()
    };
    let first = publish("a\nb\nc\n");
    assert_eq!(stderr(&first), "3 events acknowledged\n");
    let again = publish("a\nb\nc\nd\n");
    assert_eq!(stderr(&again), "4 events acknowledged, 3 of them in the log already\n");
    let offsets: Vec<String> =
        String::from_utf8(again.stdout).unwrap().lines().map(|line| line.replace(" duplicate", "")).collect();

    let tail = run(&["tail", "quote", "--server", &http, "--from", "earliest", "--count", "4"]);
    assert_eq!(tail.status.code(), Some(0));
    let seen = String::from_utf8(tail.stdout).unwrap();
    let expected: Vec<String> =
        offsets.iter().zip(["a", "b", "c", "d"]).map(|(offset, data)| format!("{offset} {data}")).collect();
    assert_eq!(seen.lines().collect::<Vec<_>>(), expected);

    let tail = run(&[
        "tail",
        "quote",
        "--server",
        &http,
        "--last-event-id",
        &offsets[2],
        "--count",
        "1",
        "--output",
        "raw",
    ]);
    assert_eq!(tail.stdout, b"d\n");
}

#[test]
fn clients_fail_with_one_sentence() {
    let gateway =
        Gateway::start(&["--set", "streams.create=false", "--set", "streams.known.retention_events=9"]);
    let http = format!("http://{}", gateway.address("http"));
    let grpc = format!("http://{}", gateway.address("grpc"));
    let publish = run(&["publish", "--server", &grpc, "--stream", "unknown", "-q", "x"]);
    assert_eq!(publish.status.code(), Some(1));
    assert_eq!(stderr(&publish), "evergate publish: there is no such stream\n");
    let tail = run(&["tail", "unknown", "--server", &http]);
    assert_eq!(tail.status.code(), Some(1));
    assert!(stderr(&tail).starts_with("evergate tail: refused with 404: "), "{}", stderr(&tail));
    let tail = run(&["tail", "--server", "ftp://h", "s"]);
    assert_eq!(tail.status.code(), Some(2));
}
