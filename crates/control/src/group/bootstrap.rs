//! Whether, and with whom, a group is founded: the rule.
//!
//! A group must be founded once, whoever is asked, in whatever order the nodes come, and however often
//! they are started again. So exactly one node may do it, the one with the lowest id; and it does only
//! when all the others have said that they were told the same and know of no group. A node that has lost
//! its folder finds a group, or waits for ever; it never founds a second one beside it.

use std::collections::BTreeMap;

use evergate_proto::raft::v1::GreetResponse;

use super::settings::Seeds;
use crate::raft::types::{Member, NodeId};

/// What came of asking somebody.
#[derive(Debug, Clone)]
pub(super) struct Asked {
    /// Who should be there, if that is known.
    pub(super) expected: Option<NodeId>,
    pub(super) address: String,
    pub(super) answer: Result<GreetResponse, String>,
}

/// What follows.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Verdict {
    /// Ask again later.
    Wait(String),
    /// There is a group, which has to take this node in.
    Join(NodeId),
    /// Found it, with these.
    Found(BTreeMap<NodeId, Member>),
}

pub(super) fn judge(me: NodeId, seeds: &Seeds, asked: &[Asked]) -> Verdict {
    let expected = match seeds {
        Seeds::Nobody => return Verdict::Wait("this node was told of no peers".to_owned()),
        Seeds::Listed(peers) => peers.len(),
        Seeds::Named { nodes, .. } => *nodes,
    };
    let answers = || asked.iter().filter_map(|asked| Some((asked, asked.answer.as_ref().ok()?)));
    let id_of = |answer: &GreetResponse| answer.from.as_ref().map_or(0, |from| from.id);
    if let Some((_, answer)) = answers().find(|(_, answer)| answer.initialised && id_of(answer) != me) {
        return Verdict::Join(id_of(answer));
    }
    for asked in asked {
        if let Err(why) = &asked.answer {
            let who = asked.expected.map_or_else(String::new, |id| format!("node {id} at "));
            return Verdict::Wait(format!("{who}{}: {why}", asked.address));
        }
    }
    let mut members = BTreeMap::new();
    for (asked, answer) in answers() {
        let id = id_of(answer);
        if let Some(expected) = asked.expected.filter(|expected| *expected != id) {
            let address = &asked.address;
            return Verdict::Wait(format!("{address} is told to be node {expected}, and node {id} is there"));
        }
        if answer.seeds != seeds.text() {
            let (ours, theirs) = (seeds.text(), &answer.seeds);
            return Verdict::Wait(format!(
                "node {id} was told other peers ({theirs:?}) than this node ({ours:?}); give all nodes the same"
            ));
        }
        let incarnation = answer.from.as_ref().map_or(0, |from| from.incarnation);
        let address = if asked.expected.is_some() { asked.address.clone() } else { answer.address.clone() };
        if members
            .insert(id, Member { address, incarnation })
            .is_some_and(|twin| twin.incarnation != incarnation)
        {
            return Verdict::Wait(format!(
                "two nodes call themselves node {id}; give one of them another id"
            ));
        }
    }
    if members.len() != expected {
        return Verdict::Wait(format!("{} of {expected} nodes are there", members.len()));
    }
    match members.first_key_value() {
        Some((first, _)) if *first == me => Verdict::Found(members),
        Some((first, _)) if members.contains_key(&me) => {
            Verdict::Wait(format!("node {first} is about to found the group"))
        }
        Some(_) | None => Verdict::Wait("this node is none of the peers it was told of".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_proto::raft::v1::NodeInfo;

    fn seeds() -> Seeds {
        Seeds::Listed((1..=3).map(|id| (id, format!("host-{id}:1"))).collect())
    }

    fn named() -> Seeds {
        Seeds::Named { name: "control:1".into(), nodes: 3 }
    }

    fn here(id: NodeId, seeds: &Seeds) -> Asked {
        let from = Some(NodeInfo { id, incarnation: id + 100, ..NodeInfo::default() });
        let address = format!("host-{id}:1");
        let answer = GreetResponse {
            from,
            address: address.clone(),
            initialised: false,
            seeds: seeds.text(),
            members: Vec::new(),
        };
        let expected = matches!(seeds, Seeds::Listed(_)).then_some(id);
        Asked { expected, address, answer: Ok(answer) }
    }

    fn all(seeds: &Seeds) -> Vec<Asked> {
        (1..=3).map(|id| here(id, seeds)).collect()
    }

    fn waits(verdict: Verdict, words: &str) {
        match verdict {
            Verdict::Wait(why) => assert!(why.contains(words), "{why}"),
            other @ (Verdict::Join(_) | Verdict::Found(_)) => panic!("{other:?}"),
        }
    }

    #[test]
    fn exactly_one_node_founds_the_group_and_only_with_all_of_them() {
        for seeds in [seeds(), named()] {
            let asked = all(&seeds);
            match judge(1, &seeds, &asked) {
                Verdict::Found(members) => {
                    let ids: Vec<_> = members.iter().map(|(id, member)| (*id, member.incarnation)).collect();
                    assert_eq!(ids, [(1, 101), (2, 102), (3, 103)]);
                    assert_eq!(members[&2].address, "host-2:1");
                }
                other @ (Verdict::Wait(_) | Verdict::Join(_)) => panic!("{other:?}"),
            }
            waits(judge(2, &seeds, &asked), "node 1 is about to found the group");
            waits(judge(3, &seeds, &asked), "node 1 is about to found the group");
        }
    }

    #[test]
    fn one_that_is_late_is_waited_for() {
        let mut asked = all(&seeds());
        asked[2].answer = Err("connection refused".into());
        waits(judge(1, &seeds(), &asked), "node 3 at host-3:1: connection refused");
        waits(judge(1, &named(), &all(&named())[..2]), "2 of 3 nodes are there");
    }

    #[test]
    fn a_group_that_is_there_is_never_founded_again() {
        let mut asked = all(&seeds());
        // The node itself has lost its folder; of the others one is away.
        asked[1].answer = Err("no route".into());
        asked[2].answer.as_mut().expect("here").initialised = true;
        assert_eq!(judge(1, &seeds(), &asked), Verdict::Join(3));
    }

    #[test]
    fn wrong_lists_of_peers_are_named() {
        let mut asked = all(&seeds());
        asked[1].answer.as_mut().expect("here").seeds = "2=host-2:1,4=host-4:1".into();
        waits(judge(1, &seeds(), &asked), "node 2 was told other peers");
        let mut asked = all(&seeds());
        asked[2].answer = asked[1].answer.clone();
        waits(judge(1, &seeds(), &asked), "host-3:1 is told to be node 3, and node 2 is there");
        let stranger = Seeds::Listed([(2, "host-2:1".into()), (3, "host-3:1".into())].into());
        let asked: Vec<_> = [2, 3].map(|id| here(id, &stranger)).into();
        waits(judge(1, &stranger, &asked), "none of the peers");
        let mut asked = all(&named());
        asked[2].answer.as_mut().expect("here").from.as_mut().expect("known").id = 2;
        waits(judge(1, &named(), &asked), "two nodes call themselves node 2");
        waits(judge(1, &Seeds::Nobody, &[]), "no peers");
    }
}
