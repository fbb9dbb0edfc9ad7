//! How fast clients are sent to an edge that they belong to.

/// How many clients may be sent to one edge, as time goes by. Everybody who sends has one for each edge to which it
/// does, and they share what that edge can take.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct Pace {
    /// In thousandths of a client. Below zero after clients were sent that could not be parted.
    milli: i64,
}

impl Pace {
    /// Time goes by in which the edge can let in `free_per_second` besides those that come anyway, of which
    /// `senders` share `share_permille`. At least one a second is sent by all of them together: who stood still
    /// would never be done. What was not used for a second is lost.
    pub fn gain(&mut self, elapsed_ms: u64, free_per_second: u64, share_permille: u16, senders: usize) {
        let rate = (u128::from(free_per_second) * u128::from(share_permille) / 1_000).max(1);
        let per = |ms: u64| {
            let milli = rate * u128::from(ms) / senders.max(1) as u128;
            i64::try_from(milli).unwrap_or(i64::MAX)
        };
        // A whole client has to fit beside, however long it takes until there is one.
        let most = per(1_000).saturating_add(1_000);
        self.milli = self.milli.saturating_add(per(elapsed_ms)).min(most);
    }

    /// How many may go now.
    #[must_use]
    pub fn due(&self) -> usize {
        usize::try_from(self.milli / 1_000).unwrap_or(0)
    }

    /// So many went.
    pub fn spend(&mut self, clients: usize) {
        let milli = i64::try_from(clients).unwrap_or(i64::MAX).saturating_mul(1_000);
        self.milli = self.milli.saturating_sub(milli);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn an_edge_is_sent_what_it_can_take_by_all_together() {
        let mut pace = Pace::default();
        assert_eq!(pace.due(), 0, "nobody goes before any time has gone by");
        pace.gain(250, 2_000, 500, 5);
        assert_eq!(pace.due(), 50);
        pace.spend(60);
        pace.gain(50, 2_000, 500, 5);
        assert_eq!(pace.due(), 0, "who was sent too much waits for it");
        pace.gain(3_600_000, 2_000, 500, 5);
        assert_eq!(pace.due(), 201, "a rest gives no right to a storm");
    }

    #[test]
    fn one_that_has_nothing_free_is_still_reached_some_time() {
        let mut pace = Pace::default();
        let ticks = (0..4_000).take_while(|_| {
            pace.gain(250, 0, 1, 200);
            pace.due() == 0
        });
        assert!(ticks.count() < 1_000, "it is reached within minutes");
    }

    proptest! {
        /// Whatever the steps in which time goes by, all senders together send no more than there is room for, and
        /// not much less.
        #[test]
        fn nobody_is_sent_more_than_it_takes(free in 0u64..5_000, share in 1u16..=1_000, senders in 1usize..50, steps in prop::collection::vec(20u64..900, 20..60)) {
            let rate = (free * u64::from(share) / 1_000).max(1);
            let mut paces = vec![Pace::default(); senders];
            let (mut sent, mut elapsed_ms) = (0u64, 0u64);
            for step in steps {
                elapsed_ms += step;
                for pace in &mut paces {
                    pace.gain(step, free, share, senders);
                    let due = pace.due();
                    pace.spend(due);
                    sent += due as u64;
                }
                prop_assert!(sent * 1_000 <= rate * elapsed_ms, "{} after {} ms at {} a second", sent, elapsed_ms, rate);
            }
            // What is not a whole client yet, and what whole numbers lose of each step.
            prop_assert!((sent + 2 * senders as u64) * 1_000 + 60 * senders as u64 >= rate * elapsed_ms, "{} at {}", sent, rate);
        }
    }
}
