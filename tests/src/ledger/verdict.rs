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

/// What a run must have been through before its silence about faults means anything.
#[derive(Debug, Clone, Copy)]
pub struct Demands {
    /// What it carried.
    pub traffic: Traffic,
    /// How often subscribers came back.
    pub resumes: usize,
    /// How often something was broken on purpose.
    pub injected: usize,
}

/// How much a run did carry.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Totals {
    /// Events acknowledged, over all streams.
    pub acknowledged: usize,
    /// Events received, over all subscribers.
    pub received: usize,
}

/// What crashes cut off the ends of streams, and what was said about it.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Losses {
    /// Events that were acknowledged or received and stand nowhere any more.
    pub events: usize,
    /// Notices that something may be lost, over all subscribers.
    pub notices: usize,
    /// Those of them over which nothing was.
    pub unneeded: usize,
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
    /// A stream has two histories: the same sequence under two epochs.
    Fork(String, Offset, Offset),
    /// An event that was refused stands in the stream.
    Phantom(String, Offset),
    /// A producer's event stands before one that it sent earlier: stream, producer, place.
    Shuffled(String, String, Offset),
    /// A subscriber never got an event that others got before a later one, acknowledged or not.
    Skipped(String, String, Offset),
    /// A subscriber was told that events are missing which are there, or which it has.
    FalseGap(String, String, Offset, Offset),
    /// A subscriber that was there was not told that the end of a stream was cut off where this epoch began.
    Untold(String, String, Offset),
    /// A subscriber was given a position beyond events that it was owed: from there, to here.
    Ahead(String, String, Offset, Offset),
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

impl Demands {
    pub(crate) fn lacking(self, had: Totals, resumes: usize, injected: usize) -> Option<String> {
        let enough = resumes >= self.resumes && injected >= self.injected;
        self.traffic.lacking(had).or_else(|| {
            (!enough).then(|| {
                format!(
                    "{resumes} resumes and {injected} faults injected, but {} and {} are needed to say anything",
                    self.resumes, self.injected
                )
            })
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
            Self::Fork(stream, one, other) => write!(f, "{stream} has two histories, {one} and {other}"),
            Self::Phantom(stream, at) => write!(f, "{stream} {at} was refused, and is there"),
            Self::Shuffled(stream, producer, at) => {
                write!(f, "{stream} {at} stands before what {producer} sent earlier")
            }
            Self::Skipped(who, stream, at) => write!(f, "{who} was carried past {stream} {at} in silence"),
            Self::FalseGap(who, stream, from, until) => {
                write!(f, "{who} was told that {stream} {from} to before {until} is missing, which it is not")
            }
            Self::Untold(who, stream, at) => {
                write!(f, "{who} was not told that what stood at and after {stream} {at} before is lost")
            }
            Self::Ahead(who, stream, from, at) => {
                write!(
                    f,
                    "{who} had come to {from} of {stream} and was positioned at {at}, past what it is owed"
                )
            }
        }
    }
}
