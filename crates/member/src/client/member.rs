//! A node's part in its cluster: two streams, to whichever control node answers.

use std::future::Future;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::NodeName;
use evergate_domain::cluster::{Load, Node, NodeAddress, Rebalance, Spread, View};
use tokio::sync::{Notify, watch};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::follow::Follower;
use super::lease::Holder;
use super::placement::Placement;

/// How long a goodbye may take. Without one the node is lost, which others notice later.
const GOODBYE: Duration = Duration::from_secs(2);

/// What a member is told.
#[derive(Clone)]
pub struct MemberSettings {
    /// The cluster's name. Nodes of two clusters never talk to each other.
    pub cluster: String,
    /// What the node says of itself.
    pub node: Node,
    /// The control nodes, any of which will do. Not empty.
    pub controls: Vec<NodeAddress>,
    /// For the way to them.
    pub tls: Option<evergate_tls::Client>,
}

/// A node that takes part. Ended by [`leave`](Self::leave); dropped, it is as good as killed.
pub struct Member {
    node: NodeName,
    incarnation: u64,
    placement: watch::Receiver<Arc<Placement>>,
    signals: Arc<Signals>,
    stop: CancellationToken,
    tasks: JoinSet<()>,
}

/// What a node has to say besides that it is there.
#[derive(Default)]
pub(super) struct Signals {
    pub(super) drained: Notify,
    pub(super) ending: CancellationToken,
    pub(super) leaving: CancellationToken,
    /// The plan by which everybody has gone who belongs to another edge.
    pub(super) rebalanced: watch::Sender<u64>,
}

/// What a node says of itself that is known elsewhere than its [`Member`]. Cheap to clone.
#[derive(Clone)]
pub struct Voice {
    signals: Arc<Signals>,
    node: NodeName,
    incarnation: u64,
}

impl Voice {
    /// The rebalance that waits for this node, if one does.
    #[must_use]
    pub fn asked_to_rebalance<'v>(&self, view: &'v View) -> Option<&'v Rebalance> {
        // An earlier run may still be waited for in the first view that comes.
        let is_meant = view.nodes().get(&self.node).is_some_and(|node| node.incarnation == self.incarnation);
        view.rebalance().filter(|plan| is_meant && plan.left.contains(&self.node))
    }

    /// Nobody is left whom this plan wants elsewhere. What is said while no control node hears it is lost: it has to
    /// be said again, until the plan waits for this node no more.
    pub fn rebalanced(&self, plan: u64) {
        self.signals.rebalanced.send_replace(plan);
    }
}

impl Member {
    /// Takes part from now on, as `told` whoever waits for that. `load` is asked with every beat, and must
    /// not wait.
    ///
    /// # Panics
    /// Without any control node.
    pub fn start(
        settings: MemberSettings,
        told: watch::Sender<Arc<Placement>>,
        load: impl Fn() -> Load + Send + Sync + 'static,
    ) -> Self {
        assert!(!settings.controls.is_empty(), "somebody has to be asked");
        let stop = CancellationToken::new();
        let signals = Arc::new(Signals::default());
        let (node, placement) = (settings.node.name.clone(), told.subscribe());
        let incarnation = settings.node.incarnation;
        let mut tasks = JoinSet::new();
        let follower = Follower::new(settings.clone(), told);
        let holder = Holder::new(settings, Arc::clone(&signals), placement.clone(), Box::new(load));
        let until = |work| stop.clone().run_until_cancelled_owned(work);
        let follow = until(Box::pin(follower.run()) as std::pin::Pin<Box<dyn Future<Output = ()> + Send>>);
        let hold = until(Box::pin(holder.run()));
        tasks.spawn(async move {
            let _: Option<()> = follow.await;
        });
        tasks.spawn(async move {
            let _: Option<()> = hold.await;
        });
        Self { node, incarnation, placement, signals, stop, tasks }
    }

    /// What is followed, as it changes. Before the first view it is empty.
    pub fn placement(&self) -> watch::Receiver<Arc<Placement>> {
        self.placement.clone()
    }

    /// The node, which is being drained, has no clients left.
    pub fn drained(&self) {
        self.signals.drained.notify_one();
    }

    /// For whoever has more to say.
    #[must_use]
    pub fn voice(&self) -> Voice {
        Voice { signals: Arc::clone(&self.signals), node: self.node.clone(), incarnation: self.incarnation }
    }

    /// The node is about to end: others place no more clients here.
    pub fn ending(&self) {
        self.signals.ending.cancel();
    }

    /// Completes when the cluster wants the node's clients elsewhere, and it is this node's turn.
    pub fn asked_to_drain(&self) -> impl Future<Output = ()> + Send + use<> {
        let (mut placement, name, incarnation) =
            (self.placement.clone(), self.node.clone(), self.incarnation);
        async move {
            // A wish that an earlier run did not live to fulfil may still be in the first view that comes.
            let is_meant =
                |view: &View| view.nodes().get(&name).is_some_and(|node| node.incarnation == incarnation);
            let runs = |placement: &Arc<Placement>| {
                let view = &placement.view;
                view.drains().get(&name).is_some_and(|drain| drain.running) && is_meant(view)
            };
            let is_over = placement.wait_for(runs).await.is_err();
            if is_over {
                // Nobody follows any more, so nobody asks.
                std::future::pending::<()>().await;
            }
        }
    }

    /// Over what time the node should send so many clients away, so that the others can take them.
    #[must_use]
    pub fn drain_window(&self, connections: usize) -> Duration {
        let placement = self.placement.borrow();
        let connections = u32::try_from(connections).unwrap_or(u32::MAX);
        let share = placement.settings().drain_share_permille;
        let survivors = placement.survivors(&self.node);
        // Nobody can take them, so it makes no difference when they go.
        if survivors == Spread::default() {
            Duration::ZERO
        } else {
            survivors.drain_window(connections, share)
        }
    }

    /// Says goodbye, and ends. Others place clients without this node at once.
    pub async fn leave(mut self) {
        self.signals.leaving.cancel();
        // The holder ends by itself when it has said so; the follower when it is told.
        let said = async {
            self.tasks.join_next().await;
        };
        if tokio::time::timeout(GOODBYE, said).await.is_err() {
            tracing::warn!("no control node heard the goodbye: this node will be taken for lost");
        }
        self.stop.cancel();
        while self.tasks.join_next().await.is_some() {}
    }
}
