//! Which region may append to which streams, and which ones could before.

use crate::cluster::Digest;
use crate::cluster::digest::Digester;
use crate::{Epoch, RegionName};

/// How many slots there are.
pub const SLOTS: u16 = 256;

/// How many epochs of a slot are remembered. Further back, a log's own records must do.
const EPOCHS_MAX: usize = 64;

/// One of the [`SLOTS`].
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SlotNumber(u8);

/// A slot's history of homes, the newest last; at most the last one is open.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Slot {
    epochs: Vec<EpochSpan>,
}

/// A stretch of a slot's history in which one region could append.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct EpochSpan {
    /// Rises from one to the next.
    pub epoch: Epoch,
    /// Who could append.
    pub home: RegionName,
    /// Of the positions at which the slot's streams ended, which the regions keep; `None` while they may
    /// still be appended to.
    pub ends: Option<Digest>,
}

/// A slot's epoch cannot be begun or ended so. Nothing was changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SlotError {
    /// There is no such slot.
    #[error("there is no slot {0}; they are numbered from 0 to 255")]
    NoSuchSlot(u64),
    /// A second epoch would be open.
    #[error("epoch {open} in {home} is still open; it must be ended first")]
    StillOpen {
        /// The open one.
        open: Epoch,
        /// Whose it is.
        home: RegionName,
    },
    /// Epochs only rise.
    #[error("epoch {given} is not above {newest}, the newest of the slot")]
    NotAbove {
        /// What was asked for.
        given: Epoch,
        /// What there is.
        newest: Epoch,
    },
    /// It is not the open one that is to be ended.
    #[error("epoch {0} is not open")]
    NotOpen(Epoch),
}

impl SlotNumber {
    /// Checks a number.
    pub fn new(number: u64) -> Result<Self, SlotError> {
        u8::try_from(number).map(Self).map_err(|_| SlotError::NoSuchSlot(number))
    }

    /// The number.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Slot {
    /// From its history, which must be one: rising, and open at its end only. `None` if it is not.
    #[must_use]
    pub fn from_history(epochs: Vec<EpochSpan>) -> Option<Self> {
        let rises = epochs.windows(2).all(|pair| pair[0].epoch < pair[1].epoch && pair[0].ends.is_some());
        (rises && epochs.len() <= EPOCHS_MAX).then_some(Self { epochs })
    }

    /// The history, the oldest first.
    #[must_use]
    pub fn epochs(&self) -> &[EpochSpan] {
        &self.epochs
    }

    /// The epoch in which may be appended now.
    #[must_use]
    pub fn open(&self) -> Option<&EpochSpan> {
        self.epochs.last().filter(|span| span.ends.is_none())
    }

    /// Opens an epoch for a region.
    pub fn begin(&mut self, epoch: Epoch, home: RegionName) -> Result<(), SlotError> {
        if let Some(open) = self.open() {
            return Err(SlotError::StillOpen { open: open.epoch, home: open.home.clone() });
        }
        if let Some(newest) = self.epochs.last()
            && epoch <= newest.epoch
        {
            return Err(SlotError::NotAbove { given: epoch, newest: newest.epoch });
        }
        if self.epochs.len() == EPOCHS_MAX {
            self.epochs.remove(0);
        }
        self.epochs.push(EpochSpan { epoch, home, ends: None });
        Ok(())
    }

    /// Ends the open epoch, at positions of which this is the digest.
    pub fn end(&mut self, epoch: Epoch, ends: Digest) -> Result<(), SlotError> {
        match self.epochs.last_mut() {
            Some(last) if last.epoch == epoch && last.ends.is_none() => {
                last.ends = Some(ends);
                Ok(())
            }
            Some(_) | None => Err(SlotError::NotOpen(epoch)),
        }
    }

    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.number(self.epochs.len() as u64);
        for span in &self.epochs {
            digester.number(span.epoch.get());
            digester.text(span.home.as_str());
            digester.optional(span.ends, |digester, ends| digester.number(ends.get()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn epoch(number: u64) -> Epoch {
        Epoch::new(number).expect("an epoch")
    }

    fn home(name: &str) -> RegionName {
        RegionName::new(name).expect("a name")
    }

    #[test]
    fn a_second_home_waits_for_the_end_of_the_first() {
        let mut slot = Slot::default();
        slot.begin(epoch(3), home("a")).expect("the first");
        assert_eq!(
            slot.begin(epoch(4), home("b")),
            Err(SlotError::StillOpen { open: epoch(3), home: home("a") })
        );
        assert_eq!(slot.end(epoch(2), Digest::new(1)), Err(SlotError::NotOpen(epoch(2))));
        slot.end(epoch(3), Digest::new(1)).expect("open");
        assert_eq!(
            slot.begin(epoch(3), home("b")),
            Err(SlotError::NotAbove { given: epoch(3), newest: epoch(3) })
        );
        slot.begin(epoch(4), home("b")).expect("the first has ended");
        assert_eq!(slot.open().map(|span| span.home.as_str()), Some("b"));
        assert!(SlotNumber::new(255).is_ok() && SlotNumber::new(256).is_err());
    }

    proptest! {
        /// Whatever is asked for, the history rises and is open at its end only.
        #[test]
        fn a_history_stays_one(asked in prop::collection::vec((0u64..100, any::<bool>()), 0..300)) {
            let mut slot = Slot::default();
            for (number, begins) in asked {
                let before = slot.clone();
                let done = if begins { slot.begin(epoch(number), home("a")) } else { slot.end(epoch(number), Digest::new(7)) };
                if done.is_err() {
                    prop_assert_eq!(&slot, &before);
                }
                prop_assert_eq!(Slot::from_history(slot.epochs().to_vec()), Some(slot.clone()));
            }
        }
    }
}
