//! The arguments of `evergate bench`, and the load they describe.

use std::time::Duration;

use clap::{Args, ValueEnum};
use evergate_domain::StreamName;
use url::Url;

/// Payloads hold a number, a time, and what fills them up.
pub(super) const SIZE_MIN: usize = 48;

/// Measure a gateway: how late events arrive, whether all do, and what they cost
#[derive(Debug, Clone, Args)]
pub(crate) struct BenchArgs {
    /// Where the HTTP API is, without TLS
    #[arg(value_name = "URL", default_value = "http://127.0.0.1:8080")]
    url: String,
    /// How many subscribers, each on a connection of its own
    #[arg(long, short = 'n', value_name = "N", default_value = "1000", value_parser = clap::value_parser!(u32).range(1..))]
    subscribers: u32,
    /// Over how many streams they and the events are spread
    #[arg(long, value_name = "N", default_value = "1", value_parser = clap::value_parser!(u32).range(1..))]
    streams: u32,
    /// Events a second, over all streams
    #[arg(long, value_name = "N", default_value = "10")]
    rate: f64,
    /// For how many seconds events are published
    #[arg(long, value_name = "SECONDS", default_value = "10", value_parser = clap::value_parser!(u64).range(1..=86_400))]
    duration: u64,
    /// How many bytes an event's data has
    #[arg(long, value_name = "BYTES", default_value = "200")]
    size: usize,
    /// Over how many connections events are published; those of one stream share one
    #[arg(long, value_name = "N", default_value = "4", value_parser = clap::value_parser!(u32).range(1..))]
    publishers: u32,
    /// A process of the gateway on this machine, whose CPU time and memory are measured. May be repeated
    #[arg(long = "pid", value_name = "PID")]
    pids: Vec<u32>,
    /// How the streams' names begin; what follows is new in every run
    #[arg(long, value_name = "NAME", default_value = "bench")]
    prefix: String,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// What to do to which gateway.
#[derive(Debug, Clone)]
pub(super) struct Plan {
    /// `host:port`.
    pub(super) authority: String,
    /// The path before `/v1`.
    pub(super) base: String,
    pub(super) streams: Vec<String>,
    pub(super) subscribers: u32,
    pub(super) publishers: u32,
    pub(super) size: usize,
    /// Between one event and the next.
    pub(super) pace: Duration,
    pub(super) events: u64,
    pub(super) pids: Vec<u32>,
}

impl BenchArgs {
    pub(super) fn output(&self) -> Format {
        self.output
    }

    /// Checks the arguments before anything is sent. `run` sets this run's streams apart. The error is a
    /// sentence for the user.
    pub(super) fn plan(self, run: u32) -> Result<Plan, String> {
        let url = Url::parse(&self.url).map_err(|error| format!("{:?} is not a URL: {error}", self.url))?;
        let host = url.host_str().filter(|_| url.scheme() == "http");
        let host = host.ok_or_else(|| format!("{:?} is not a URL such as \"http://h:8080\"", self.url))?;
        if !(self.rate > 0.0 && self.rate <= 1e6) {
            return Err(format!("--rate {}: not above 0 and at most 1000000", self.rate));
        }
        if self.size < SIZE_MIN {
            return Err(format!("--size {}: an event needs {SIZE_MIN} bytes", self.size));
        }
        let names = (0..self.streams).map(|n| format!("{}-{run:08x}-{n}", self.prefix));
        let names = names.map(|name| match StreamName::new(&name) {
            Ok(_) => Ok(name),
            Err(error) => Err(format!("--prefix {:?}: {error}", self.prefix)),
        });
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            clippy::cast_precision_loss,
            reason = "both are within bounds, and the rate is above nothing"
        )]
        let events = (self.rate * self.duration as f64).ceil() as u64;
        Ok(Plan {
            authority: format!("{host}:{}", url.port_or_known_default().unwrap_or(80)),
            base: url.path().trim_end_matches('/').to_owned(),
            streams: names.collect::<Result<_, _>>()?,
            subscribers: self.subscribers,
            publishers: self.publishers.min(self.streams),
            size: self.size,
            pace: Duration::from_secs_f64(1.0 / self.rate),
            events,
            pids: self.pids,
        })
    }
}

impl Plan {
    pub(super) fn path(&self, stream: usize) -> String {
        format!("{}/v1/streams/{}/events", self.base, self.streams[stream])
    }

    /// The stream that a subscriber follows, or that an event is of.
    pub(super) fn stream_of(&self, number: u64) -> usize {
        usize::try_from(number % self.streams.len() as u64).expect("one of them")
    }

    /// How many deliveries there are if nothing is lost.
    pub(super) fn deliveries(&self, published: &[u64]) -> u64 {
        (0..u64::from(self.subscribers)).map(|n| published[self.stream_of(n)]).sum()
    }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapped {
        #[command(flatten)]
        bench: BenchArgs,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        Wrapped::try_parse_from([&["bench"], arguments].concat()).unwrap().bench.plan(0x2a)
    }

    #[test]
    fn a_load_is_spread_over_streams() {
        let plan = plan(&["http://h/x/", "-n", "5", "--streams", "2", "--rate", "2.5"]).unwrap();
        assert_eq!(
            (plan.authority.as_str(), plan.path(1).as_str()),
            ("h:80", "/x/v1/streams/bench-0000002a-1/events")
        );
        assert_eq!((plan.events, plan.publishers, plan.pace), (25, 2, Duration::from_millis(400)));
        assert_eq!(plan.deliveries(&[10, 1]), 3 * 10 + 2);
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_sent() {
        for (arguments, expected) in [
            (&["h"][..], "\"h\" is not a URL: relative URL without a base"),
            (&["https://h"], "\"https://h\" is not a URL such as \"http://h:8080\""),
            (&["--rate", "0"], "--rate 0: not above 0 and at most 1000000"),
            (&["--rate", "nan"], "--rate NaN: not above 0 and at most 1000000"),
            (&["--size", "9"], "--size 9: an event needs 48 bytes"),
        ] {
            assert_eq!(plan(arguments).unwrap_err(), expected, "{arguments:?}");
        }
        assert!(plan(&["--prefix", "a/b"]).unwrap_err().starts_with("--prefix \"a/b\": "));
    }
}
