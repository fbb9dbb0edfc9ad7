//! The arguments of `evergate tail`, and the request they make.

use std::time::Duration;

use clap::{Args, ValueEnum};
use evergate_domain::{KeyPattern, Start, StreamName};
use url::Url;

use super::session::Settings;
use crate::dial::{TlsArgs, parse_url};

const EXAMPLE: &str = "http://127.0.0.1:8080";

const MULTIPLE_HINT: &str = "write --stream for each stream beside the first";

/// Follow one stream or several, resuming after every cut
#[derive(Debug, Clone, Args)]
pub(crate) struct TailArgs {
    /// A stream to follow, or the whole URL of an event stream
    #[arg(value_name = "STREAM|URL", required_unless_present = "streams")]
    target: Option<String>,
    /// Where the HTTP API is
    #[arg(long, value_name = "URL", default_value = "http://127.0.0.1:8080")]
    server: String,
    /// A further stream to follow on the same connection
    #[arg(long = "stream", value_name = "STREAM")]
    streams: Vec<String>,
    /// Only events with this key, or of this prefix if it ends in `*`; `STREAM/KEY` with several streams
    #[arg(long = "key", value_name = "KEY")]
    keys: Vec<String>,
    /// Where to begin: latest, earliest, -N for the last N events, an offset, or an RFC 3339 time
    #[arg(long, value_name = "POSITION", allow_hyphen_values = true)]
    from: Option<String>,
    /// Resume after this id, as printed before
    #[arg(long, value_name = "ID", conflicts_with = "from")]
    last_event_id: Option<String>,
    /// End after this many events
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..))]
    count: Option<u64>,
    /// Reconnect when nothing, not even a heartbeat, has come for so many seconds
    #[arg(long, value_name = "SECONDS", default_value = "40", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Refuse a stream whose events are longer than this
    #[arg(long, value_name = "BYTES", default_value = "8388608")]
    event_bytes_max: usize,
    /// How events are printed
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    /// Print Evergate's own control events too
    #[arg(long)]
    control: bool,
    /// Do not tell of cuts and reconnects; gaps are always told
    #[arg(long, short)]
    quiet: bool,
    #[command(flatten)]
    tls: TlsArgs,
}

/// How events are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// `ID [TYPE] DATA`, control characters escaped
    Text,
    /// One JSON object a line; gaps among them
    Json,
    /// The data alone, unchanged
    Raw,
}

/// What is printed, and how.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Style {
    pub format: Format,
    pub control: bool,
    pub quiet: bool,
}

/// What to ask for, and how to go on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Plan {
    pub url: Url,
    pub session: Settings,
}

impl TailArgs {
    pub(crate) fn style(&self) -> Style {
        Style { format: self.output, control: self.control, quiet: self.quiet }
    }

    pub(crate) fn tls(&self) -> TlsArgs {
        self.tls.clone()
    }

    /// Checks the arguments before anything is sent. The error is a sentence for the user.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        if let Some(from) = &self.from {
            from.parse::<Start>().map_err(|error| format!("--from {from:?}: {error}"))?;
        }
        if let Some(id) = &self.last_event_id
            && !is_header_value(id)
        {
            return Err(format!("--last-event-id {id:?}: not printable ASCII"));
        }
        let mut url = match &self.target {
            Some(target) if target.contains("://") => self.url(target)?,
            Some(_) | None => self.url_of_streams()?,
        };
        if !self.keys.is_empty() || self.from.is_some() {
            let mut query = url.query_pairs_mut();
            query.extend_pairs(self.keys.iter().map(|key| ("key", key)));
            query.extend_pairs(self.from.iter().map(|from| ("from", from)));
        }
        let session = Settings {
            last_event_id: self.last_event_id,
            count_max: self.count,
            idle: Duration::from_secs(self.idle),
            event_bytes_max: self.event_bytes_max,
        };
        Ok(Plan { url, session })
    }

    fn url(&self, target: &str) -> Result<Url, String> {
        if !self.streams.is_empty() {
            return Err("a whole URL and --stream exclude each other".to_owned());
        }
        parse_url(target, EXAMPLE)
    }

    fn url_of_streams(&self) -> Result<Url, String> {
        let names = self.target.iter().chain(&self.streams);
        let names = names
            .map(|name| {
                StreamName::new(name).map_err(|error| {
                    let hint = if name.contains(',') { format!("; {MULTIPLE_HINT}") } else { String::new() };
                    format!("{name:?} is no stream: {error}{hint}")
                })
            })
            .collect::<Result<Vec<_>, _>>()?;
        let mut url = parse_url(&self.server, EXAMPLE)?;
        let path = url.path().trim_end_matches('/').to_owned();
        match &names[..] {
            [name] => {
                for key in &self.keys {
                    KeyPattern::parse(key).map_err(|error| format!("--key {key:?}: {error}"))?;
                }
                url.set_path(&format!("{path}/v1/streams/{name}/events"));
            }
            names => {
                url.set_path(&format!("{path}/v1/events"));
                let pairs = names.iter().map(|name| ("stream", name.as_str()));
                url.query_pairs_mut().extend_pairs(pairs);
            }
        }
        Ok(url)
    }
}

fn is_header_value(text: &str) -> bool {
    !text.is_empty() && text.bytes().all(|byte| byte.is_ascii_graphic())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapped {
        #[command(flatten)]
        tail: TailArgs,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        let arguments = [&["tail"], arguments].concat();
        Wrapped::try_parse_from(arguments).unwrap().tail.plan()
    }

    #[track_caller]
    fn asks(arguments: &[&str], url: &str) {
        assert_eq!(plan(arguments).unwrap().url.as_str(), url);
    }

    #[test]
    fn one_stream_has_its_own_path_and_several_share_one() {
        asks(&["quote"], "http://127.0.0.1:8080/v1/streams/quote/events");
        asks(&["--stream", "quote"], "http://127.0.0.1:8080/v1/streams/quote/events");
        asks(
            &["quote", "--key", "AAPL", "--key", "M*", "--from", "-10"],
            "http://127.0.0.1:8080/v1/streams/quote/events?key=AAPL&key=M*&from=-10",
        );
        asks(
            &["quote", "--stream", "news", "--key", "quote/A&B", "--server", "http://h:1/gate/"],
            "http://h:1/gate/v1/events?stream=quote&stream=news&key=quote%2FA%26B",
        );
    }

    #[test]
    fn a_whole_url_is_taken_as_it_is() {
        asks(&["https://h/x"], "https://h/x");
        asks(&["http://h/x?envelope=1"], "http://h/x?envelope=1");
        asks(&["http://h/x?a=1", "--from", "earliest"], "http://h/x?a=1&from=earliest");
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_sent() {
        for (arguments, expected) in [
            (&["ftp://h/x"][..], "\"ftp://h/x\" is not a URL such as \"http://127.0.0.1:8080\""),
            (&["http://h/x", "--stream", "s"], "a whole URL and --stream exclude each other"),
            (
                &["a,b"],
                "\"a,b\" is no stream: stream name holds ',' at byte 1; a letter, a digit or _ comes first, then those and . : - are allowed; write --stream for each stream beside the first",
            ),
            (
                &["quote", "--from", "now"],
                "--from \"now\": expected latest, earliest, an offset such as 1-42, -N for the last N events, or an RFC 3339 time such as 2026-01-31T09:30:00Z",
            ),
            (&["quote", "--last-event-id", "1-2\n"], "--last-event-id \"1-2\\n\": not printable ASCII"),
            (&["quote", "--key", ""], "--key \"\": key is empty"),
            (
                &["quote", "--server", "127.0.0.1:8080"],
                "\"127.0.0.1:8080\" is not a URL: relative URL without a base",
            ),
        ] {
            assert_eq!(plan(arguments).unwrap_err(), expected);
        }
    }

    #[test]
    fn two_beginnings_exclude_each_other() {
        let arguments = ["tail", "quote", "--from", "latest", "--last-event-id", "1-2"];
        let error = Wrapped::try_parse_from(arguments).unwrap_err();
        assert_eq!(error.kind(), clap::error::ErrorKind::ArgumentConflict);
    }
}
