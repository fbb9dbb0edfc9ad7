//! What the user sees: acknowledgements on standard output, everything else on standard error.

use std::io::{self, Write};

use evergate_proto::publish::v1::PublishResponse;
use serde_json::json;

use super::args::{Format, Style};
use crate::printable::Printable;

/// Prints in one style, and counts.
pub(crate) struct Output {
    style: Style,
    acknowledgements: Box<dyn Write>,
    notices: Box<dyn Write>,
    counts: Counts,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
struct Counts {
    acknowledged: u64,
    duplicates: u64,
    refused: u64,
}

impl Output {
    /// On standard output and standard error.
    pub(crate) fn new(style: Style) -> Self {
        Self::to(style, Box::new(io::stdout().lock()), Box::new(io::stderr().lock()))
    }

    pub(crate) fn to(style: Style, acknowledgements: Box<dyn Write>, notices: Box<dyn Write>) -> Self {
        Self { style, acknowledgements, notices, counts: Counts::default() }
    }

    /// Each on its own line at once, so that whoever reads along knows what is safe.
    pub(crate) fn acknowledged(&mut self, response: &PublishResponse) -> io::Result<()> {
        self.counts.acknowledged += 1;
        self.counts.duplicates += u64::from(response.duplicate);
        if self.style.quiet {
            return Ok(());
        }
        write_acknowledgement(&mut self.acknowledgements, self.style.format, response)
    }

    /// Counts an event that will never be taken.
    pub(crate) fn refused(&mut self, why: &str) {
        self.counts.refused += 1;
        self.complain(why);
    }

    pub(crate) fn has_refused(&self) -> bool {
        self.counts.refused > 0
    }

    /// The count, at the end.
    pub(crate) fn finish(&mut self) {
        if !self.style.quiet {
            let text = count(self.counts);
            let _ = writeln!(self.notices, "{text}");
        }
    }

    /// A line on standard error. If even that is closed, nobody is listening.
    pub(crate) fn complain(&mut self, text: &str) {
        let _ = writeln!(self.notices, "evergate publish: {}", Printable(text));
    }
}

fn write_acknowledgement(
    out: &mut impl Write,
    format: Format,
    PublishResponse { offset, duplicate }: &PublishResponse,
) -> io::Result<()> {
    match format {
        Format::Json => writeln!(out, "{}", json!({ "offset": offset, "duplicate": duplicate })),
        Format::Text if *duplicate => writeln!(out, "{} duplicate", Printable(offset)),
        Format::Text => writeln!(out, "{}", Printable(offset)),
    }
}

fn count(counts: Counts) -> String {
    let Counts { acknowledged, duplicates, refused } = counts;
    let events = if acknowledged == 1 { "event" } else { "events" };
    let mut text = format!("{acknowledged} {events} acknowledged");
    if duplicates > 0 {
        text += &format!(", {duplicates} of them in the log already");
    }
    if refused > 0 {
        text += &format!(", {refused} refused");
    }
    text
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn written(format: Format, duplicate: bool) -> String {
        let mut out = Vec::new();
        let response = PublishResponse { offset: "1-42".to_owned(), duplicate };
        write_acknowledgement(&mut out, format, &response).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn an_acknowledgement_is_a_line() {
        assert_eq!(written(Format::Text, false), "1-42\n");
        assert_eq!(written(Format::Text, true), "1-42 duplicate\n");
        assert_eq!(written(Format::Json, true), "{\"duplicate\":true,\"offset\":\"1-42\"}\n");
    }

    #[test]
    fn the_count_says_what_happened() {
        let counts = |acknowledged, duplicates, refused| count(Counts { acknowledged, duplicates, refused });
        assert_eq!(counts(1, 0, 0), "1 event acknowledged");
        assert_eq!(counts(7, 2, 1), "7 events acknowledged, 2 of them in the log already, 1 refused");
    }
}
