//! One subscriber of a bundle.

use std::sync::Arc;

use futures_util::future::AbortHandle;

use super::outlet::Outlet;
use crate::engine::{Guard, Listener};
use crate::retries::Round;
use crate::subscriber::Subscriber;

/// A subscriber. Nothing here grows with how far it lies behind.
pub(super) struct Record<O> {
    pub(super) outlet: O,
    pub(super) guard: Box<dyn Guard>,
    pub(super) bell: Arc<Listener>,
    pub(super) source: Source,
    /// The tick of the last write; once its end is decided, of that.
    pub(super) written: u32,
    /// Whether its outlet takes no more until it says so.
    pub(super) blocked: bool,
    /// Whether it is among those that may have something to be sent.
    pub(super) due: bool,
    /// Whether it was told that the hub ends its streams.
    pub(super) told: bool,
    /// When it was told last when to come back, before it was parked.
    pub(super) told_in: Round,
}

/// Where the next bytes come from.
pub(super) enum Source {
    /// The rings.
    Parked(Place),
    /// Its subscriber, as soon as it was sent what it has handed out.
    Resting(Box<Subscriber>),
    /// Its subscriber, which is looking for them.
    Away(AbortHandle),
    /// Nowhere: what is unsent is the last.
    Spent { abort: bool },
}

/// A place in a group, where its position is kept too.
pub(super) struct Place {
    pub(super) group: u32,
    /// Among the group's followers.
    pub(super) at: u32,
    /// Events passed over since the client was last sent an id.
    pub(super) unseen: u32,
    /// The streams in which it is to be moved on by their policy before it is sent anything else: a bit
    /// for each.
    pub(super) skips: u16,
    /// The stream whose turn it is.
    pub(super) turn: u8,
    /// Whether it is not up to date, or has just come.
    pub(super) behind: bool,
}

impl<O: Outlet> Record<O> {
    /// How many of `wanted` bytes its outlet takes now; `None` if its client has gone.
    pub(super) fn room(&mut self, wanted: usize) -> Option<usize> {
        let Self { outlet, bell, .. } = self;
        bell.ask(|cx| outlet.room(wanted, cx))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// An outlet over HTTP/2 is three words.
    #[test]
    fn a_record_and_its_position_stay_small() {
        let bytes = size_of::<Record<[usize; 3]>>() + size_of::<evergate_domain::Offset>();
        assert!(bytes <= 104, "{bytes}");
    }
}
