//! Another program under test: a client that prints what it sees, a line at a time.

use std::ffi::OsStr;
use std::process::{ExitStatus, Stdio};

use serde_json::Value;
use tokio::io::{AsyncBufReadExt as _, AsyncReadExt as _, AsyncWriteExt as _, BufReader, Lines};
use tokio::process::{Child, ChildStderr, ChildStdin, ChildStdout, Command};

use crate::PATIENCE;

/// A running program. Dropping it kills it.
#[derive(Debug)]
pub struct Program {
    name: String,
    child: Child,
    input: Option<ChildStdin>,
    lines: Lines<BufReader<ChildStdout>>,
    errors: ChildStderr,
    seen: Vec<String>,
}

impl Program {
    /// Starts `program` with arguments and additions to its environment.
    pub fn start<S: AsRef<OsStr>>(
        program: impl AsRef<OsStr>,
        arguments: &[S],
        environment: &[(&str, &OsStr)],
    ) -> Self {
        let name = program.as_ref().to_string_lossy().into_owned();
        let mut child = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--"])
            .arg(program.as_ref())
            .args(arguments)
            // The suite's own, and no setting.
            .env_remove("EVERGATE_SKIPPED")
            .envs(environment.iter().copied())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .kill_on_drop(true)
            .spawn()
            .unwrap_or_else(|error| panic!("{name} cannot be started: {error}"));
        let input = child.stdin.take();
        let output = child.stdout.take().expect("standard output is piped");
        let errors = child.stderr.take().expect("standard error is piped");
        Self { name, child, input, lines: BufReader::new(output).lines(), errors, seen: Vec::new() }
    }

    /// The next line it prints; `None` once it has closed its output.
    pub async fn try_line(&mut self) -> Option<String> {
        let Ok(line) = tokio::time::timeout(PATIENCE, self.lines.next_line()).await else {
            panic!("{} printed nothing within {PATIENCE:?}; so far: {:#?}", self.name, self.seen);
        };
        let line = line.unwrap_or_else(|error| panic!("{} prints what is no text: {error}", self.name));
        self.seen.extend(line.clone());
        line
    }

    /// The next line it prints.
    pub async fn line(&mut self) -> String {
        match self.try_line().await {
            Some(line) => line,
            None => self.explain("ended").await,
        }
    }

    /// The next line it prints, which is JSON.
    pub async fn json(&mut self) -> Value {
        let line = self.line().await;
        serde_json::from_str(&line).unwrap_or_else(|error| panic!("{}: {error}: {line}", self.name))
    }

    /// Gives it a line to read.
    pub async fn tell(&mut self, line: &str) {
        let input = self.input.as_mut().expect("its input is open");
        input.write_all(format!("{line}\n").as_bytes()).await.expect("it reads its input");
    }

    /// Closes its input and waits for it to end.
    pub async fn ended(&mut self) -> ExitStatus {
        self.input = None;
        match tokio::time::timeout(PATIENCE, self.child.wait()).await {
            Ok(status) => status.expect("our own child can be waited for"),
            Err(_) => panic!("{} did not end", self.name),
        }
    }

    /// Closes its input and waits for it to end well.
    pub async fn finish(mut self) {
        let status = self.ended().await;
        if !status.success() {
            self.explain(&format!("failed ({status})")).await;
        }
    }

    async fn explain(&mut self, what: &str) -> ! {
        let mut told = String::new();
        // It has ended or is about to; a program that goes on has its say cut short.
        let _ = tokio::time::timeout(PATIENCE, self.errors.read_to_string(&mut told)).await;
        panic!("{} {what}; it printed {:#?} and complained:\n{told}", self.name, self.seen);
    }
}
