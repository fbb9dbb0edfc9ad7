//! What one subscriber saw of one stream.

use std::collections::BTreeSet;

use super::lost_tails::LostTails;
use super::stream::Stream;
use super::verdict::Fault;
use crate::offset::Offset;

/// A subscriber of a stream, without a filter.
#[derive(Debug, Default)]
pub(super) struct Reader {
    /// It is owed what comes after this.
    after: Option<Offset>,
    /// Losses it was told of: from, up to but without.
    told: Vec<(Offset, Offset)>,
    /// That something may be lost after where it was, and where it goes on.
    notices: Vec<(Offset, Offset)>,
    received: BTreeSet<Offset>,
    /// What it has come to, by its events and by what it was told is missing.
    reached: Option<Offset>,
    /// Positions it was given ahead of what it had come to: from there, to here.
    ahead: Vec<(Offset, Offset)>,
    /// It was told to miss what it has.
    told_wrongly: Vec<(Offset, Offset)>,
}

/// What a receipt is to its reader.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Receipt {
    Due,
    /// It has the event already.
    Again,
    /// It has a later one already.
    Late,
}

impl Reader {
    pub(super) fn begin(&mut self, after: Offset) {
        self.after.get_or_insert(after);
        self.reached = self.reached.max(Some(after));
    }

    pub(super) fn receive(&mut self, offset: Offset) -> Receipt {
        let late = self.received.last().is_some_and(|&last| offset < last);
        if !self.received.insert(offset) {
            return Receipt::Again;
        }
        self.reached = self.reached.max(Some(offset));
        if late { Receipt::Late } else { Receipt::Due }
    }

    pub(super) fn told(&mut self, first_missing: Offset, resumed_at: Offset) {
        if self.received.range(first_missing..resumed_at.max(first_missing)).next().is_some() {
            self.told_wrongly.push((first_missing, resumed_at));
        }
        self.told.push((first_missing, resumed_at));
        let last_missing = Offset::new(resumed_at.epoch, resumed_at.seq.saturating_sub(1));
        self.reached = self.reached.max(Some(last_missing));
    }

    pub(super) fn told_of_a_loss(&mut self, requested: Offset, resumed_at: Offset) {
        self.notices.push((requested, resumed_at));
    }

    pub(super) fn notices(&self) -> &[(Offset, Offset)] {
        &self.notices
    }

    pub(super) fn last(&self) -> Option<Offset> {
        self.received.last().copied()
    }

    pub(super) fn positioned(&mut self, at: Offset) {
        if let Some(reached) = self.reached
            && at > reached
        {
            self.ahead.push((reached, at));
        }
    }

    pub(super) fn received(&self) -> usize {
        self.received.len()
    }

    /// What is wrong with what it got.
    pub(super) fn judge(
        &self,
        who: &str,
        name: &str,
        book: &Stream,
        tails: &LostTails,
        faults: &mut Vec<Fault>,
    ) {
        let named = || (who.to_owned(), name.to_owned());
        let is_owed = |offset| self.is_owed(offset) && !self.is_told_lost(offset, tails);
        for &offset in book.acknowledged.keys().filter(|&&offset| is_owed(offset)) {
            let (who, name) = named();
            faults.push(Fault::Loss(who, name, offset));
        }
        // Whoever was there is told where the end was cut off, also if it had all that was lost: others may
        // have had more, and what it has stands nowhere any more.
        for cut in tails.cuts().filter(|&cut| self.was_carried_over(cut)) {
            if !self.notices.iter().any(|&(from, to)| from.epoch < cut.epoch && cut.epoch <= to.epoch) {
                let (who, name) = named();
                faults.push(Fault::Untold(who, name, cut));
            }
        }
        // What nobody was answered for may never come, but if it came to anybody it comes to all.
        let last = self.last();
        // Whatever was acknowledged was seen; most runs have nothing else.
        let more_seen = book.seen.len() > book.acknowledged.len();
        for &offset in book.seen.keys().filter(|_| more_seen) {
            let unanswered = !book.acknowledged.contains_key(&offset);
            if unanswered && last.is_some_and(|last| offset < last) && is_owed(offset) {
                let (who, name) = named();
                faults.push(Fault::Skipped(who, name, offset));
            }
        }
        for &(from, until) in &self.told {
            if self.told_wrongly.contains(&(from, until)) || !book.is_gone(from, until) {
                let (who, name) = named();
                faults.push(Fault::FalseGap(who, name, from, until));
            }
        }
        for &(reached, at) in &self.ahead {
            let passed = book.seen.range(reached..=at).map(|(&offset, _)| offset);
            if passed.into_iter().any(|offset| offset > reached && !self.is_told(offset)) {
                let (who, name) = named();
                faults.push(Fault::Ahead(who, name, reached, at));
            }
        }
    }

    fn is_told(&self, offset: Offset) -> bool {
        self.told.iter().any(|&(from, to)| (from..to).contains(&offset))
    }

    /// Whether it was told that this may be lost, and it is.
    fn is_told_lost(&self, offset: Offset, tails: &LostTails) -> bool {
        tails.is_cut(offset) && self.notices.iter().any(|&(from, to)| from < offset && offset < to)
    }

    /// Whether it was there before an epoch began, and got something since.
    fn was_carried_over(&self, cut: Offset) -> bool {
        let began = self.after.filter(|after| after.epoch > 0);
        let first = self.received.first().copied().into_iter().chain(began).min();
        first.is_some_and(|first| first.epoch < cut.epoch)
            && self.last().is_some_and(|last| last.epoch >= cut.epoch)
    }

    fn is_owed(&self, offset: Offset) -> bool {
        let begun = self.after.is_some_and(|after| offset > after);
        begun && !self.is_told(offset) && !self.received.contains(&offset)
    }
}
