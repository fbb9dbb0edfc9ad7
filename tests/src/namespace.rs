//! Namespaces of a test's own, kept alive by a process that only waits. They go away with the value.

use std::io::{BufRead as _, BufReader};
use std::process::{Child, Command, Stdio};

/// The process that keeps them.
#[derive(Debug)]
pub struct Namespace(Child);

impl Namespace {
    /// Unshares what `unshare` is told to, and runs a script there, in which `$0` is `argument`.
    ///
    /// # Errors
    /// Why this system does not let us, or what the script said instead of ending well.
    pub fn enter(unshare: &[&str], script: &str, argument: &str) -> Result<Self, String> {
        // It reads until its input is closed, that is, until we are gone.
        let script = format!("{script} && echo there && exec cat");
        let mut keeper = Command::new("setpriv")
            .args(["--pdeathsig", "KILL", "--", "unshare"])
            .args(unshare)
            .args(["sh", "-c", &script, argument])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .map_err(|error| format!("unshare cannot be started: {error}"))?;
        let mut line = String::new();
        let output = keeper.stdout.take().expect("standard output is piped");
        BufReader::new(output).read_line(&mut line).map_err(|error| error.to_string())?;
        if line.trim() == "there" {
            return Ok(Self(keeper));
        }
        let _ = keeper.kill();
        let told = keeper.wait_with_output().map_err(|error| error.to_string())?;
        Err(format!("no namespace of its own: {}", String::from_utf8_lossy(&told.stderr).trim()))
    }

    /// The keeper's pid, by which others enter.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.0.id()
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}
