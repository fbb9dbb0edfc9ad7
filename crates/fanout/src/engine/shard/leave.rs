//! How a connection leaves its shard: back to a task, with last words, or without a word.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use rustix::event::epoll;
use socket2::SockRef;

use super::sweep::Fate;
use super::{Shard, TICK};
use crate::engine::attended::{Attended, say_farewell};
use crate::engine::handle::Farewell;
use crate::engine::line::Line;
use crate::engine::record::{Record, Told};
use crate::subscriber::{End, Parked, Subscriber};

impl Shard {
    /// A connection goes back to a task of its own, which reads from the log for it.
    pub(super) fn give_back(&mut self, slot: usize) {
        // It is not blocked, so nothing of it is unsent: its cursor is a frame's end.
        debug_assert!(!self.unsent.contains_key(&slot));
        let session = self.sessions.remove(&slot);
        let trail = self.trails.remove(&slot);
        let (record, parked) = self.remove(slot);
        let (engine, lead) = (self.engine.clone(), self.lead);
        self.engine.0.tasks.spawn(async move {
            let mut subscriber = Subscriber::unparked(&engine.0.hub, parked);
            if record.told == Told::End {
                subscriber.told(lead);
            }
            match Line::of_std(record.socket, session) {
                Ok(line) => {
                    let sent = record.sent;
                    Attended::returned(engine, line, subscriber, record.guard, sent, trail).run().await;
                }
                Err(error) => tracing::warn!(%error, "a connection could not be given back"),
            }
        });
    }

    /// Ends a connection with its last words.
    pub(super) fn end(&mut self, slot: usize, end: End) {
        let unsent = self.unsent.remove(&slot);
        let session = self.sessions.remove(&slot);
        let (record, parked) = self.remove(slot);
        // Who was told why is not told something else at the end.
        let end = if record.told == Told::End && end == End::Dismissed { End::Stopped } else { end };
        let Farewell { bytes, abort } = record.guard.farewell(end, &parked.cursor);
        let last = parked.finish(&bytes, abort, &self.engine.0.hub.common.deflater);
        self.engine.0.tasks.spawn(async move {
            let guard = record.guard;
            let ended = async {
                let mut line = Line::of_std(record.socket, session)?;
                if let Some(rest) = unsent {
                    line.write_all(&rest).await?;
                }
                say_farewell(line, &last, abort).await
            };
            // Whoever does not take the rest in time is let go all the same.
            let _ = tokio::time::timeout(Duration::from_secs(2), ended).await;
            drop(guard);
        });
    }

    /// Takes a connection out of every table.
    pub(super) fn remove(&mut self, slot: usize) -> (Record, Parked) {
        self.settle(slot);
        self.look_at_trail(slot);
        self.trails.remove(&slot);
        let record = self.records.remove(slot);
        self.unsent.remove(&slot);
        self.sessions.remove(&slot);
        let sum = self.sums.remove(&slot).unwrap_or_default();
        // Only fails if the socket is not there, which is what is wanted.
        let _ = epoll::delete(self.epoll.get_ref(), &record.socket);
        self.load.fetch_sub(1, Ordering::Relaxed);
        let group = &self.groups[record.group];
        let feeds = group.lanes.iter().map(|&lane| Arc::clone(&self.lanes[lane as usize].feed));
        let parked = Parked {
            feeds: feeds.collect(),
            profile: Arc::clone(&group.profile),
            cursor: group.cursor(record.place),
            unseen: record.unseen,
            sum,
            quiet: TICK * self.tick.wrapping_sub(record.written),
            told_in: match record.told {
                Told::Retry(round) => round,
                // What comes after it is not told any more.
                Told::End => self.engine.0.hub.common.retries.round(),
            },
        };
        if let Some(moved) = self.groups.leave(record.group, record.place, &mut self.lanes) {
            self.records[moved as usize].place = record.place;
        }
        (record, parked)
    }

    /// Ends those whose owners want it, and passes on what others are to be told.
    pub(super) fn cut(&mut self) {
        let cut: Vec<_> = self
            .records
            .iter()
            .filter(|(_, record)| record.guard.cut().is_cancelled())
            .map(|(s, _)| s)
            .collect();
        let dismissed = |&slot: &usize| self.records[slot].guard.dismissed();
        let (dismissed, cut): (Vec<_>, Vec<_>) = cut.into_iter().partition(dismissed);
        for slot in cut {
            self.reset(slot);
        }
        for slot in dismissed {
            self.end(slot, End::Dismissed);
        }
        // One that is blocked, perhaps in the middle of a frame, is told when its owner asks again.
        let open = self.records.iter().filter(|(_, record)| !record.blocked);
        let told: Vec<_> = open.filter_map(|(slot, record)| Some((slot, record.guard.word()?))).collect();
        for (slot, word) in told {
            self.tell(slot, &word);
        }
    }

    /// Sends a connection frames for it alone. It is not blocked.
    pub(super) fn tell(&mut self, slot: usize, frames: &[u8]) {
        debug_assert!(!self.unsent.contains_key(&slot), "it would stand in the middle of a frame");
        let (bytes, ()) = self.alone(slot, |_, out| out.private(frames));
        if self.deliver(slot, bytes).is_some_and(|fate| fate == Fate::Gone) {
            drop(self.remove(slot));
        }
    }

    /// Lets go of a connection so that it looks like a broken network, and of what waits in its socket.
    pub(super) fn reset(&mut self, slot: usize) {
        let (record, _) = self.remove(slot);
        if let Err(error) = SockRef::from(&record.socket).set_linger(Some(Duration::ZERO)) {
            tracing::debug!(%error, "a connection was closed where it should have been reset");
        }
    }
}
