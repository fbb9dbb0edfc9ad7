//! How far a client has taken what it was sent, told late rather than wrongly.

use evergate_domain::PackedCursor;

/// One earlier position of a connection, and the bytes that were written up to it.
///
/// A position is told only when everything written up to it has left the send queue, which the
/// client's system then has acknowledged, and only at the look after the one that noted it. That is
/// no proof that the client has read it, so whoever keeps the position treats it as a hint.
#[derive(Debug)]
pub(super) struct Trail {
    told: PackedCursor,
    noted: Option<(PackedCursor, u32)>,
}

impl Trail {
    /// Begins at a position that is known elsewhere.
    pub(super) fn new(start: PackedCursor) -> Self {
        Self { told: start, noted: None }
    }

    /// Looks at where the connection stands. `written` counts all bytes up to `now`, and wraps;
    /// `queued` are those of them that the peer's system has not acknowledged. Gives the position to
    /// tell, if there is a new one.
    pub(super) fn look(&mut self, now: PackedCursor, written: u32, queued: u32) -> Option<PackedCursor> {
        let through = written.wrapping_sub(queued);
        let passed = self.noted.take_if(|(_, at)| through.wrapping_sub(*at).cast_signed() >= 0);
        if self.noted.is_none() && now != self.told {
            self.noted = Some((now, written));
        }
        let (position, _) = passed?;
        (position != self.told).then(|| {
            self.told = position.clone();
            position
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(seq: u8) -> PackedCursor {
        PackedCursor::from_bytes(&[seq])
    }

    #[test]
    fn a_position_is_told_one_look_after_it_was_noted() {
        let mut trail = Trail::new(at(0));
        assert_eq!(trail.look(at(1), 100, 0), None);
        assert_eq!(trail.look(at(2), 200, 0), Some(at(1)));
        assert_eq!(trail.look(at(2), 200, 0), Some(at(2)));
        assert_eq!(trail.look(at(2), 200, 0), None, "nothing new");
    }

    #[test]
    fn what_is_still_queued_is_not_told() {
        let mut trail = Trail::new(at(0));
        assert_eq!(trail.look(at(1), 100, 100), None);
        assert_eq!(trail.look(at(2), 200, 101), None, "one byte is missing");
        assert_eq!(trail.look(at(3), 300, 200), Some(at(1)));
        assert_eq!(trail.look(at(3), 300, 1), None, "the third look noted at(3), with 300 bytes");
        assert_eq!(trail.look(at(3), 300, 0), Some(at(3)));
    }

    #[test]
    fn counts_may_wrap() {
        let mut trail = Trail::new(at(0));
        assert_eq!(trail.look(at(1), u32::MAX - 5, 0), None);
        assert_eq!(trail.look(at(2), 10, 20), None);
        assert_eq!(trail.look(at(2), 10, 16), Some(at(1)));
    }

    #[test]
    fn a_quiet_connection_tells_nothing() {
        let mut trail = Trail::new(at(7));
        for _ in 0..3 {
            assert_eq!(trail.look(at(7), 400, 0), None);
        }
    }
}
