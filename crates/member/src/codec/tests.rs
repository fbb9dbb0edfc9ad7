//! What is written is read back, and nothing else is.

use evergate_domain::UnixMillis;
use evergate_domain::cluster::testing::command;
use evergate_domain::cluster::{Command, Proposal, State, View};
use evergate_proto::control::v1 as proto;
use proptest::prelude::*;
use prost::Message as _;

use super::*;

fn by(command: Command) -> Proposal {
    Proposal { by: "tester".to_owned(), at: UnixMillis::new(7), command }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Through bytes and back, for everything that there is: commands, deltas, views, snapshots.
    #[test]
    fn what_is_written_is_read_back(commands in prop::collection::vec(command(), 0..40)) {
        let mut state = State::default();
        let mut followed = View::default();
        for command in commands {
            let proposal = by(command);
            let bytes = encode_proposal(&proposal).encode_to_vec();
            let read = proto::Proposal::decode(&*bytes).expect("a message");
            prop_assert_eq!(decode_proposal(&read), Ok(proposal.clone()));
            for delta in state.apply(&proposal).map(|outcome| outcome.deltas).unwrap_or_default() {
                let bytes = encode_delta(&delta).encode_to_vec();
                let read = decode_delta(&proto::Delta::decode(&*bytes).expect("a message")).expect("a delta");
                followed = followed.follow(&read).expect("it leads on");
            }
        }
        prop_assert_eq!(&followed, state.view());
        let bytes = encode_snapshot(&state).encode_to_vec();
        let read = decode_snapshot(&proto::Snapshot::decode(&*bytes).expect("a message")).expect("a snapshot");
        prop_assert_eq!(&read, &state);
        prop_assert_eq!(encode_snapshot(&read).encode_to_vec(), bytes, "equal states, equal bytes");
    }

    /// Any bytes are a message or an error, and whatever is read can be written again.
    #[test]
    fn any_bytes_are_judged(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        if let Ok(message) = proto::Proposal::decode(&*bytes) && let Ok(proposal) = decode_proposal(&message) {
            prop_assert_eq!(decode_proposal(&encode_proposal(&proposal)), Ok(proposal));
        }
        if let Ok(message) = proto::Snapshot::decode(&*bytes) {
            let _ = decode_snapshot(&message);
        }
    }
}

#[test]
fn what_cannot_be_is_refused_by_name() {
    let command = |what| proto::Command { what: Some(what) };
    let refused = |what| decode_command(&command(what)).expect_err("it cannot be").to_string();
    use proto::command::What;
    assert_eq!(
        refused(What::Join(proto::Node {
            role: 1,
            name: "a".to_owned(),
            region: "r".to_owned(),
            zone: "z".to_owned(),
            weight: 0,
            ..Default::default()
        })),
        "malformed message: weight: a weight is from 1 to 1000, and 0 is not; to take a node's clients away, drain it"
    );
    assert_eq!(
        refused(What::Undrain("a b".to_owned())),
        "malformed message: node: node name holds ' ' at byte 1; letters, digits and _ . - are allowed"
    );
    assert_eq!(
        refused(What::Join(proto::Node { role: 9, ..Default::default() })),
        "malformed message: role: is absent, or of a kind that is not known here"
    );
    assert!(decode_command(&proto::Command { what: None }).is_err(), "a newer binary's command");
    let lie = proto::View { digest: 1, ..encode_view(&View::default()) };
    assert_eq!(
        decode_view(&lie).expect_err("another view").to_string(),
        "malformed message: view: what it makes is not what its sender has"
    );
}
