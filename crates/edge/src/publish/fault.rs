//! What is wrong with a submission, and where the sender finds it.

use std::fmt::Display;

use crate::problem::FieldError;

/// One fault of a submission.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Fault {
    /// The event at fault, from 0.
    event: usize,
    part: Part,
    detail: String,
}

/// What of a submission is at fault.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Part {
    Stream,
    Level,
    /// The events together.
    Events,
    /// An event as a whole.
    Event,
    Data,
    Type,
    Key,
    Producer,
    ProducerId,
    ProducerSeq,
    /// A member of a JSON object that is known by no other name.
    Member(String),
    Header(&'static str),
}

/// All the faults of a submission.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// What can never be right.
    malformed: Vec<Fault>,
    /// What would be right if it were smaller.
    oversized: Vec<Fault>,
}

impl Faults {
    /// This part of event `event` is malformed.
    pub(crate) fn malformed(&mut self, event: usize, part: Part, detail: impl Display) {
        self.malformed.push(Fault { event, part, detail: detail.to_string() });
    }

    /// This part of event `event` is beyond a limit.
    pub(crate) fn oversized(&mut self, event: usize, part: Part, detail: impl Display) {
        self.oversized.push(Fault { event, part, detail: detail.to_string() });
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.malformed.is_empty() && self.oversized.is_empty()
    }

    /// Whether size is all that is wrong.
    pub(crate) fn only_size(&self) -> bool {
        self.malformed.is_empty()
    }

    /// Where the faults are, in the transport's own words and the order of its events.
    pub(crate) fn located(&self, naming: Naming<'_>) -> Vec<FieldError> {
        let mut all: Vec<_> = self.malformed.iter().chain(&self.oversized).collect();
        all.sort_by_key(|fault| fault.event);
        all.into_iter().map(|fault| naming.locate(fault.event, &fault.part, &fault.detail)).collect()
    }
}

/// How a transport names the parts of a submission.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Naming<'a> {
    /// A message with one `event`.
    Event,
    /// A message with `events`.
    Events,
    /// One JSON object.
    Json,
    /// A JSON object on each of these lines, counted from 1.
    Lines(&'a [usize]),
    /// The payload is the body, the rest is in header fields.
    Text,
}

impl Naming<'_> {
    /// Says that `part` of event `event` is at fault.
    pub(crate) fn locate(self, event: usize, part: &Part, detail: &str) -> FieldError {
        let error = FieldError::new(self.field(event, part), detail);
        match (self, part) {
            (Self::Lines(_), Part::Events | Part::Stream | Part::Header(_)) => error,
            (Self::Lines(lines), _) => match lines.get(event) {
                Some(line) => error.on_line(*line),
                None => error,
            },
            (Self::Event | Self::Events | Self::Json | Self::Text, _) => error,
        }
    }

    fn field(self, event: usize, part: &Part) -> String {
        let name = match part {
            Part::Header(name) => return format!("header.{name}"),
            Part::Stream => return "stream".to_owned(),
            Part::Level => {
                return if matches!(self, Self::Text) { "header.Evergate-Level" } else { "level" }.to_owned();
            }
            Part::Events => return if matches!(self, Self::Events) { "events" } else { "body" }.to_owned(),
            Part::Event => "",
            Part::Data => "data",
            Part::Type => "type",
            Part::Key => "key",
            Part::Producer => "producer",
            Part::ProducerId => "producer.id",
            Part::ProducerSeq => "producer.seq",
            Part::Member(name) => name,
        };
        match self {
            Self::Event => join("event", name),
            Self::Events => join(&format!("events[{event}]"), name),
            Self::Json | Self::Lines(_) => if name.is_empty() { "body" } else { name }.to_owned(),
            Self::Text => match name {
                "type" => "header.Evergate-Type",
                "key" => "header.Evergate-Key",
                "producer" | "producer.id" | "producer.seq" => "header.Evergate-Producer",
                _ => "body",
            }
            .to_owned(),
        }
    }
}

fn join(whole: &str, part: &str) -> String {
    if part.is_empty() { whole.to_owned() } else { format!("{whole}.{part}") }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_transport_names_a_part_as_its_sender_knows_it() {
        let field = |naming: Naming<'_>, part| naming.locate(2, &part, "").field;
        assert_eq!(field(Naming::Event, Part::Event), "event");
        assert_eq!(field(Naming::Event, Part::ProducerSeq), "event.producer.seq");
        assert_eq!(field(Naming::Events, Part::Key), "events[2].key");
        assert_eq!(field(Naming::Events, Part::Events), "events");
        assert_eq!(field(Naming::Json, Part::Type), "type");
        assert_eq!(field(Naming::Json, Part::Events), "body");
        assert_eq!(field(Naming::Text, Part::ProducerId), "header.Evergate-Producer");
        assert_eq!(field(Naming::Text, Part::Data), "body");
        assert_eq!(field(Naming::Text, Part::Level), "header.Evergate-Level");
    }

    #[test]
    fn a_line_is_named_only_for_what_is_on_it() {
        let lines = Naming::Lines(&[1, 4, 9]);
        assert_eq!(lines.locate(2, &Part::Key, "").line, Some(9));
        assert_eq!(lines.locate(0, &Part::Events, "").line, None);
        assert_eq!(lines.locate(0, &Part::Header("Evergate-Level"), "").line, None);
    }
}
