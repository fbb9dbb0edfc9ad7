//! The ledger: every publish and its acknowledgement against every receipt. It alone judges whether
//! anything was lost, doubled, out of order, altered or made up, and whether a subscriber was told the
//! truth about what it missed.
//!
//! It relies on one thing: no two events of a stream have the same text, so a text names its event.
//! And on subscribers without a filter, which are owed every event. It reads no clock: how long things
//! may take is the tests' own business.

mod lost_tails;
mod reader;
mod stream;
mod verdict;

use std::collections::BTreeMap;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::offset::Offset;

use lost_tails::LostTails;
use reader::Reader;
use stream::Stream;
pub use verdict::{Demands, Fault, Losses, Totals, Traffic, Verdict};

/// What was promised and what was seen.
#[derive(Debug, Default)]
pub struct Ledger {
    streams: BTreeMap<String, Stream>,
    /// By subscriber and stream.
    readers: BTreeMap<(String, String), Reader>,
    faults: Vec<Fault>,
    resumes: usize,
    injected: usize,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `text` is about to be sent: from now on it may appear in the stream.
    pub fn attempted(&mut self, stream: &str, text: &str) {
        self.stream(stream).attempted.insert(digest(text));
    }

    /// The same, of a producer that numbers its events: they must appear in its order.
    pub fn attempted_as(&mut self, stream: &str, producer: &str, seq: u64, text: &str) {
        self.attempted(stream, text);
        self.stream(stream).authored.insert((producer.to_owned(), seq), digest(text));
    }

    /// The server has promised `text` a place.
    pub fn acknowledged(&mut self, stream: &str, offset: Offset, text: &str) {
        self.place(stream, offset, digest(text));
        self.stream(stream).acknowledged.insert(offset, digest(text));
    }

    /// The server has said for good that it does not take `text`: it must never appear.
    pub fn refused(&mut self, stream: &str, text: &str) {
        self.stream(stream).refused.insert(digest(text));
    }

    /// What stood from `from` up to but without `until` is known to be gone: retention removed it, or
    /// the test destroyed it. Only this may a subscriber be told to be missing.
    pub fn removed(&mut self, stream: &str, from: Offset, until: Offset) {
        self.stream(stream).removed.push((from, until));
    }

    /// A crash may cut off the newest events of this stream, also such as were acknowledged, if everybody who
    /// was there is told.
    pub fn may_lose(&mut self, stream: &str) {
        self.stream(stream).may_lose = true;
    }

    /// Something was broken on purpose: killed, cut, stopped, trimmed.
    pub fn injected(&mut self) {
        self.injected += 1;
    }

    /// A subscriber begins after a position: everything later is owed to it.
    pub fn subscribed(&mut self, subscriber: &str, stream: &str, after: Offset) {
        self.reader(subscriber, stream).begin(after);
    }

    /// A subscriber came back, and its stream begins again after `at`.
    pub fn resumed(&mut self, subscriber: &str, stream: &str, at: Offset) {
        self.resumes += 1;
        self.positioned(subscriber, stream, at);
    }

    /// A subscriber was given a position to come back to, as the id of a control event.
    pub fn positioned(&mut self, subscriber: &str, stream: &str, at: Offset) {
        self.reader(subscriber, stream).positioned(at);
    }

    /// A subscriber was told that events are missing.
    pub fn told(&mut self, subscriber: &str, stream: &str, first_missing: Offset, resumed_at: Offset) {
        self.reader(subscriber, stream).told(first_missing, resumed_at);
    }

    /// A subscriber was told that something after where it was may be lost, and nobody knows how much.
    pub fn told_of_a_loss(&mut self, subscriber: &str, stream: &str, requested: Offset, resumed_at: Offset) {
        self.reader(subscriber, stream).told_of_a_loss(requested, resumed_at);
    }

    /// A subscriber received an event.
    pub fn received(&mut self, subscriber: &str, stream: &str, offset: Offset, text: &str) {
        self.place(stream, offset, digest(text));
        let attempted = self.stream(stream).attempted.contains(&digest(text));
        let at = |kind: fn(String, String, Offset) -> Fault| {
            kind(subscriber.to_owned(), stream.to_owned(), offset)
        };
        if !attempted {
            self.faults.push(at(Fault::Invented));
        }
        match self.reader(subscriber, stream).receive(offset) {
            reader::Receipt::Due => {}
            reader::Receipt::Again => self.faults.push(at(Fault::Duplicate)),
            reader::Receipt::Late => self.faults.push(at(Fault::Disorder)),
        }
    }

    /// The newest acknowledged offset of a stream.
    #[must_use]
    pub fn tail(&self, stream: &str) -> Option<Offset> {
        Some(*self.streams.get(stream)?.acknowledged.last_key_value()?.0)
    }

    /// How much has been acknowledged and received so far.
    #[must_use]
    pub fn totals(&self) -> Totals {
        Totals {
            acknowledged: self.streams.values().map(|book| book.acknowledged.len()).sum(),
            received: self.readers.values().map(Reader::received).sum(),
        }
    }

    /// The newest epoch of which anybody received anything; 0 before that.
    #[must_use]
    pub fn epoch_received(&self) -> u64 {
        self.readers.values().filter_map(Reader::last).map(|last| last.epoch).max().unwrap_or(0)
    }

    /// What crashes cut off, and who was told of it.
    #[must_use]
    pub fn losses(&self) -> Losses {
        let mut losses = Losses { events: 0, notices: 0, unneeded: 0 };
        for (name, book) in &self.streams {
            let tails = LostTails::of(book.seen.keys());
            losses.events += tails.lost();
            for ((_, stream), reader) in &self.readers {
                if stream == name {
                    let notices = reader.notices();
                    losses.notices += notices.len();
                    let needed = |&&(from, to): &&(Offset, Offset)| tails.is_lost_between(from, to);
                    losses.unneeded += notices.len() - notices.iter().filter(needed).count();
                }
            }
        }
        losses
    }

    /// The judgement, once everything was given time to arrive. A run that carried less than
    /// `at_least` proves nothing and is said to be inconclusive, unless it was faulty.
    #[must_use]
    pub fn judge(&self, at_least: Traffic) -> Verdict {
        self.judge_run(Demands { traffic: at_least, resumes: 0, injected: 0 })
    }

    /// The same, of a run in which so much must also have been broken and mended.
    #[must_use]
    pub fn judge_run(&self, demands: Demands) -> Verdict {
        let mut faults = self.faults.clone();
        for (name, book) in &self.streams {
            let tails = book.lost_tails();
            // What was lost may be sent, and stored, once more.
            let was_lost = |fault: &Fault| {
                matches!(fault, Fault::Doubled(stream, one, other)
                    if stream == name && (tails.is_cut(*one) || tails.is_cut(*other)))
            };
            faults.retain(|fault| !was_lost(fault));
            book.judge(name, &tails, &mut faults);
            for ((subscriber, stream), reader) in &self.readers {
                if stream == name {
                    reader.judge(subscriber, stream, book, &tails, &mut faults);
                }
            }
        }
        let totals = self.totals();
        if !faults.is_empty() {
            return Verdict::Faulty(totals, faults);
        }
        match demands.lacking(totals, self.resumes, self.injected) {
            Some(why) => Verdict::Inconclusive(why),
            None => Verdict::Sound(totals),
        }
    }

    fn stream(&mut self, stream: &str) -> &mut Stream {
        self.streams.entry(stream.to_owned()).or_default()
    }

    fn reader(&mut self, subscriber: &str, stream: &str) -> &mut Reader {
        self.readers.entry((subscriber.to_owned(), stream.to_owned())).or_default()
    }

    /// Somebody says that this text stands there. Everybody must say the same for ever.
    fn place(&mut self, stream: &str, offset: Offset, digest: u64) {
        let book = self.streams.entry(stream.to_owned()).or_default();
        let there = *book.seen.entry(offset).or_insert(digest);
        if there != digest {
            self.faults.push(Fault::Altered(stream.to_owned(), offset));
        }
        let place = *book.places.entry(digest).or_insert(offset);
        if place != offset {
            self.faults.push(Fault::Doubled(stream.to_owned(), place, offset));
        }
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
