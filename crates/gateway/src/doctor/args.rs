//! The arguments of `evergate doctor`, and the examination they ask for.

use std::time::Duration;

use clap::{Args, ValueEnum};
use evergate_domain::StreamName;
use http::HeaderValue;
use url::Url;

use super::client::Dialers;
use crate::dial::{TlsArgs, parse_url};

const EXAMPLE: &str = "https://events.example.com";

/// The stream for examinations, which no real subscriber reads.
const OWN_STREAM: &str = "_doctor";

/// Examine what happens to a stream between the gateway and a subscriber
#[derive(Debug, Clone, Args)]
pub(crate) struct DoctorArgs {
    /// The gateway as subscribers reach it, through every proxy; or the whole URL of an event stream
    #[arg(value_name = "URL")]
    url: String,
    /// The stream to follow and to publish test events to, where URL names none
    #[arg(long, value_name = "STREAM", default_value = OWN_STREAM)]
    stream: String,
    /// Publish test events to this gateway, past the proxies, instead of through URL. Also allows
    /// publishing where URL names a stream
    #[arg(long, value_name = "URL")]
    publish_to: Option<String>,
    /// Publish nothing: judge by the first frame and the heartbeats alone
    #[arg(long, conflicts_with = "publish_to")]
    listen_only: bool,
    /// How long to leave the stream idle to see whether somebody cuts it; an hour finds more
    #[arg(long, value_name = "SECONDS", default_value = "20", value_parser = clap::value_parser!(u64).range(1..))]
    idle: u64,
    /// Ask as a page of this origin, and judge whether a browser would let it read
    #[arg(long, value_name = "ORIGIN")]
    origin: Option<String>,
    /// How the report is printed
    #[arg(long, value_enum, default_value = "text")]
    output: Format,
    #[command(flatten)]
    tls: TlsArgs,
}

/// How the report is printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum Format {
    /// For people
    Text,
    /// One JSON object
    Json,
}

/// What to examine.
pub(crate) struct Plan {
    /// The event stream.
    pub url: Url,
    /// Where test events are published; `None` to publish nothing.
    pub publish: Option<Url>,
    pub idle: Duration,
    pub origin: Option<HeaderValue>,
    pub dialers: Dialers,
}

impl DoctorArgs {
    pub(crate) fn output(&self) -> Format {
        self.output
    }

    /// Checks the arguments before anything is sent. The error is a sentence for the user.
    pub(crate) fn plan(self) -> Result<Plan, String> {
        let given = parse_url(&self.url, EXAMPLE)?;
        let is_base = matches!(given.path(), "" | "/");
        let stream = StreamName::new(&self.stream).map_err(|error| format!("--stream: {error}"))?;
        let url = if is_base { events(&given, &stream) } else { given };
        let publish = match (&self.publish_to, is_base && !self.listen_only) {
            (Some(base), _) => {
                let base = parse_url(base, EXAMPLE)?;
                let stream =
                    named(&url).ok_or("--publish-to: the URL names no single stream to publish to")?;
                Some(events(&base, &stream))
            }
            (None, true) => Some(url.clone()),
            (None, false) => None,
        };
        let origin = self.origin.map(|origin| {
            HeaderValue::from_str(&origin).map_err(|_| format!("--origin {origin:?}: not printable ASCII"))
        });
        Ok(Plan {
            url,
            publish,
            idle: Duration::from_secs(self.idle),
            origin: origin.transpose()?,
            dialers: Dialers::new(&self.tls)?,
        })
    }
}

/// The path of a stream below a base, which may have a path of its own.
fn events(base: &Url, stream: &StreamName) -> Url {
    let mut url = base.clone();
    url.set_path(&format!("{}/v1/streams/{stream}/events", base.path().trim_end_matches('/')));
    url
}

/// The one stream that a URL names.
fn named(url: &Url) -> Option<StreamName> {
    let name = url.path().strip_suffix("/events")?.rsplit_once("/v1/streams/")?.1;
    StreamName::new(name).ok()
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use clap::Parser;

    use super::*;

    #[derive(Debug, Parser)]
    struct Wrapped {
        #[command(flatten)]
        doctor: DoctorArgs,
    }

    fn plan(arguments: &[&str]) -> Result<Plan, String> {
        Wrapped::try_parse_from([&["doctor"], arguments].concat()).unwrap().doctor.plan()
    }

    #[track_caller]
    fn plans(arguments: &[&str], url: &str, publish: Option<&str>) {
        let plan = plan(arguments).unwrap();
        assert_eq!(plan.url.as_str(), url);
        assert_eq!(plan.publish.as_ref().map(Url::as_str), publish);
    }

    #[test]
    fn a_gateway_is_examined_on_a_stream_of_our_own() {
        let own = "http://h/v1/streams/_doctor/events";
        plans(&["http://h"], own, Some(own));
        plans(&["http://h/", "--listen-only"], own, None);
        plans(
            &["http://h", "--stream", "s", "--publish-to", "http://e:1/x"],
            "http://h/v1/streams/s/events",
            Some("http://e:1/x/v1/streams/s/events"),
        );
    }

    #[test]
    fn nothing_is_published_to_a_stream_with_readers_unless_asked_for() {
        let theirs = "http://h/v1/streams/quote/events?key=A";
        plans(&[theirs], theirs, None);
        plans(&[theirs, "--publish-to", "http://e"], theirs, Some("http://e/v1/streams/quote/events"));
    }

    #[test]
    fn what_cannot_work_is_said_before_anything_is_sent() {
        for (arguments, expected) in [
            (&["h"][..], "\"h\" is not a URL: relative URL without a base"),
            (&["ftp://h"], "\"ftp://h\" is not a URL such as \"https://events.example.com\""),
            (
                &["http://h/v1/events?stream=a", "--publish-to", "http://e"],
                "--publish-to: the URL names no single stream to publish to",
            ),
            (&["http://h", "--origin", "a\nb"], "--origin \"a\\nb\": not printable ASCII"),
        ] {
            assert_eq!(plan(arguments).err().as_deref(), Some(expected), "{arguments:?}");
        }
    }
}
