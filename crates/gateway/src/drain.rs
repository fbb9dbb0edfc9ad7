//! `evergate drain`: asks a running process to end in order, and waits until it has.

use std::io::{IsTerminal as _, Write as _};
use std::time::Duration;

use clap::Args;
use http::{Method, StatusCode};
use tokio::time::{Instant, sleep, timeout_at};

use crate::admin::DRAIN;
use crate::admin_client::{Unasked, ask};
use crate::cli::Exit;

/// How often it is looked whether the process is still there.
const LOOK_EVERY: Duration = Duration::from_millis(200);

/// End a running process in order: its readiness first, then its streams, then itself
#[derive(Debug, Clone, Args)]
pub(crate) struct DrainArgs {
    /// The admin address of the process
    #[arg(long, value_name = "ADDR", default_value = "127.0.0.1:8082")]
    admin: String,
    /// Do not ask
    #[arg(long, short)]
    yes: bool,
    /// Wait so many seconds until the process has ended; 0 does not wait
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    wait: u64,
}

/// Exit 0 when the process has ended, or was asked to and nobody wanted to wait.
pub(crate) async fn run(args: DrainArgs) -> Exit {
    let DrainArgs { admin, yes, wait } = args;
    if !yes && !confirmed(&admin) {
        return Exit::Usage;
    }
    match ask(&admin, Method::POST, DRAIN).await {
        Ok((StatusCode::ACCEPTED, _)) => say(&format!("{admin} is draining")),
        Ok((status, body)) => return failed(&format!("{admin} answers {status}: {}", body.trim())),
        Err(why) => return failed(&format!("{admin} cannot be asked: {why}")),
    }
    if wait == 0 {
        return Exit::Ok;
    }
    let until = Instant::now() + Duration::from_secs(wait);
    let mut refused = 0;
    while Instant::now() < until {
        match timeout_at(until, ask(&admin, Method::GET, "/readyz")).await {
            Ok(Ok((StatusCode::OK, _))) => {
                say(&format!("{admin} has ended, and another process answers there"));
                return Exit::Ok;
            }
            // Twice, for a listener may be full for a moment.
            Ok(Err(Unasked::Refused)) if refused == 1 => {
                say(&format!("{admin} has ended"));
                return Exit::Ok;
            }
            Ok(Err(Unasked::Refused)) => refused += 1,
            // Slow or cut off is not ended.
            Ok(Ok(_) | Err(Unasked::Other(_))) | Err(_) => refused = 0,
        }
        sleep(LOOK_EVERY).await;
    }
    failed(&format!("{admin} is still there after {wait} s; its log names what is late"))
}

fn confirmed(admin: &str) -> bool {
    if !std::io::stdin().is_terminal() {
        failed("nobody is there to be asked; write --yes");
        return false;
    }
    eprint(&format!("End the process at {admin} and all of its streams? [y/N] "));
    let mut answer = String::new();
    std::io::stdin().read_line(&mut answer).is_ok() && matches!(answer.trim(), "y" | "Y" | "yes")
}

fn say(text: &str) {
    // Nobody may be reading.
    let _ = writeln!(std::io::stdout().lock(), "{text}");
}

fn eprint(text: &str) {
    let _ = write!(std::io::stderr().lock(), "{text}");
}

fn failed(why: &str) -> Exit {
    eprint(&format!("evergate drain: {why}\n"));
    Exit::Failed
}
