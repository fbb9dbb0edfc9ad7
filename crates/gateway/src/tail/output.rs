//! What the user sees: events on standard output, everything else on standard error.

use std::io::{self, BufWriter, StderrLock, StdoutLock, Write};

use evergate_domain::sse::Message;
use serde_json::json;

use super::args::{Format, Style};
use super::session::{Gap, Notice, Outcome};
use crate::printable::Printable;

const CONTROL_PREFIX: &str = "evergate.";
const GAP: &str = "evergate.gap";

/// Prints in one style. Standard output is buffered between calls of [`flush`](Self::flush).
pub(crate) struct Output {
    style: Style,
    events: BufWriter<StdoutLock<'static>>,
    notices: StderrLock<'static>,
}

impl Output {
    pub(crate) fn new(style: Style) -> Self {
        Self { style, events: BufWriter::new(io::stdout().lock()), notices: io::stderr().lock() }
    }

    pub(crate) fn show(&mut self, message: &Message) -> io::Result<()> {
        if is_shown(self.style, &message.kind) {
            write_event(&mut self.events, self.style.format, message)?;
        }
        Ok(())
    }

    pub(crate) fn flush(&mut self) -> io::Result<()> {
        self.events.flush()
    }

    pub(crate) fn notice(&mut self, notice: &Notice) {
        let text = match notice {
            Notice::Gap(gap) => tell_gap(gap),
            Notice::Opened(_) | Notice::Goaway { .. } | Notice::Reconnecting { .. } if self.style.quiet => {
                return;
            }
            Notice::Opened(open) => format!(
                "following ({}), connection {}, trace {}",
                open.resume, open.connection, open.trace_id
            ),
            Notice::Goaway { reason } => format!("the server is about to end the stream ({reason})"),
            Notice::Reconnecting { why, wait } => {
                format!("{why}; again in {:.1} s", wait.as_secs_f64())
            }
        };
        self.complain(&text);
    }

    /// Says why it ended, where that is not what the user asked for.
    pub(crate) fn finish(&mut self, outcome: &Outcome) {
        let text = match outcome {
            Outcome::Counted | Outcome::Interrupted => return,
            Outcome::NoMore => "the server says that nothing more will come".to_owned(),
            Outcome::Refused { status, detail: Some(detail) } => format!("refused with {status}: {detail}"),
            Outcome::Refused { status, detail: None } => format!("refused with {status}"),
            Outcome::NotAStream { content_type } if content_type.is_empty() => {
                "the answer is no event stream; is this the right URL?".to_owned()
            }
            Outcome::NotAStream { content_type } => {
                format!("the answer is {content_type}, no event stream; is this the right URL?")
            }
            Outcome::Malformed(error) => format!("the stream is malformed: {error}"),
        };
        self.complain(&text);
    }

    /// A line on standard error. If even that is closed, nobody is listening.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.notices, "evergate tail: {}", Printable(text));
    }
}

fn is_shown(style: Style, kind: &str) -> bool {
    // A program that reads JSON must not have to read standard error to learn of a loss.
    !kind.starts_with(CONTROL_PREFIX) || style.control || (style.format == Format::Json && kind == GAP)
}

fn write_event(out: &mut impl Write, format: Format, message: &Message) -> io::Result<()> {
    let Message { kind, data, last_event_id } = message;
    match format {
        Format::Raw => writeln!(out, "{data}"),
        Format::Json => {
            let id = (!last_event_id.is_empty()).then_some(last_event_id);
            writeln!(out, "{}", json!({ "id": id, "type": kind, "data": data }))
        }
        Format::Text => {
            write!(out, "{}", Printable(last_event_id))?;
            if kind != "message" {
                write!(out, " [{}]", Printable(kind))?;
            }
            // Further lines are indented, so that each event's first line stands out.
            for (index, line) in data.split('\n').enumerate() {
                if index > 0 {
                    write!(out, "\n   ")?;
                }
                write!(out, " {}", Printable(line))?;
            }
            writeln!(out)
        }
    }
}

fn tell_gap(gap: &Gap) -> String {
    let lost = match gap.lost {
        Some(1) => "1 event of stream".to_owned(),
        Some(lost) => format!("{lost} events of stream"),
        None => "an unknown number of events of stream".to_owned(),
    };
    format!(
        "GAP: {lost} {} lost ({}), after {}, before {}",
        gap.stream, gap.reason, gap.requested, gap.resumed_at
    )
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn printed(format: Format, kind: &str, data: &str) -> String {
        let message =
            Message { kind: kind.to_owned(), data: data.to_owned(), last_event_id: "1-42".to_owned() };
        let mut out = Vec::new();
        write_event(&mut out, format, &message).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn text_is_for_people_and_cannot_steer_their_terminal() {
        assert_eq!(printed(Format::Text, "message", "hello"), "1-42 hello\n");
        assert_eq!(printed(Format::Text, "trade", "a\nb"), "1-42 [trade] a\n    b\n");
        assert_eq!(printed(Format::Text, "message", "a\x1b[2Jb\tc"), "1-42 a\\u{1b}[2Jb\tc\n");
    }

    #[test]
    fn json_and_raw_are_exact() {
        assert_eq!(
            printed(Format::Json, "trade", "a\n\"b\""),
            "{\"data\":\"a\\n\\\"b\\\"\",\"id\":\"1-42\",\"type\":\"trade\"}\n"
        );
        assert_eq!(printed(Format::Raw, "trade", "a\x1bb"), "a\x1bb\n");
    }

    #[test]
    fn control_events_are_shown_on_demand_and_gaps_always_in_json() {
        let style = |format, control| Style { format, control, quiet: false };
        assert!(!is_shown(style(Format::Text, false), GAP));
        assert!(is_shown(style(Format::Text, true), "evergate.open"));
        assert!(is_shown(style(Format::Json, false), GAP));
        assert!(!is_shown(style(Format::Json, false), "evergate.open"));
        assert!(is_shown(style(Format::Raw, false), "trade"));
    }

    #[test]
    fn a_gap_is_told_with_its_size_where_it_is_known() {
        let gap = Gap {
            stream: "quote".to_owned(),
            requested: "1-4".to_owned(),
            resumed_at: "1-10".to_owned(),
            reason: "trimmed".to_owned(),
            lost: Some(5),
        };
        assert_eq!(tell_gap(&gap), "GAP: 5 events of stream quote lost (trimmed), after 1-4, before 1-10");
        let unknown = Gap { lost: None, ..gap };
        assert!(tell_gap(&unknown).starts_with("GAP: an unknown number of events of stream quote lost"));
    }
}
