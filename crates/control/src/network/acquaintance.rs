//! Who this node is, and whether another one belongs to it.

use std::sync::OnceLock;

use evergate_proto::raft::v1::{Addressee, NodeInfo};
use openraft::RaftMetrics;
use tokio::sync::watch;

use crate::raft::types::{Member, NodeId};
use crate::store::{LogStore, Snapshots};

/// The version of the protocol that is spoken here.
const PROTOCOL: u32 = 1;
/// The oldest one that is understood.
const PROTOCOL_OLDEST: u32 = 1;

/// Why two nodes have nothing to say to each other. Until one of them is changed.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Refusal {
    /// Two clusters met.
    #[error(
        "node {id} belongs to cluster {theirs:?}, and this node to cluster {ours:?}: one of them was told a wrong address"
    )]
    Cluster {
        /// Who it was.
        id: NodeId,
        /// Its cluster.
        theirs: String,
        /// This node's cluster.
        ours: String,
    },
    /// Another node was meant.
    #[error("node {wanted} was called, and node {found} is there: an address is wrong")]
    Other {
        /// Who was called.
        wanted: NodeId,
        /// Who was there.
        found: NodeId,
    },
    /// Two nodes have one id.
    #[error("two nodes call themselves node {id}: give one of them an id that was never used")]
    Twin {
        /// The id.
        id: NodeId,
    },
    /// The id was another folder's before.
    #[error(
        "node {id} has another folder than the node that had this id: remove {id} from the members, and add the \
         new node under an id that was never used"
    )]
    Reused {
        /// The id.
        id: NodeId,
    },
    /// One of the two has to be brought up to date.
    #[error(
        "node {id} speaks protocol {theirs}, and {ours} is the oldest that is understood: bring it up to date"
    )]
    Protocol {
        /// Who it was.
        id: NodeId,
        /// What it speaks.
        theirs: u32,
        /// What is understood.
        ours: u32,
    },
    /// One of the two cannot read what the group has agreed on.
    #[error(
        "node {id} reads commands up to format {read}, and its cluster has format {held}: bring it up to date"
    )]
    Format {
        /// Who it is.
        id: NodeId,
        /// What it reads.
        read: u32,
        /// What there is.
        held: u32,
    },
}

type Metrics = watch::Receiver<RaftMetrics<NodeId, Member>>;

/// This node, as it is seen by others, and what it knows of them.
pub(crate) struct Me {
    log: LogStore,
    snapshots: Snapshots,
    format_read: u32,
    /// Set once Raft runs.
    metrics: OnceLock<Metrics>,
}

impl Me {
    pub(crate) fn new(log: LogStore, snapshots: Snapshots, format_read: u32) -> Self {
        Self { log, snapshots, format_read, metrics: OnceLock::new() }
    }

    /// From now on the members' list is known.
    pub(crate) fn watch(&self, metrics: Metrics) {
        self.metrics.set(metrics).expect("told once, when Raft was started");
    }

    pub(crate) fn id(&self) -> NodeId {
        self.log.identity().id
    }

    pub(crate) fn format_read(&self) -> u32 {
        self.format_read
    }

    /// What others are told.
    pub(crate) fn info(&self) -> NodeInfo {
        let identity = self.log.identity();
        NodeInfo {
            cluster: identity.cluster.clone(),
            id: identity.id,
            incarnation: identity.incarnation,
            protocol: PROTOCOL,
            format_read: self.format_read,
            format_held: self.log.format().max(self.snapshots.format()),
        }
    }

    /// `HOST:PORT` of all members, as far as this node knows.
    pub(crate) fn members(&self) -> Vec<String> {
        let Some(metrics) = self.metrics.get() else { return Vec::new() };
        let metrics = metrics.borrow();
        metrics.membership_config.membership().nodes().map(|(_, member)| member.address.clone()).collect()
    }

    /// Whether a node that calls, and means `to`, is to be heard.
    pub(crate) fn hear(&self, from: Option<&NodeInfo>, to: Option<&Addressee>) -> Result<(), Refusal> {
        self.judge(from.unwrap_or(&NodeInfo::default()))?;
        meant(&self.info(), to.unwrap_or(&Addressee::default()))
    }

    /// Whether the answer of the node that was called is to be taken.
    pub(crate) fn believe(&self, from: Option<&NodeInfo>, called: &Addressee) -> Result<(), Refusal> {
        let nobody = NodeInfo::default();
        let from = from.unwrap_or(&nobody);
        self.judge(from)?;
        meant(from, called)
    }

    /// Whether somebody belongs to this node.
    pub(crate) fn judge(&self, them: &NodeInfo) -> Result<(), Refusal> {
        let listed = self.metrics.get().and_then(|metrics| {
            let metrics = metrics.borrow();
            metrics.membership_config.membership().get_node(&them.id).map(|member| member.incarnation)
        });
        judge(&self.info(), them, listed.filter(|incarnation| *incarnation != 0))
    }
}

/// Whether a node is the one that was meant.
fn meant(found: &NodeInfo, wanted: &Addressee) -> Result<(), Refusal> {
    if wanted.id != found.id {
        return Err(Refusal::Other { wanted: wanted.id, found: found.id });
    }
    if wanted.incarnation != 0 && wanted.incarnation != found.incarnation {
        return Err(Refusal::Reused { id: found.id });
    }
    Ok(())
}

/// The rule. `known` is the incarnation that a node of that id has, if one is known.
fn judge(me: &NodeInfo, them: &NodeInfo, known: Option<u64>) -> Result<(), Refusal> {
    let id = them.id;
    if them.cluster != me.cluster {
        return Err(Refusal::Cluster { id, theirs: them.cluster.clone(), ours: me.cluster.clone() });
    }
    if them.protocol < PROTOCOL_OLDEST {
        return Err(Refusal::Protocol { id, theirs: them.protocol, ours: PROTOCOL_OLDEST });
    }
    if id == me.id && them.incarnation != me.incarnation {
        return Err(Refusal::Twin { id });
    }
    if known.is_some_and(|known| known != them.incarnation) {
        return Err(Refusal::Reused { id });
    }
    if them.format_read < me.format_held {
        return Err(Refusal::Format { id, read: them.format_read, held: me.format_held });
    }
    if me.format_read < them.format_held {
        return Err(Refusal::Format { id: me.id, read: me.format_read, held: them.format_held });
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn node(id: u64) -> NodeInfo {
        NodeInfo {
            cluster: "one".into(),
            id,
            incarnation: id + 100,
            protocol: PROTOCOL,
            format_read: 2,
            format_held: 1,
        }
    }

    fn says(refused: Result<(), Refusal>, words: &str) {
        let refusal = refused.expect_err("refused").to_string();
        assert!(refusal.contains(words), "{refusal}");
        assert!(!refusal.contains('\n'), "one sentence");
    }

    #[test]
    fn who_belongs_together_is_heard() {
        assert_eq!(judge(&node(1), &node(2), None), Ok(()));
        assert_eq!(judge(&node(1), &node(2), Some(102)), Ok(()));
        // Itself, by its own address.
        assert_eq!(judge(&node(1), &node(1), Some(101)), Ok(()));
        // The newer one is the first to read what nobody writes yet.
        assert_eq!(judge(&node(1), &NodeInfo { format_read: 3, ..node(2) }, None), Ok(()));
    }

    #[test]
    fn who_does_not_is_refused_in_one_sentence() {
        let me = node(1);
        let other = NodeInfo { cluster: "two".into(), ..node(2) };
        says(judge(&me, &other, None), "node 2 belongs to cluster \"two\", and this node to cluster \"one\"");
        says(judge(&me, &node(2), Some(7)), "remove 2 from the members");
        let twin = NodeInfo { incarnation: 7, ..node(1) };
        says(judge(&me, &twin, None), "two nodes call themselves node 1");
        let old = NodeInfo { protocol: 0, ..node(2) };
        says(judge(&me, &old, None), "node 2 speaks protocol 0");
        // What says nothing of itself is no node.
        says(judge(&me, &NodeInfo::default(), None), "cluster \"\"");
    }

    #[test]
    fn only_who_is_meant_is_taken_for_it() {
        let called = Addressee { id: 2, incarnation: 102 };
        assert_eq!(meant(&node(2), &called), Ok(()));
        assert_eq!(meant(&node(2), &Addressee { incarnation: 0, ..called }), Ok(()));
        says(meant(&node(3), &called), "node 2 was called, and node 3 is there");
        says(meant(&NodeInfo { incarnation: 7, ..node(2) }, &called), "remove 2 from the members");
        says(meant(&node(1), &Addressee::default()), "node 0 was called");
    }

    #[test]
    fn an_older_binary_is_refused_by_both_sides() {
        let newer = NodeInfo { format_read: 3, format_held: 3, ..node(1) };
        let words = "node 2 reads commands up to format 2, and its cluster has format 3";
        says(judge(&newer, &node(2), None), words);
        says(judge(&node(2), &newer, None), words);
    }
}
