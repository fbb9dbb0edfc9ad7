//! What sockets report: room to write, surplus input, an end.

use bytes::Bytes;
use evergate_domain::SlowReader;
use evergate_tls::Session;
use futures_util::FutureExt as _;
use rustix::event::epoll;

use super::Shard;
use super::sweep::Fate;
use crate::engine::record::{drain, hear};
use crate::engine::run::Runs;

impl Shard {
    /// Looks at those that the reactor has told of. It is not asked for more: that would be a call for every
    /// event that is sent.
    pub(super) fn look_at_sockets(&mut self) {
        let Some(Ok(mut told)) = self.epoll.readable().now_or_never() else { return };
        // Before they are looked at: what comes after is told again.
        told.clear_ready();
        let mut ready = Vec::with_capacity(256);
        loop {
            ready.clear();
            let now = rustix::event::Timespec { tv_sec: 0, tv_nsec: 0 };
            let waited =
                epoll::wait(self.epoll.get_ref(), rustix::buffer::spare_capacity(&mut ready), Some(&now));
            if waited.is_err() || ready.is_empty() {
                return;
            }
            for event in &ready {
                let slot = usize::try_from(event.data.u64()).expect("made from one");
                self.look_at_socket(slot, event.flags);
            }
        }
    }

    fn look_at_socket(&mut self, slot: usize, flags: epoll::EventFlags) {
        let Some(record) = self.records.get_mut(slot) else { return };
        let closing = epoll::EventFlags::RDHUP | epoll::EventFlags::HUP | epoll::EventFlags::ERR;
        let stays = !flags.intersects(closing)
            && (!flags.contains(epoll::EventFlags::IN)
                || match self.sessions.get_mut(&slot) {
                    None => drain(record),
                    Some(session) => hear(record, session),
                });
        if !stays {
            drop(self.remove(slot));
            return;
        }
        if flags.contains(epoll::EventFlags::OUT) && self.records[slot].blocked {
            self.records[slot].blocked = false;
            self.settle(slot);
            self.records[slot].skips = self.lagging(slot, &[SlowReader::Conflate, SlowReader::Gap]);
            let fate = self.advance(slot, &mut Runs::default());
            self.follow_up(slot, fate);
        } else if !self.records[slot].blocked && self.sessions.get(&slot).is_some_and(Session::holds_back) {
            // What the client said is to be answered.
            let fate = self.deliver(slot, Bytes::new()).unwrap_or(Fate::Stays);
            self.follow_up(slot, fate);
        }
    }
}
