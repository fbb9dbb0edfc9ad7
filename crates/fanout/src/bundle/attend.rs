//! Subscribers that look for themselves, because they read from the log, and those that may be called
//! one by one: to end, or to be told something.

use std::pin::Pin;

use bytes::Bytes;
use futures_util::future::{AbortHandle, Abortable, Aborted};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use super::Bundle;
use super::outlet::Outlet;
use super::record::Source;
use crate::engine::rung;
use crate::subscriber::{End, Next, Parked, Subscriber};

/// A subscriber that is away, unless its client went meanwhile.
pub(super) type Away = Abortable<Pin<Box<dyn Future<Output = Back> + Send>>>;

/// Waits until one is called.
pub(super) type Watched = Abortable<Pin<Box<dyn Future<Output = (usize, Call)> + Send>>>;

/// What a subscriber is called for.
pub(super) enum Call {
    /// Its guard wants it to end.
    End,
    /// Its guard has a word for it.
    Word,
}

/// A subscriber that comes back.
pub(super) struct Back {
    slot: usize,
    subscriber: Box<Subscriber>,
    with: With,
}

enum With {
    Bytes(Bytes),
    End(End),
    /// Nothing: the rings have all it is owed from here on.
    CaughtUp(Parked),
    /// It was called back.
    Cut,
}

async fn look(slot: usize, mut subscriber: Box<Subscriber>, cut: CancellationToken) -> Back {
    let with = loop {
        match cut.run_until_cancelled(subscriber.step()).await {
            Some(Some(Next::Bytes(bytes))) => break With::Bytes(bytes),
            Some(Some(Next::End(end))) => break With::End(end),
            Some(None) => {}
            None => break With::Cut,
        }
        if let Some(parked) = subscriber.parked() {
            break With::CaughtUp(parked);
        }
        if cut.run_until_cancelled(subscriber.wait()).await.is_none() {
            break With::Cut;
        }
    };
    Back { slot, subscriber, with }
}

impl<O: Outlet> Bundle<O> {
    /// A subscriber that was sent all it had handed out goes where its next bytes come from.
    pub(super) fn settle(&mut self, slot: usize) {
        let Source::Resting(subscriber) = &self.records[slot].source else { return };
        if let Some(followed) = self.followed.get_mut(&slot) {
            followed.came_to(subscriber.cursor(), self.now);
        }
        if let Some(parked) = subscriber.parked() {
            self.park(slot, parked);
            return;
        }
        let (handle, registration) = AbortHandle::new_pair();
        let record = &mut self.records[slot];
        let before = std::mem::replace(&mut record.source, Source::Away(handle));
        let Source::Resting(subscriber) = before else { unreachable!("looked at above") };
        let looking = Box::pin(look(slot, subscriber, record.guard.cut().clone()));
        self.away.push(Abortable::new(looking, registration));
    }

    /// A ring no longer has what a subscriber is owed: it reads from the log.
    pub(super) fn fall_back(&mut self, slot: usize) {
        let Some(parked) = self.unpark(slot) else { return };
        let mut subscriber = Subscriber::unparked(&self.hub, parked);
        subscriber.take_at_most(crate::engine::RUN_BYTES);
        if let Some(ending) = self.ending.as_ref().filter(|_| self.records[slot].told) {
            subscriber.told(ending.lead());
        }
        self.records[slot].source = Source::Resting(Box::new(subscriber));
        self.settle(slot);
    }

    pub(super) fn came_back(&mut self, back: Result<Back, Aborted>) {
        let Ok(Back { slot, subscriber, with }) = back else { return };
        self.now = Instant::now();
        let Some(record) = self.records.get_mut(slot) else { return };
        debug_assert!(matches!(record.source, Source::Away(_)), "its record waits for it");
        let told_meanwhile = subscriber.was_told() && !record.told;
        record.source = Source::Resting(subscriber);
        if told_meanwhile {
            self.told(slot);
        } else {
            self.end_with_the_others(slot);
        }
        match with {
            With::Bytes(bytes) => {
                self.unsent.insert(slot, bytes);
                self.make_due(slot);
            }
            With::End(end) => self.end(slot, end),
            With::CaughtUp(parked) => self.park(slot, parked),
            With::Cut => self.cut(slot),
        }
        // It may have been called while it was away.
        self.tell(slot);
        if self.records.get(slot).is_some_and(|record| record.guard.cut().is_cancelled()) {
            self.cut(slot);
        }
    }

    /// Sees to it that a subscriber hears when it is called, if it may be.
    pub(super) fn watch(&mut self, slot: usize) {
        let guard = &self.records[slot].guard;
        if !guard.has_own_cut() {
            return;
        }
        let (cut, bell) = (guard.cut().clone(), guard.bell());
        let (handle, registration) = AbortHandle::new_pair();
        let called = Box::pin(async move {
            tokio::select! {
                biased;
                () = cut.cancelled() => (slot, Call::End),
                () = rung(bell.as_deref()) => (slot, Call::Word),
            }
        });
        self.watched.push(Abortable::new(called, registration));
        self.watches.insert(slot, handle);
    }

    pub(super) fn called(&mut self, call: Result<(usize, Call), Aborted>) {
        let Ok((slot, call)) = call else { return };
        self.now = Instant::now();
        match call {
            Call::End => self.cut(slot),
            Call::Word => {
                self.tell(slot);
                self.watch(slot);
            }
        }
    }

    /// The connection is to end: those of its subscribers that were dismissed are told so. False if there is
    /// nobody to be told.
    pub fn dismiss(&mut self) -> bool {
        // The time that they have to take their last words begins now.
        self.now = Instant::now();
        let dismissed = self.records.iter().filter(|(_, record)| record.guard.dismissed());
        let dismissed: Vec<_> = dismissed.map(|(slot, _)| slot).collect();
        for slot in &dismissed {
            self.end(*slot, End::Dismissed);
        }
        !dismissed.is_empty()
    }

    /// A subscriber's guard wants it to end.
    fn cut(&mut self, slot: usize) {
        let Some(record) = self.records.get(slot) else { return };
        if record.guard.dismissed() {
            self.end(slot, End::Dismissed);
        } else {
            self.reset(slot);
        }
    }

    /// Passes on what a subscriber's guard has for it, behind what it has yet to be sent: that ends with a
    /// whole frame. One that is away hears of it when it comes back.
    fn tell(&mut self, slot: usize) {
        let Some(record) = self.records.get_mut(slot) else { return };
        let said = match &mut record.source {
            Source::Resting(subscriber) => record.guard.word().map(|word| subscriber.say(&word)),
            Source::Parked(_) => match record.guard.word() {
                Some(word) => self.alone(slot, |_, out| out.private(&word)).map(|(said, ())| said),
                None => None,
            },
            Source::Away(_) | Source::Spent { .. } => None,
        };
        if let Some(said) = said {
            self.put_behind(slot, said);
            self.make_due(slot);
        }
    }

    /// Puts bytes behind what a subscriber has yet to be sent.
    pub(super) fn put_behind(&mut self, slot: usize, bytes: Bytes) {
        let all = match self.unsent.remove(&slot) {
            Some(rest) => [rest, bytes].concat().into(),
            None => bytes,
        };
        self.unsent.insert(slot, all);
    }
}
