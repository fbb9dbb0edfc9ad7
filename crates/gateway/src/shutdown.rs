//! The end of a process, in named phases, each with a limit, all within one deadline.
//!
//! ```text
//!   signal ── stop accepting ── end streams ── flush the log ── close ── exit
//!                  └────────── within shutdown.deadline ─────────┘
//! ```
//!
//! A second signal ends the process at once: whoever sends it has waited long enough.

use std::fmt::Display;
use std::future::Future;
use std::io;
use std::time::Duration;

use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::{Instant, timeout_at};
use tracing::{info, warn};

/// The signals that ask a process to end.
#[derive(Debug)]
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

/// A shutdown under way.
#[derive(Debug)]
pub(crate) struct Shutdown {
    deadline: Instant,
    /// Whether every phase so far ended by itself.
    clean: bool,
}

impl Signals {
    /// From here on the signals no longer end the process by themselves.
    pub(crate) fn listen() -> io::Result<Self> {
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    /// The name of the next signal. Cancel-safe.
    pub(crate) async fn next(&mut self) -> &'static str {
        tokio::select! {
            _ = self.interrupt.recv() => "SIGINT",
            _ = self.terminate.recv() => "SIGTERM",
        }
    }
}

impl Shutdown {
    /// A shutdown that has to be over when `deadline` has passed.
    pub(crate) fn begin(deadline: Duration) -> Self {
        Self { deadline: Instant::now() + deadline, clean: true }
    }

    /// Carries out one phase. When it is late, says what is still `held`, and drops it.
    pub(crate) async fn phase<H: Display>(
        &mut self,
        phase: &'static str,
        limit: Duration,
        work: impl Future<Output = ()>,
        held: impl FnOnce() -> H,
    ) {
        let started = Instant::now();
        let until = self.deadline.min(started + limit);
        if timeout_at(until, work).await.is_ok() {
            info!(phase, took_ms = millis(started.elapsed()), "shutdown phase done");
        } else {
            self.clean = false;
            let held = held();
            warn!(phase, took_ms = millis(started.elapsed()), %held, "shutdown phase late");
        }
    }

    /// What is left of the deadline.
    pub(crate) fn remaining(&self) -> Duration {
        self.deadline.saturating_duration_since(Instant::now())
    }

    pub(crate) fn is_clean(&self) -> bool {
        self.clean
    }
}

fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}

#[cfg(test)]
mod tests {
    use std::future::pending;

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    #[tokio::test(start_paused = true)]
    async fn a_phase_that_ends_by_itself_is_clean_and_takes_no_longer() {
        let mut shutdown = Shutdown::begin(10 * SECOND);
        shutdown.phase("one", 5 * SECOND, tokio::time::sleep(SECOND), || "nothing").await;
        assert!(shutdown.is_clean());
        assert_eq!(shutdown.remaining(), 9 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn a_late_phase_is_cut_at_its_limit_and_says_what_is_held() {
        let mut shutdown = Shutdown::begin(10 * SECOND);
        let mut told = false;
        let held = || {
            told = true;
            "3 streams"
        };
        shutdown.phase("late", 5 * SECOND, pending(), held).await;
        assert!(told && !shutdown.is_clean());
        assert_eq!(shutdown.remaining(), 5 * SECOND);
    }

    #[tokio::test(start_paused = true)]
    async fn no_phase_outlasts_the_deadline() {
        let mut shutdown = Shutdown::begin(2 * SECOND);
        shutdown.phase("long", 5 * SECOND, pending(), || "everything").await;
        assert_eq!(shutdown.remaining(), Duration::ZERO);
        // A phase that has nothing to wait for still gets its turn.
        let mut ran = false;
        shutdown.phase("last", SECOND, async { ran = true }, || "").await;
        assert!(ran);
    }
}
