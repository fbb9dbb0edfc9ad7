//! How long Redis takes, by what it is asked.

use std::time::Instant;

use redis::Cmd;

/// A question under way.
pub(super) struct Asked {
    what: &'static str,
    begun: Instant,
}

/// What is told apart. Everything else is rare, or not worth a look.
const FUNCTIONS: [&str; 8] =
    ["append", "commit", "resume", "tails", "status", "locate", "cursors_take", "cursors_write"];

impl Asked {
    /// From now on it is waited for.
    pub(super) fn new(command: Option<&Cmd>) -> Self {
        Self { what: command.map_or("other", word), begun: Instant::now() }
    }

    /// It was answered, be it by an error.
    pub(super) fn answered(self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        metrics::histogram!("evergate_redis_command_seconds", "command" => self.what).record(seconds);
    }
}

fn word(command: &Cmd) -> &'static str {
    let mut words = command.args_iter().map(|word| {
        let redis::Arg::Simple(bytes) = word else { return &[][..] };
        bytes
    });
    match words.next() {
        Some(b"WAIT") => "wait",
        Some(b"FCALL" | b"FCALL_RO") => {
            let function = words.next().and_then(|name| name.strip_prefix(b"evergate_1_"));
            let known = |name: &[u8]| FUNCTIONS.iter().find(|known| known.as_bytes() == name).copied();
            function.and_then(known).unwrap_or("other")
        }
        Some(_) | None => "other",
    }
}

#[cfg(test)]
mod tests {
    use redis::cmd;

    use super::*;

    #[test]
    fn a_question_is_told_by_its_function() {
        assert_eq!(word(cmd("FCALL").arg("evergate_1_append").arg(2)), "append");
        assert_eq!(word(cmd("FCALL_RO").arg("evergate_1_status")), "status");
        assert_eq!(word(cmd("FCALL_RO").arg("evergate_1_vacant")), "other");
        assert_eq!(word(cmd("FCALL").arg("somebody_elses")), "other");
        assert_eq!(word(cmd("WAIT").arg(1).arg(100)), "wait");
        assert_eq!(word(&cmd("PING")), "other");
        assert_eq!(Asked::new(None).what, "other");
    }
}
