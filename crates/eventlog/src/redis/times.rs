//! How long Redis takes, by what it is asked, and how often it does not answer as asked.

use std::time::Instant;

use redis::{Cmd, ErrorKind, RedisError, Value};

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

    /// It was answered by one value.
    pub(super) fn answered(self, answer: &Result<Value, RedisError>) {
        if let Err(error) = answer {
            failed(kind(error));
        }
        self.took();
    }

    /// It was answered by several values, among which errors stand.
    pub(super) fn answered_all(self, answers: &Result<Vec<Value>, RedisError>) {
        match answers {
            Ok(answers) => {
                let errors = answers.iter().filter(|answer| matches!(answer, Value::ServerError(_)));
                errors.for_each(|_| failed(SERVER));
            }
            Err(error) => failed(kind(error)),
        }
        self.took();
    }

    fn took(self) {
        let seconds = self.begun.elapsed().as_secs_f64();
        metrics::histogram!("evergate_redis_command_seconds", "command" => self.what).record(seconds);
    }
}

/// What Redis itself says, as opposed to silence.
const SERVER: &str = "server";

fn failed(kind: &'static str) {
    metrics::counter!("evergate_redis_errors_total", "kind" => kind).increment(1);
}

fn kind(error: &RedisError) -> &'static str {
    if error.code().is_some() || matches!(error.kind(), ErrorKind::Server(_)) {
        SERVER
    } else if error.is_timeout() {
        "timeout"
    } else if error.is_connection_dropped() || matches!(error.kind(), ErrorKind::Io) {
        "link"
    } else {
        "other"
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
    fn an_error_is_told_by_whose_it_is() {
        let of = |kind: ErrorKind| RedisError::from((kind, "so it is"));
        let timeout = std::io::Error::from(std::io::ErrorKind::TimedOut);
        let reset = std::io::Error::from(std::io::ErrorKind::ConnectionReset);
        assert_eq!(kind(&RedisError::from(timeout)), "timeout");
        assert_eq!(kind(&RedisError::from(reset)), "link");
        assert_eq!(kind(&of(ErrorKind::Server(redis::ServerErrorKind::BusyLoading))), "server");
        assert_eq!(kind(&of(ErrorKind::UnexpectedReturnType)), "other");
    }

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
