//! The ledger: every publish and its acknowledgement against every receipt. It alone judges whether
//! anything was lost, doubled, out of order or altered.
//!
//! It relies on one thing: no two events of a stream have the same text, so a text names its event.

mod verdict;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::hash::{DefaultHasher, Hash as _, Hasher as _};

use crate::offset::Offset;

pub use verdict::{Fault, Totals, Traffic, Verdict};

/// What was promised and what was seen.
#[derive(Debug, Default)]
pub struct Ledger {
    streams: BTreeMap<String, Stream>,
    /// By subscriber and stream.
    subscribers: BTreeMap<(String, String), Subscriber>,
    faults: Vec<Fault>,
}

/// One stream, as far as the world outside knows it.
#[derive(Debug, Default)]
struct Stream {
    /// Texts that were sent, so that they may appear.
    attempted: BTreeSet<u64>,
    acknowledged: BTreeMap<Offset, u64>,
    /// The one digest ever seen at an offset, by anybody.
    seen: BTreeMap<Offset, u64>,
    /// The one offset at which a text was ever seen.
    places: HashMap<u64, Offset>,
}

/// What one subscriber saw of one stream.
#[derive(Debug, Default)]
struct Subscriber {
    /// It is owed what comes after this.
    after: Option<Offset>,
    /// Losses it was told of: from, up to but without.
    told: Vec<(Offset, Offset)>,
    received: BTreeSet<Offset>,
    last: Option<Offset>,
}

impl Ledger {
    /// An empty ledger.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// `text` is about to be sent: from now on it may appear in the stream.
    pub fn attempted(&mut self, stream: &str, text: &str) {
        let digest = digest(text);
        self.streams.entry(stream.to_owned()).or_default().attempted.insert(digest);
    }

    /// The server has promised `text` a place.
    pub fn acknowledged(&mut self, stream: &str, offset: Offset, text: &str) {
        self.place(stream, offset, digest(text));
        let book = self.streams.entry(stream.to_owned()).or_default();
        book.acknowledged.insert(offset, digest(text));
    }

    /// A subscriber begins after a position: everything later is owed to it.
    pub fn subscribed(&mut self, subscriber: &str, stream: &str, after: Offset) {
        self.subscriber(subscriber, stream).after.get_or_insert(after);
    }

    /// A subscriber was told that events are missing.
    pub fn told(&mut self, subscriber: &str, stream: &str, first_missing: Offset, resumed_at: Offset) {
        self.subscriber(subscriber, stream).told.push((first_missing, resumed_at));
    }

    /// A subscriber received an event.
    pub fn received(&mut self, subscriber: &str, stream: &str, offset: Offset, text: &str) {
        self.place(stream, offset, digest(text));
        let attempted = self.streams.get(stream).is_some_and(|book| book.attempted.contains(&digest(text)));
        let at = |kind: fn(String, String, Offset) -> Fault| {
            kind(subscriber.to_owned(), stream.to_owned(), offset)
        };
        if !attempted {
            self.faults.push(at(Fault::Invented));
        }
        let reader = self.subscribers.entry((subscriber.to_owned(), stream.to_owned())).or_default();
        if !reader.received.insert(offset) {
            self.faults.push(at(Fault::Duplicate));
        } else if reader.last.is_some_and(|last| offset < last) {
            self.faults.push(at(Fault::Disorder));
        }
        reader.last = reader.last.max(Some(offset));
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
            received: self.subscribers.values().map(|reader| reader.received.len()).sum(),
        }
    }

    /// The judgement, once everything was given time to arrive. A run that carried less than
    /// `at_least` proves nothing and is said to be inconclusive, unless it was faulty.
    #[must_use]
    pub fn judge(&self, at_least: Traffic) -> Verdict {
        let mut faults = self.faults.clone();
        for (stream, book) in &self.streams {
            faults.extend(book.holes().map(|offset| Fault::Hole(stream.clone(), offset)));
        }
        for ((subscriber, stream), reader) in &self.subscribers {
            let Some(book) = self.streams.get(stream) else { continue };
            let missing = book.acknowledged.keys().filter(|&&offset| reader.is_owed(offset));
            faults.extend(missing.map(|&offset| Fault::Loss(subscriber.clone(), stream.clone(), offset)));
        }
        let totals = self.totals();
        if !faults.is_empty() {
            return Verdict::Faulty(totals, faults);
        }
        match at_least.lacking(totals) {
            Some(why) => Verdict::Inconclusive(why),
            None => Verdict::Sound(totals),
        }
    }

    fn subscriber(&mut self, subscriber: &str, stream: &str) -> &mut Subscriber {
        self.subscribers.entry((subscriber.to_owned(), stream.to_owned())).or_default()
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

impl Stream {
    /// Places between the first and the last one seen where nothing was ever seen. Sequences are
    /// dense, across epochs too.
    fn holes(&self) -> impl Iterator<Item = Offset> + '_ {
        let following = self.seen.keys().zip(self.seen.keys().skip(1));
        following.filter(|(before, after)| after.seq != before.seq + 1).map(|(before, _)| before.plus(1))
    }
}

impl Subscriber {
    fn is_owed(&self, offset: Offset) -> bool {
        let begun = self.after.is_some_and(|after| offset > after);
        let told = self.told.iter().any(|&(from, to)| (from..to).contains(&offset));
        begun && !told && !self.received.contains(&offset)
    }
}

fn digest(text: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    text.hash(&mut hasher);
    hasher.finish()
}

#[cfg(test)]
mod tests;
