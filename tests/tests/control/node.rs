//! A node of the group as a process: this test, run once more, with a machine that keeps every word.
//!
//! It is told what to do on its standard input, a line for each call, and answers on its standard output
//! in any order. Pipes reach into every namespace, whatever its network does.

use std::collections::BTreeMap;
use std::io::{BufRead as _, Write as _};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use evergate_control::{
    Group, GroupSettings, Handle, Machine, ProposeError, RestoreError, Seeds, Status, Timing,
};
use tokio::sync::mpsc;
use tonic::service::Routes;

/// What the process is told, as `key=value` lines.
pub(crate) const SETTINGS: &str = "EVERGATE_CONTROL_NODE";

/// Keeps every word in the order in which they were agreed on, and answers each with its place. It reads formats
/// up to `READ`, and writes `WRITTEN`, but for words that begin with `n`: those need all that it reads.
#[derive(Debug, Default)]
struct Words<const READ: u32, const WRITTEN: u32>(Vec<String>);

impl<const READ: u32, const WRITTEN: u32> Machine for Words<READ, WRITTEN> {
    const FORMAT_READ: u32 = READ;
    const FORMAT_WRITTEN: u32 = WRITTEN;

    fn format_of(command: &[u8]) -> u32 {
        if command.starts_with(b"n") { READ } else { WRITTEN }
    }

    fn format(&self) -> u32 {
        if self.0.iter().any(|word| word.starts_with('n')) { READ } else { WRITTEN }
    }

    fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        self.0.push(String::from_utf8_lossy(command).into_owned());
        self.0.len().to_string().into_bytes()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.join("\n").into_bytes()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let text = std::str::from_utf8(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.0 = text.split('\n').filter(|word| !word.is_empty()).map(str::to_owned).collect();
        Ok(())
    }
}

#[test]
#[ignore = "run by the other tests, as a process"]
#[expect(clippy::exit, reason = "the process is over, whatever the harness would still say")]
fn node() {
    let Ok(told) = std::env::var(SETTINGS) else { return };
    let told: BTreeMap<_, _> = told.lines().filter_map(|line| line.split_once('=')).collect();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build();
    let runtime = runtime.expect("a runtime");
    match told["format"] {
        "1" => runtime.block_on(run::<1, 1>(&told)),
        "2" => runtime.block_on(run::<2, 2>(&told)),
        "2 writing 1" => runtime.block_on(run::<2, 1>(&told)),
        other => panic!("format {other:?}"),
    }
    // Whatever else waits: the process is over.
    std::process::exit(0);
}

fn settings(told: &BTreeMap<&str, &str>) -> GroupSettings {
    let seeds = match told["seeds"] {
        "" => Seeds::Nobody,
        list if list.starts_with("name:") => {
            let (nodes, name) = list["name:".len()..].split_once('@').expect("NODES@HOST:PORT");
            Seeds::Named { name: name.to_owned(), nodes: nodes.parse().expect("a number") }
        }
        list => Seeds::Listed(
            list.split(',')
                .map(|peer| peer.split_once(':').expect("ID:HOST:PORT"))
                .map(|(id, address)| (id.parse().expect("a number"), address.to_owned()))
                .collect(),
        ),
    };
    let millis = |key: &str| Duration::from_millis(told[key].parse().expect("a number"));
    GroupSettings {
        cluster: told["cluster"].to_owned(),
        id: told["id"].parse().expect("a number"),
        dir: PathBuf::from(told["dir"]),
        address: told["address"].to_owned(),
        seeds,
        identities: Vec::new(),
        timing: Timing {
            heartbeat: millis("heartbeat"),
            election_min: millis("election_min"),
            election_max: millis("election_max"),
            propose: millis("propose"),
        },
        command_bytes_max: 4096,
        snapshot_entries: told["snapshot_entries"].parse().expect("a number"),
    }
}

async fn run<const READ: u32, const WRITTEN: u32>(told: &BTreeMap<&str, &str>) {
    let settings = settings(told);
    let address: SocketAddr = settings.address.parse().expect("an address");
    let listener = loop {
        match tokio::net::TcpListener::bind(address).await {
            Ok(listener) => break listener,
            // The one before has not quite gone.
            Err(error) if error.kind() == std::io::ErrorKind::AddrInUse => {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
            Err(error) => return say(&format!("failed {error}")),
        }
    };
    let mut group = match Group::start(settings, Words::<READ, WRITTEN>::default(), None).await {
        Ok(group) => group,
        Err(error) => return say(&format!("failed {error}")),
    };
    group.serve(listener, None, Routes::default());
    say("up");
    let handle = group.handle();
    let mut lines = lines();
    loop {
        tokio::select! {
            line = lines.recv() => match line.as_deref() {
                Some("quit") => {
                    group.stop().await;
                    return say("stopped");
                }
                Some(line) => drop(tokio::spawn(obey(handle.clone(), line.to_owned()))),
                None => return,
            },
            why = group.failed() => return say(&format!("failed {why}")),
        }
    }
}

/// Whole lines only, each written at once: a kill cuts none in two.
fn say(line: &str) {
    let mut output = std::io::stdout().lock();
    // The other end may be gone.
    let _ = output.write_all(format!("\x1e{line}\n").as_bytes()).and_then(|()| output.flush());
}

fn lines() -> mpsc::UnboundedReceiver<String> {
    let (send, receive) = mpsc::unbounded_channel();
    std::thread::spawn(move || {
        for line in std::io::stdin().lock().lines().map_while(Result::ok) {
            if send.send(line).is_err() {
                return;
            }
        }
    });
    receive
}

async fn obey<const READ: u32, const WRITTEN: u32>(handle: Handle<Words<READ, WRITTEN>>, line: String) {
    let words: Vec<_> = line.split(' ').collect();
    let answer = match *words {
        [_, "append", word] => match handle.propose(word.as_bytes().to_vec()).await {
            Ok(answer) => format!("ok {}", String::from_utf8_lossy(&answer.bytes)),
            Err(error) => refused(&error),
        },
        [_, "large"] => refused(&handle.propose(vec![0; 5000]).await.expect_err("too large")),
        [_, "read"] => match handle.read(|words, _| words.0.len()).await {
            Ok(count) => format!("ok {count}"),
            Err(error) => format!("no {error}"),
        },
        [_, "count"] => format!("ok {}", handle.look(|words, _| words.0.len())),
        [_, "words"] => format!("ok {}", handle.look(|words, _| words.0.join(","))),
        [_, "status"] => format!("ok {}", status(&handle.status())),
        [_, "add", id, address] => done(handle.add(number(id), address).await),
        [_, "promote", id] => done(handle.promote(number(id)).await),
        [_, "demote", id] => done(handle.demote(number(id)).await),
        [_, "remove", id] => done(handle.remove(number(id)).await),
        [_, "reads", format] => done(handle.all_read(format.parse().expect("a number")).await),
        _ => panic!("{line:?} is no call"),
    };
    say(&format!("{} {}", words[0], answer.replace('\n', " ")));
}

fn refused(error: &ProposeError) -> String {
    let certain = if error.is_certain() { "no" } else { "unknown" };
    format!("{certain} {error}")
}

fn done<E: std::fmt::Display>(result: Result<(), E>) -> String {
    match result {
        Ok(()) => "ok".to_owned(),
        Err(error) => format!("no {error}"),
    }
}

fn number(text: &str) -> u64 {
    text.parse().expect("a number")
}

/// `role term leader applied last snapshot voters learners`, of which the last two are lists.
fn status(status: &Status) -> String {
    let ids = |voter| {
        let ids = status.members.iter().filter(|member| member.voter == voter);
        ids.map(|member| member.id.to_string()).collect::<Vec<_>>().join("+")
    };
    format!(
        "{} {} {} {} {} {} v{} l{}",
        status.role.as_str(),
        status.term,
        status.leader.unwrap_or(0),
        status.applied,
        status.last,
        status.snapshot.unwrap_or(0),
        ids(true),
        ids(false),
    )
}
