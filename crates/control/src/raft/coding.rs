//! Openraft's words as messages of `evergate.raft.v1`, which go over the wire and onto the disk.

use std::collections::{BTreeMap, BTreeSet};

use evergate_proto::raft::v1 as pb;
use openraft::{CommittedLeaderId, EntryPayload};

use super::types::{Entry, LogId, Member, Membership, SnapshotMeta, StoredMembership, Vote};

/// A message of `evergate.raft.v1` that no node sends, or a row of a log that no node wrote.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
#[error("{0} is missing or makes no sense")]
pub(crate) struct Malformed(pub(crate) &'static str);

pub(crate) fn from_log_id(id: &LogId) -> pb::LogId {
    pb::LogId { term: id.leader_id.term, node: id.leader_id.node_id, index: id.index }
}

pub(crate) fn to_log_id(id: pb::LogId) -> LogId {
    LogId::new(CommittedLeaderId::new(id.term, id.node), id.index)
}

pub(crate) fn from_vote(vote: &Vote) -> pb::VoteState {
    pb::VoteState { term: vote.leader_id.term, node: vote.leader_id.node_id, committed: vote.committed }
}

pub(crate) fn to_vote(vote: pb::VoteState) -> Vote {
    if vote.committed { Vote::new_committed(vote.term, vote.node) } else { Vote::new(vote.term, vote.node) }
}

pub(crate) fn from_membership(membership: &Membership) -> pb::Membership {
    let configs = membership.get_joint_config().iter();
    let members = membership.nodes();
    pb::Membership {
        configs: configs.map(|config| pb::Config { voters: config.iter().copied().collect() }).collect(),
        members: members.map(|(id, member)| from_member(*id, member)).collect(),
    }
}

pub(crate) fn to_membership(membership: pb::Membership) -> Membership {
    let configs = membership.configs.into_iter();
    let configs = configs.map(|config| config.voters.into_iter().collect::<BTreeSet<_>>());
    let members = membership.members.into_iter().map(to_member);
    Membership::new(configs.collect(), members.collect::<BTreeMap<_, _>>())
}

pub(crate) fn from_member(id: u64, member: &Member) -> pb::Member {
    pb::Member { id, address: member.address.clone(), incarnation: member.incarnation }
}

pub(crate) fn to_member(member: pb::Member) -> (u64, Member) {
    (member.id, Member { address: member.address, incarnation: member.incarnation })
}

pub(crate) fn from_entry(entry: Entry) -> pb::Entry {
    let payload = match entry.payload {
        EntryPayload::Blank => None,
        EntryPayload::Normal(batch) => Some(pb::entry::Payload::Batch(batch)),
        EntryPayload::Membership(membership) => {
            Some(pb::entry::Payload::Membership(from_membership(&membership)))
        }
    };
    pb::Entry { id: Some(from_log_id(&entry.log_id)), payload }
}

pub(crate) fn to_entry(entry: pb::Entry) -> Result<Entry, Malformed> {
    let log_id = to_log_id(entry.id.ok_or(Malformed("the id of an entry"))?);
    let payload = match entry.payload {
        None => EntryPayload::Blank,
        Some(pb::entry::Payload::Batch(batch)) => EntryPayload::Normal(batch),
        Some(pb::entry::Payload::Membership(membership)) => {
            EntryPayload::Membership(to_membership(membership))
        }
    };
    Ok(Entry { log_id, payload })
}

pub(crate) fn from_meta(meta: &SnapshotMeta, format: u32) -> pb::SnapshotMeta {
    pb::SnapshotMeta {
        last: meta.last_log_id.as_ref().map(from_log_id),
        membership: Some(from_membership(meta.last_membership.membership())),
        membership_id: meta.last_membership.log_id().as_ref().map(from_log_id),
        name: meta.snapshot_id.clone(),
        format,
    }
}

pub(crate) fn to_meta(meta: pb::SnapshotMeta) -> Result<SnapshotMeta, Malformed> {
    let membership = meta.membership.ok_or(Malformed("the membership of a snapshot"))?;
    Ok(SnapshotMeta {
        last_log_id: meta.last.map(to_log_id),
        last_membership: StoredMembership::new(meta.membership_id.map(to_log_id), to_membership(membership)),
        snapshot_id: meta.name,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn membership() -> Membership {
        let member = |address: &str, incarnation| Member { address: address.into(), incarnation };
        let members = [(1, member("a:1", 7)), (2, member("b:1", 0)), (3, member("c:1", u64::MAX))];
        // One config follows another, and node 2 does not vote.
        Membership::new(vec![[1].into(), [1, 3].into()], BTreeMap::from(members))
    }

    #[test]
    fn every_kind_of_entry_comes_back_as_it_was() {
        let id = LogId::new(CommittedLeaderId::new(4, 2), 17);
        let batch = pb::Batch { format: 3, commands: vec![vec![], vec![1, 2]] };
        let membership = membership();
        for payload in
            [EntryPayload::Blank, EntryPayload::Normal(batch), EntryPayload::Membership(membership)]
        {
            let entry = Entry { log_id: id, payload };
            let back = to_entry(from_entry(entry.clone())).expect("whole");
            assert_eq!(back.log_id, entry.log_id);
            assert!(back.payload == entry.payload, "{back:?}");
        }
        assert!(to_entry(pb::Entry::default()).is_err(), "an entry without a place");
    }

    #[test]
    fn votes_keep_whether_they_were_won() {
        for vote in [Vote::new(3, 1), Vote::new_committed(3, 1)] {
            assert_eq!(to_vote(from_vote(&vote)), vote);
        }
    }

    #[test]
    fn the_head_of_a_snapshot_comes_back_as_it_was() {
        let id = |index| LogId::new(CommittedLeaderId::new(4, 2), index);
        let meta = SnapshotMeta {
            last_log_id: Some(id(17)),
            last_membership: StoredMembership::new(Some(id(3)), membership()),
            snapshot_id: "one".into(),
        };
        assert_eq!(to_meta(from_meta(&meta, 1)).expect("whole"), meta);
        let empty = SnapshotMeta::default();
        assert_eq!(to_meta(from_meta(&empty, 1)).expect("whole"), empty);
    }
}
