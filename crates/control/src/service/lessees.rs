//! Whose leases a control node holds.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::Load;
use parking_lot::Mutex;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

/// Nodes that have a stream to this control node. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Lessees(Arc<Mutex<BTreeMap<NodeName, Lessee>>>);

struct Lessee {
    incarnation: u64,
    heard: Instant,
    load: Load,
    /// Ends the stream.
    end: CancellationToken,
}

/// A node's place among them, for as long as its stream is open.
pub(super) struct Place {
    lessees: Lessees,
    node: NodeName,
    end: CancellationToken,
}

/// What is told of a lessee.
pub(super) struct Sign {
    pub(super) node: NodeName,
    pub(super) incarnation: u64,
    /// How long ago it was last heard.
    pub(super) ago: Duration,
    pub(super) load: Load,
}

impl Lessees {
    /// Takes a node in. A stream of the same node that is open already is ended: it has come again.
    pub(super) fn enter(&self, node: NodeName, incarnation: u64) -> Place {
        let end = CancellationToken::new();
        let lessee = Lessee { incarnation, heard: Instant::now(), load: Load::default(), end: end.clone() };
        if let Some(before) = self.0.lock().insert(node.clone(), lessee) {
            before.end.cancel();
        }
        Place { lessees: self.clone(), node, end }
    }

    /// How many there are.
    pub(super) fn count(&self) -> usize {
        self.0.lock().len()
    }

    /// When each of them was last heard.
    pub(super) fn signs(&self) -> Vec<Sign> {
        let lessees = self.0.lock();
        let sign = |(node, lessee): (&NodeName, &Lessee)| Sign {
            node: node.clone(),
            incarnation: lessee.incarnation,
            ago: lessee.heard.elapsed(),
            load: lessee.load,
        };
        lessees.iter().map(sign).collect()
    }

    /// Ends all streams: whoever leads cannot be told of them from here.
    pub(super) fn let_go(&self) -> usize {
        let gone = std::mem::take(&mut *self.0.lock());
        gone.values().for_each(|lessee| lessee.end.cancel());
        gone.len()
    }
}

impl Place {
    /// The node gave a sign.
    pub(super) fn beat(&self, load: Load) {
        let mut lessees = self.lessees.0.lock();
        if let Some(lessee) = lessees.get_mut(&self.node)
            && !self.end.is_cancelled()
        {
            (lessee.heard, lessee.load) = (Instant::now(), load);
        }
    }

    /// Completes when the stream is to be ended.
    pub(super) async fn ended(&self) {
        self.end.cancelled().await;
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut lessees = self.lessees.0.lock();
        // Another stream may have its place by now, and then this one was told to end.
        if !self.end.is_cancelled() {
            lessees.remove(&self.node);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_node_that_comes_again_ends_its_old_stream_and_keeps_its_place() {
        let lessees = Lessees::default();
        let name = NodeName::new("a").expect("a name");
        let old = lessees.enter(name.clone(), 1);
        let new = lessees.enter(name, 2);
        assert!(old.end.is_cancelled() && !new.end.is_cancelled());
        old.beat(Load { connections: 9, arrivals_per_second: 9 });
        drop(old);
        let signs = lessees.signs();
        assert_eq!((signs.len(), signs[0].incarnation, signs[0].load), (1, 2, Load::default()));
        assert_eq!(lessees.let_go(), 1);
        assert!(new.end.is_cancelled() && lessees.signs().is_empty());
        drop(new);
    }
}
