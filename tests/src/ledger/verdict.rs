//! What a ledger says in the end.

use std::fmt;

use crate::offset::Offset;

/// How much a run must have carried before its silence about faults means anything.
#[derive(Debug, Clone, Copy)]
pub struct Traffic {
    /// Events acknowledged, over all streams.
    pub acknowledged: usize,
    /// Events received, over all subscribers.
    pub received: usize,
}

/// How much a run did carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Events acknowledged, over all streams.
    pub acknowledged: usize,
    /// Events received, over all subscribers.
    pub received: usize,
}

/// One broken promise.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Fault {
    /// A subscriber never got an acknowledged event, nor was told so: subscriber, stream, place.
    Loss(String, String, Offset),
    /// A subscriber got an event twice.
    Duplicate(String, String, Offset),
    /// A subscriber got an event after a later one.
    Disorder(String, String, Offset),
    /// A subscriber got an event that nobody sent.
    Invented(String, String, Offset),
    /// Two different texts were seen at one place of a stream.
    Altered(String, Offset),
    /// One event was seen at two places of a stream.
    Doubled(String, Offset, Offset),
    /// A place of a stream at which nobody saw anything.
    Hole(String, Offset),
}

/// The judgement.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Verdict {
    /// Every promise was kept, under enough traffic to say so.
    Sound(Totals),
    /// Promises were broken.
    Faulty(Totals, Vec<Fault>),
    /// Nothing was seen to be wrong, but too little happened.
    Inconclusive(String),
}

impl Traffic {
    pub(crate) fn lacking(self, had: Totals) -> Option<String> {
        let enough = had.acknowledged >= self.acknowledged && had.received >= self.received;
        (!enough).then(|| {
            format!(
                "{} acknowledged and {} received, but {} and {} are needed to say anything",
                had.acknowledged, had.received, self.acknowledged, self.received
            )
        })
    }
}

impl Verdict {
    /// The totals of a sound run.
    ///
    /// # Panics
    /// If it was not sound.
    pub fn expect_sound(self) -> Totals {
        match self {
            Self::Sound(totals) => totals,
            Self::Inconclusive(why) => panic!("inconclusive: {why}"),
            Self::Faulty(totals, faults) => {
                let shown: Vec<String> = faults.iter().take(20).map(ToString::to_string).collect();
                panic!("{} faults in {totals:?}:\n  {}", faults.len(), shown.join("\n  "))
            }
        }
    }
}

impl fmt::Display for Fault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Loss(who, stream, at) => write!(f, "{who} never got {stream} {at}, which was acknowledged"),
            Self::Duplicate(who, stream, at) => write!(f, "{who} got {stream} {at} twice"),
            Self::Disorder(who, stream, at) => write!(f, "{who} got {stream} {at} after a later one"),
            Self::Invented(who, stream, at) => write!(f, "{who} got {stream} {at}, which nobody sent"),
            Self::Altered(stream, at) => write!(f, "{stream} {at} was seen with two different texts"),
            Self::Doubled(stream, first, second) => {
                write!(f, "one event of {stream} stands at {first} and {second}")
            }
            Self::Hole(stream, at) => write!(f, "nothing was ever seen at {stream} {at}"),
        }
    }
}
