//! Clocks that are wrong: a process that is launched by one is told another time of day than everybody else. How long
//! something takes it is told truly, as it would be on a machine whose clock is set.

use std::path::PathBuf;

use tempfile::TempDir;

/// Where Debian puts it, beside the name of the architecture.
const LIBRARY: &str = "faketime/libfaketimeMT.so.1";

/// A clock, right until it is set.
#[derive(Debug)]
pub struct Clock {
    library: PathBuf,
    home: TempDir,
}

impl Clock {
    /// A clock that can be set.
    ///
    /// # Errors
    /// Why this system has none.
    pub fn hang() -> Result<Self, String> {
        let places = std::fs::read_dir("/usr/lib").map_err(|error| error.to_string())?;
        let library = places.flatten().map(|place| place.path().join(LIBRARY)).find(|path| path.exists());
        let library = library.ok_or("libfaketime is missing; scripts/setup.sh installs it")?;
        let home = tempfile::tempdir().map_err(|error| error.to_string())?;
        let clock = Self { library, home };
        clock.set(0);
        Ok(clock)
    }

    /// The words before a command that have it go by this clock. Programs without shared libraries do not heed them.
    #[must_use]
    pub fn launcher(&self) -> Vec<String> {
        let words = [
            "env".to_owned(),
            format!("LD_PRELOAD={}", self.library.display()),
            format!("FAKETIME_TIMESTAMP_FILE={}", self.file().display()),
            // In seconds: looked at each time, it would cost more than what it is asked for.
            "FAKETIME_CACHE_DURATION=1".to_owned(),
            "FAKETIME_DONT_FAKE_MONOTONIC=1".to_owned(),
            "NO_FAKE_STAT=1".to_owned(),
        ];
        words.into()
    }

    /// Sets it so many seconds before or after what it should show. Processes that run know it a second later.
    ///
    /// # Panics
    /// If its file cannot be replaced.
    pub fn set(&self, seconds: i64) {
        let new = self.file().with_extension("new");
        std::fs::write(&new, format!("{seconds:+}\n")).expect("the folder is ours");
        std::fs::rename(new, self.file()).expect("the folder is ours");
    }

    fn file(&self) -> PathBuf {
        self.home.path().join("clock")
    }
}

#[cfg(test)]
mod tests {
    use std::process::Command;

    use super::*;
    use crate::left_out::left_out;

    #[test]
    fn it_is_set_while_a_process_runs_and_measures_truly() {
        let clock = match Clock::hang() {
            Ok(clock) => clock,
            Err(why) => return left_out("it_is_set_while_a_process_runs_and_measures_truly", &why),
        };
        let shown = || {
            let words = clock.launcher();
            let output = Command::new(&words[0]).args(&words[1..]).args(["date", "+%s"]).output();
            let text = String::from_utf8(output.expect("date runs").stdout).expect("a number");
            text.trim().parse::<i64>().expect("a number")
        };
        let is = shown();
        for seconds in [600, -600] {
            clock.set(seconds);
            assert!((shown() - is - seconds).abs() < 60);
        }
    }
}
