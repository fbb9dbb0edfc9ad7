//! What sockets report: room to write, surplus input, an end.

use evergate_domain::SlowReader;
use rustix::event::epoll;

use super::Shard;
use crate::engine::record::drain;
use crate::engine::run::Runs;

impl Shard {
    pub(super) fn look_at_sockets(&mut self) {
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
        if flags.intersects(closing) || (flags.contains(epoll::EventFlags::IN) && !drain(record)) {
            drop(self.remove(slot));
            return;
        }
        if flags.contains(epoll::EventFlags::OUT) && record.blocked {
            record.blocked = false;
            self.records[slot].skips = self.lagging(slot, &[SlowReader::Conflate, SlowReader::Gap]);
            let fate = self.advance(slot, &mut Runs::default());
            self.follow_up(slot, fate);
        }
    }
}
