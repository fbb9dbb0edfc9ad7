//! Which traces are kept.

use evergate_domain::TraceParent;

/// How it is decided whether a trace is kept. By its id, so that all nodes decide alike.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sampling {
    /// One in so many of the traces that are decided about here; 0 is none.
    pub one_in: u64,
    /// What is done about those that somebody else has decided about.
    pub brought: Brought,
}

/// What is done about a trace that comes with a decision.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Brought {
    /// It is followed, both ways.
    Follow,
    /// It is decided about anew: whoever sends it is not to choose how much is traced here.
    Resample,
}

impl Sampling {
    /// Whether the trace `own` is kept, which came with `given` if somebody else began it.
    #[must_use]
    pub fn keeps(&self, given: Option<&TraceParent>, own: &TraceParent) -> bool {
        match (given, self.brought) {
            (Some(given), Brought::Follow) => given.is_sampled(),
            (Some(_), Brought::Resample) | (None, _) => {
                // The standard asks for randomness in the last seven bytes at least.
                let low =
                    own.trace_id_bytes().iter().skip(8).fold(0_u64, |all, &byte| all << 8 | u64::from(byte));
                self.one_in != 0 && low.is_multiple_of(self.one_in)
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn trace(low: u64, flags: u8) -> TraceParent {
        TraceParent::new((1_u128 << 64 | u128::from(low)).to_be_bytes(), [1; 8], flags).expect("no zeros")
    }

    #[test]
    fn one_in_so_many_is_kept_and_every_node_keeps_the_same() {
        let sampling = Sampling { one_in: 10, brought: Brought::Follow };
        let kept = (0..1_000).filter(|&low| sampling.keeps(None, &trace(low, 0))).count();
        assert_eq!(kept, 100);
        assert!((0..100).all(|low| Sampling { one_in: 1, ..sampling }.keeps(None, &trace(low, 0))));
        assert!((0..100).all(|low| !Sampling { one_in: 0, ..sampling }.keeps(None, &trace(low, 0))));
    }

    #[test]
    fn a_decision_that_is_brought_is_followed_or_made_anew() {
        let (yes, no) = (trace(7, 1), trace(10, 0));
        let follow = Sampling { one_in: 10, brought: Brought::Follow };
        assert!(follow.keeps(Some(&yes), &yes) && !follow.keeps(Some(&no), &no));
        let resample = Sampling { brought: Brought::Resample, ..follow };
        assert!(!resample.keeps(Some(&yes), &yes) && resample.keeps(Some(&no), &no));
    }
}
