//! The state of a cluster as the machine that a control group agrees on.

use std::collections::VecDeque;
use std::sync::Arc;

use evergate_domain::cluster::{Delta, Digest, FORMAT, FORMAT_OLDEST, State};
use evergate_member::{decode_proposal, decode_snapshot, encode_answer, encode_malformed, encode_snapshot};
use evergate_proto::control::v1 as proto;
use prost::Message as _;

use crate::machine::{Machine, RestoreError};

/// Steps that are kept for those who follow; whoever is further back gets a whole view.
const DELTAS_MAX: usize = 256;

/// What a cluster agrees on, and its last steps, of which no snapshot is taken: they are only a shorter way
/// for those who follow. Its commands are `Proposal`s of `evergate.control.v1`, its answers `Answer`s, its
/// snapshots `Snapshot`s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed {
    state: State,
    deltas: VecDeque<Arc<Delta>>,
}

/// What is new for a follower.
#[derive(Debug)]
pub enum News {
    /// Nothing.
    None,
    /// Steps from what it has to the newest version.
    Deltas(Vec<Arc<Delta>>),
    /// It has nothing from which a step leads on: all of it.
    Whole,
}

impl Agreed {
    /// What was agreed on.
    #[must_use]
    pub fn state(&self) -> &State {
        &self.state
    }

    /// What is new for a follower that has this view. One that is ahead of this node waits until the node
    /// has caught up.
    #[must_use]
    pub fn news(&self, version: u64, digest: Digest) -> News {
        let here = self.state.view().version();
        if version > here || (version == here && digest == self.state.view().digest()) {
            return News::None;
        }
        let from = self.deltas.iter().position(|delta| delta.from == version);
        match from {
            // What it holds is another history's: no step leads on from there.
            _ if version == here => News::Whole,
            // Steps from the beginning would lead it through all that was, and it would act on each of them.
            _ if version == 0 => News::Whole,
            Some(from) => News::Deltas(self.deltas.iter().skip(from).cloned().collect()),
            None => News::Whole,
        }
    }
}

impl Machine for Agreed {
    const FORMAT_READ: u32 = FORMAT;
    const FORMAT_WRITTEN: u32 = FORMAT_OLDEST;

    /// What an older node would not understand it must not be sent: it would take it for malformed, and hold
    /// something else from then on.
    fn format_of(command: &[u8]) -> u32 {
        use proto::command::What;

        let command = proto::Proposal::decode(command).ok().and_then(|proposal| proposal.command?.what);
        match command {
            Some(What::RaiseFormat(format)) => format.max(FORMAT_OLDEST),
            Some(What::Rebalance(_) | What::CancelRebalance(_) | What::Rebalanced(_) | What::Note(_)) => 2,
            Some(What::SetSettings(settings)) if settings.rebalance_after_ms > 0 => 2,
            Some(
                What::Join(_)
                | What::Lost(_)
                | What::Back(_)
                | What::Leave(_)
                | What::Forget(_)
                | What::Drain(_)
                | What::Drained(_)
                | What::Undrain(_)
                | What::SetRegion(_)
                | What::RemoveRegion(_)
                | What::SetPolicy(_)
                | What::RemovePolicy(_)
                | What::SetBreaker(_)
                | What::RemoveBreaker(_)
                | What::SetLimit(_)
                | What::RemoveLimit(_)
                | What::SetSettings(_)
                | What::SetCanary(_)
                | What::BeginEpoch(_)
                | What::EndEpoch(_)
                | What::Ending(_),
            )
            | None => FORMAT_OLDEST,
        }
    }

    fn format(&self) -> u32 {
        self.state.view().format().max(FORMAT_OLDEST)
    }

    fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        let decoded = proto::Proposal::decode(command).map_err(|error| error.to_string());
        let decoded =
            decoded.and_then(|proposal| decode_proposal(&proposal).map_err(|error| error.to_string()));
        let answer = match decoded {
            Ok(proposal) => {
                let applied = self.state.apply(&proposal);
                let version = self.state.view().version();
                match applied {
                    Ok(outcome) => {
                        self.deltas.extend(outcome.deltas.into_iter().map(Arc::new));
                        let surplus = self.deltas.len().saturating_sub(DELTAS_MAX);
                        self.deltas.drain(..surplus);
                        encode_answer(version, Ok(outcome.epoch))
                    }
                    Err(refusal) => encode_answer(version, Err(&refusal)),
                }
            }
            Err(why) => encode_malformed(self.state.view().version(), why),
        };
        answer.encode_to_vec()
    }

    fn snapshot(&self) -> Vec<u8> {
        encode_snapshot(&self.state).encode_to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let decoded = proto::Snapshot::decode(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.state = decode_snapshot(&decoded).map_err(|error| RestoreError(error.to_string()))?;
        self.deltas.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::UnixMillis;
    use evergate_domain::cluster::testing::command;
    use evergate_domain::cluster::{Command, Proposal, View};
    use evergate_member::encode_proposal;
    use proptest::prelude::*;

    fn bytes(command: Command) -> Vec<u8> {
        let proposal = Proposal { by: "tester".to_owned(), at: UnixMillis::new(7), command };
        encode_proposal(&proposal).encode_to_vec()
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]

        /// The same commands make the same bytes; a snapshot makes an equal machine, which goes on alike.
        #[test]
        fn the_same_commands_make_the_same_bytes(commands in prop::collection::vec(command(), 0..40), cut in 0usize..40) {
            let (mut one, mut other) = (Agreed::default(), Agreed::default());
            for (number, command) in commands.into_iter().enumerate() {
                let before = one.snapshot();
                let answer = one.apply(&bytes(command.clone()));
                prop_assert_eq!(&answer, &other.apply(&bytes(command)));
                if proto::Answer::decode(&*answer).expect("an answer").refusal.is_some() {
                    prop_assert_eq!(one.snapshot(), before, "a refused command changes nothing");
                }
                if number == cut {
                    let mut restored = Agreed::default();
                    restored.restore(&one.snapshot()).expect("its own words");
                    one = restored;
                }
            }
            prop_assert_eq!(one.snapshot(), other.snapshot());
        }

        #[test]
        fn any_bytes_are_answered(bytes in prop::collection::vec(any::<u8>(), 0..100)) {
            let mut machine = Agreed::default();
            let answer = proto::Answer::decode(&*machine.apply(&bytes)).expect("an answer");
            prop_assert!(answer.refusal.is_some() || answer.version > 0 || answer == proto::Answer::default());
            let before = machine.snapshot();
            if machine.restore(&bytes).is_err() {
                prop_assert_eq!(machine.snapshot(), before);
            }
        }
    }

    #[test]
    fn what_cannot_be_read_or_done_is_refused_by_the_answer_and_changes_nothing() {
        let mut machine = Agreed::default();
        let nobody = bytes(Command::Undrain("edge-1".parse().expect("a name")));
        for command in [&b"\xff\xff\xff"[..], &[], &nobody] {
            let answer = proto::Answer::decode(&*machine.apply(command)).expect("an answer");
            assert!(answer.refusal.is_some(), "{answer:?}");
        }
        assert!(machine.restore(b"\xff\xff\xff").is_err());
        assert_eq!(machine, Agreed::default());
    }

    #[test]
    fn what_older_nodes_read_is_written_until_all_have_agreed_on_more() {
        let region = "eu".parse::<evergate_domain::RegionName>().expect("a name");
        let settings = Command::SetSettings(evergate_domain::cluster::ClusterSettings::default());
        for (command, format) in [
            (settings, 1),
            (Command::RaiseFormat(1), 1),
            (Command::RaiseFormat(2), 2),
            (Command::Rebalance(region.clone()), 2),
            (Command::CancelRebalance(region), 2),
            (Command::Note("it".to_owned()), 2),
        ] {
            assert_eq!(Agreed::format_of(&bytes(command.clone())), format, "{command}");
        }
        let mut machine = Agreed::default();
        assert_eq!(machine.format(), 1);
        machine.apply(&bytes(Command::RaiseFormat(2)));
        assert_eq!(machine.format(), 2, "its snapshot is for nobody who does not read it");
    }

    #[test]
    fn a_follower_gets_what_leads_on_from_what_it_has() {
        let mut machine = Agreed::default();
        let nothing = View::default();
        assert!(matches!(machine.news(0, nothing.digest()), News::None));
        let settings =
            |hysteresis_ms| evergate_domain::cluster::ClusterSettings { hysteresis_ms, ..Default::default() };
        machine.apply(&bytes(Command::SetSettings(settings(1))));
        assert!(matches!(machine.news(0, nothing.digest()), News::Whole), "it has nothing");
        for n in 2..=DELTAS_MAX as u32 + 5 {
            machine.apply(&bytes(Command::SetSettings(settings(n))));
        }
        assert!(matches!(machine.news(0, nothing.digest()), News::Whole), "too far back");
        let here = machine.state().view().version();
        let News::Deltas(deltas) = machine.news(here - 2, Digest::new(0)) else { unreachable!("two steps") };
        assert_eq!(deltas.len(), 2);
        assert!(matches!(machine.news(here, machine.state().view().digest()), News::None));
        assert!(matches!(machine.news(here, Digest::new(1)), News::Whole), "another history");
        assert!(matches!(machine.news(here + 1, Digest::new(1)), News::None), "ahead of this node");
    }

    #[test]
    fn a_snapshot_of_a_large_cluster_has_a_bound() {
        let mut machine = Agreed::default();
        for number in 0..500 {
            let node = evergate_domain::cluster::testing::edge(&format!("{number:064}"));
            machine.apply(&bytes(Command::Join(Box::new(node))));
        }
        assert!(machine.snapshot().len() < 500 * 512 + 1_000 * 700, "{} bytes", machine.snapshot().len());
    }
}
