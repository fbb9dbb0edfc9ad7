//! The state of a cluster as the machine that a control group agrees on.

use evergate_domain::cluster::{FORMAT, State};
use evergate_member::{decode_proposal, decode_snapshot, encode_answer, encode_malformed, encode_snapshot};
use evergate_proto::control::v1 as pb;
use prost::Message as _;

use crate::machine::{Machine, RestoreError};

/// What a cluster agrees on. Its commands are `Proposal`s of `evergate.control.v1`, its answers `Answer`s,
/// its snapshots `Snapshot`s.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Agreed(State);

impl Agreed {
    /// What was agreed on.
    pub fn state(&self) -> &State {
        &self.0
    }
}

impl Machine for Agreed {
    const FORMAT_READ: u32 = FORMAT;
    const FORMAT_WRITTEN: u32 = FORMAT;

    fn apply(&mut self, command: &[u8]) -> Vec<u8> {
        let read = pb::Proposal::decode(command).map_err(|error| error.to_string());
        let read = read.and_then(|proposal| decode_proposal(&proposal).map_err(|error| error.to_string()));
        let answer = match read {
            Ok(proposal) => {
                let result = self.0.apply(&proposal).map(|outcome| outcome.epoch);
                encode_answer(self.0.view().version(), result.as_ref().copied())
            }
            Err(why) => encode_malformed(self.0.view().version(), why),
        };
        answer.encode_to_vec()
    }

    fn snapshot(&self) -> Vec<u8> {
        encode_snapshot(&self.0).encode_to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let read = pb::Snapshot::decode(snapshot).map_err(|error| RestoreError(error.to_string()))?;
        self.0 = decode_snapshot(&read).map_err(|error| RestoreError(error.to_string()))?;
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_domain::UnixMillis;
    use evergate_domain::cluster::{Command, Proposal};
    use evergate_member::encode_proposal;

    fn answer(machine: &mut Agreed, command: &[u8]) -> pb::Answer {
        pb::Answer::decode(machine.apply(command).as_slice()).expect("an answer")
    }

    #[test]
    fn what_cannot_be_read_or_done_is_refused_by_the_answer_and_changes_nothing() {
        let mut machine = Agreed::default();
        for command in [&b"\xff\xff\xff"[..], &[]] {
            assert!(answer(&mut machine, command).refusal.is_some());
        }
        let nobody = Command::Undrain("edge-1".parse().expect("a name"));
        let proposal = Proposal { by: "test".to_owned(), at: UnixMillis::new(1), command: nobody };
        let refused = answer(&mut machine, &encode_proposal(&proposal).encode_to_vec());
        assert!(refused.refusal.is_some(), "{refused:?}");
        assert_eq!(machine, Agreed::default());
    }

    #[test]
    fn a_snapshot_makes_an_equal_machine_and_nonsense_makes_none() {
        let machine = Agreed::default();
        let mut other = machine.clone();
        other.restore(&machine.snapshot()).expect("its own words");
        assert_eq!(other, machine);
        assert!(other.restore(b"\xff\xff\xff").is_err());
        assert_eq!(other, machine, "as it was");
    }
}
