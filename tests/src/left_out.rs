//! Saying aloud that a test was left out, so that a green run never hides one.

use std::fs::OpenOptions;
use std::io::Write as _;

/// Says that `test` did not run and why: on the terminal past the test runner's capture, and in the
/// file named by `EVERGATE_SKIPPED`, which the end of the whole run shows again.
pub fn left_out(test: &str, why: &str) {
    say(&format!("\n!!! LEFT OUT: {test}: {why}\n\n"));
    if let Some(path) = std::env::var_os("EVERGATE_SKIPPED") {
        let mut file = OpenOptions::new()
            .create(true)
            .append(true)
            .open(path)
            .expect("the file for tests left out can be written");
        writeln!(file, "{test}: {why}").expect("the file for tests left out can be written");
    }
}

/// Whether this run is one that nobody watches and where nothing may be missing.
#[must_use]
pub fn is_ci() -> bool {
    std::env::var("CI").is_ok_and(|value| !matches!(value.as_str(), "" | "0" | "false"))
}

/// Writes to standard error itself: the test runner captures only what the print macros write, and
/// throws it away when the test passes.
pub fn say(text: &str) {
    let _ = std::io::stderr().write_all(text.as_bytes());
}
