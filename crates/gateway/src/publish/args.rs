//! The arguments of `evergate publish`, checked before anything is sent.

use std::num::NonZeroUsize;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Args, ValueEnum};
use evergate_domain::{EventType, Key, NUMBER_MAX, ProducerId, StreamName};

use super::draft::{Draft, LineFormat};
use crate::dial::TlsArgs;

/// Publish one event, or one for each line of standard input
#[derive(Debug, Clone, Args)]
#[command(after_help = REPEATING)]
pub(crate) struct PublishArgs {
    /// The data of the one event to publish, words joined by spaces; without it, standard input is read
    #[arg(value_name = "DATA")]
    data: Vec<String>,
    /// Where the gRPC API is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8081")]
    server: String,
    /// The stream to publish to
    #[arg(long, value_name = "STREAM")]
    stream: String,
    /// The key of the events
    #[arg(long, value_name = "KEY")]
    key: Option<String>,
    /// The type of the events
    #[arg(long = "type", value_name = "TYPE")]
    kind: Option<String>,
    /// Who publishes [default: a random name]
    #[arg(long, value_name = "ID")]
    producer: Option<String>,
    /// The sequence of the first event; it rises by one with each [default: taken from the clock]
    #[arg(long, value_name = "N", requires = "producer", value_parser = clap::value_parser!(u64).range(1..=NUMBER_MAX))]
    seq: Option<u64>,
    /// Read each line as a JSON object with `data` (text, or any JSON), `type` and `key`
    #[arg(long, conflicts_with = "data")]
    ndjson: bool,
    /// How many events may await their acknowledgement
    #[arg(long, value_name = "N", default_value = "256")]
    window: NonZeroUsize,
    /// Give up after so many seconds without an acknowledgement
    #[arg(long, value_name = "SECONDS", default_value = "60")]
    give_up: u64,
    /// How acknowledgements are printed
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    /// Do not print acknowledgements and the count
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

const REPEATING: &str = "\
An attempt that got no answer is repeated under the same producer and sequence, so that no event is
published twice. To repeat a whole run safely, give it the same --producer and --seq.";

/// How acknowledgements are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// The offset, and `duplicate` if the event was in the log already
    Text,
    /// One JSON object a line
    Json,
}

/// What is printed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub format: Format,
    pub quiet: bool,
}

/// What to publish, and how.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub server: String,
    pub stream: StreamName,
    pub producer: ProducerId,
    pub first_seq: u64,
    pub window: usize,
    /// Give up after so long without progress.
    pub give_up: Duration,
    pub what: What,
}

/// Where the events come from.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum What {
    One(Draft),
    Lines(LineFormat),
}

impl PublishArgs {
    pub(crate) fn style(&self) -> Style {
        Style { format: self.output, quiet: self.quiet }
    }

    pub(crate) fn tls(&self) -> TlsArgs {
        self.tls.clone()
    }

    /// Checks the arguments. The error is a sentence for the user.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        let stream = StreamName::new(&self.stream).map_err(|error| format!("--stream: {error}"))?;
        let key = self.key.map(|key| Key::new(&key).map_err(|error| format!("--key: {error}")));
        let kind = self.kind.map(|kind| EventType::new(&kind).map_err(|error| format!("--type: {error}")));
        let (key, kind) = (key.transpose()?, kind.transpose()?);
        let producer = self.producer.map_or_else(random_producer, Ok)?;
        let producer = ProducerId::new(&producer).map_err(|error| format!("--producer: {error}"))?;
        check_server(&self.server)?;
        let what = if !self.data.is_empty() {
            What::One(Draft { data: self.data.join(" "), kind, key })
        } else if self.ndjson {
            What::Lines(LineFormat::Json { kind, key })
        } else {
            What::Lines(LineFormat::Plain { kind, key })
        };
        Ok(Plan {
            server: self.server,
            stream,
            producer,
            first_seq: self.seq.unwrap_or_else(seq_of_clock),
            window: self.window.get(),
            give_up: Duration::from_secs(self.give_up),
            what,
        })
    }
}

fn check_server(server: &str) -> Result<(), String> {
    let url = url::Url::parse(server).map_err(|error| format!("--server {server:?}: {error}"))?;
    match (url.scheme(), url.host()) {
        ("http" | "https", Some(_)) => Ok(()),
        _ => Err(format!("--server {server:?}: not a URL such as \"http://127.0.0.1:8081\"")),
    }
}

/// From the system, not from a seeded generator: two runs of one name and sequence would take each
/// other's events for their own.
fn random_producer() -> Result<String, String> {
    let mut bytes = [0; 8];
    getrandom::fill(&mut bytes).map_err(|error| format!("no random numbers for a producer id: {error}"))?;
    Ok(format!("cli-{:016x}", u64::from_be_bytes(bytes)))
}

/// Where a run begins whose producer has a name but whose sequence was not given: microseconds, so
/// that a later run of the same producer begins above the end of this one.
fn seq_of_clock() -> u64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    u64::try_from(since.as_micros()).unwrap_or(NUMBER_MAX).clamp(1, NUMBER_MAX)
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;
    use clap::error::ErrorKind;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapped {
        #[command(flatten)]
        publish: PublishArgs,
    }

    fn parse(arguments: &[&str]) -> Result<PublishArgs, clap::Error> {
        let arguments = [&["publish", "--stream", "quote"], arguments].concat();
        Ok(Wrapped::try_parse_from(arguments)?.publish)
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        parse(arguments).unwrap().plan()
    }

    #[test]
    fn words_are_one_event() {
        let plan = plan(&["--key", "AAPL", "--type", "trade", "--", "-1", "and", "more"]).unwrap();
        let draft = Draft {
            data: "-1 and more".to_owned(),
            kind: Some(EventType::new("trade").unwrap()),
            key: Some(Key::new("AAPL").unwrap()),
        };
        assert_eq!(plan.what, What::One(draft));
    }

    #[test]
    fn without_words_lines_are_read() {
        assert_eq!(plan(&[]).unwrap().what, What::Lines(LineFormat::Plain { kind: None, key: None }));
        let ndjson = plan(&["--ndjson", "--key", "k"]).unwrap().what;
        assert_eq!(ndjson, What::Lines(LineFormat::Json { kind: None, key: Key::new("k").ok() }));
    }

    #[test]
    fn a_run_has_its_own_producer_and_a_named_one_goes_on_where_no_run_was() {
        let (first, second) = (plan(&[]).unwrap(), plan(&[]).unwrap());
        assert_ne!(first.producer, second.producer);
        let (named, again) = (plan(&["--producer", "p"]).unwrap(), plan(&["--producer", "p"]).unwrap());
        let year_2001_us = 1_000_000_000_000_000;
        assert!(named.first_seq > year_2001_us && again.first_seq >= named.first_seq, "{named:?}");
        assert_eq!(plan(&["--producer", "p", "--seq", "7"]).unwrap().first_seq, 7);
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_sent() {
        for (arguments, expected) in [
            (
                &["--key", "a*"][..],
                "--key: key holds '*' at byte 1; control characters and * are not allowed",
            ),
            (
                &["--type", "evergate.x"],
                "--type: event type \"evergate.x\" starts with the reserved prefix \"evergate.\"",
            ),
            (
                &["--producer", "a b"],
                "--producer: producer id holds ' ' at byte 1; letters, digits and _ . : - are allowed",
            ),
            (&["--server", "h:1"], "--server \"h:1\": not a URL such as \"http://127.0.0.1:8081\""),
        ] {
            assert_eq!(plan(arguments).unwrap_err(), expected);
        }
        for (arguments, kind) in [
            (&["--seq", "1"][..], ErrorKind::MissingRequiredArgument),
            (&["--producer", "p", "--seq", "0"], ErrorKind::ValueValidation),
            (&["--producer", "p", "--seq", "9007199254740992"], ErrorKind::ValueValidation),
            (&["--ndjson", "data"], ErrorKind::ArgumentConflict),
            (&["--window", "0"], ErrorKind::ValueValidation),
        ] {
            assert_eq!(parse(arguments).unwrap_err().kind(), kind);
        }
    }
}
