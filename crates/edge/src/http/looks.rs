//! How far a body has been taken that is asked for piece by piece, told late rather than wrongly.

use std::time::Duration;

use evergate_domain::{Cursor, PackedCursor};
use tokio::time::Instant;

/// A position of a body, told at the look after the one that noted it. Whoever asks for the next piece
/// has handed on those before; how far they have come from there is not known.
pub(super) struct Looks {
    every: Duration,
    at: Instant,
    noted: Option<PackedCursor>,
}

impl Looks {
    pub(super) fn new(every: Duration) -> Self {
        Self { every, at: Instant::now() + every, noted: None }
    }

    /// The next piece is asked for, and everything up to here was handed out. Gives the position to
    /// tell, if it is time and there is one.
    pub(super) fn look(&mut self, now: &Cursor) -> Option<PackedCursor> {
        if Instant::now() < self.at {
            return None;
        }
        self.at = Instant::now() + self.every;
        self.noted.replace(now.pack())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::{StreamName, StreamSet};

    #[tokio::test(start_paused = true)]
    async fn a_position_is_told_one_look_after_it_was_noted() {
        let streams = StreamSet::new(vec![StreamName::new("s").expect("valid")]).expect("one");
        let at = |offset: &str| Cursor::parse(&streams, offset).expect("valid");
        let second = Duration::from_secs(1);
        let mut looks = Looks::new(second);
        assert_eq!(looks.look(&at("1-1")), None, "too soon");
        tokio::time::advance(second).await;
        assert_eq!(looks.look(&at("1-2")), None);
        assert_eq!(looks.look(&at("1-3")), None, "too soon");
        tokio::time::advance(second).await;
        assert_eq!(looks.look(&at("1-4")), Some(at("1-2").pack()));
        tokio::time::advance(second).await;
        assert_eq!(looks.look(&at("1-5")), Some(at("1-4").pack()));
    }
}
