//! Keeps the map true: looks, after every error and from time to time, who the primaries are, and
//! owns the tasks that keep their connections and compare their tails.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::super::address::Address;
use super::super::link::{OnPush, Supervisor};
use super::super::node::{Node, Place};
use super::super::url::Deployment;
use super::super::writer::Request;
use super::super::{RedisOptions, Shared, live};
use super::{Finder, Hint, Layout, Map, Topology};

/// How often it is looked while all is well: what bounds how long a planned failover goes unnoticed.
const LOOK_EVERY: Duration = Duration::from_secs(1);
/// And while something is out of reach.
const LOOK_SOON: Duration = Duration::from_millis(200);
/// However many calls fail, it is not looked more often.
const LOOK_LEAST: Duration = Duration::from_millis(25);
/// How long a server is kept that holds nothing yet, but was pointed to.
const SPARE: Duration = Duration::from_secs(30);

/// The one task that changes the map.
pub(crate) struct Keeper {
    options: Arc<RedisOptions>,
    finder: Finder,
    on_push: OnPush,
    layout: Layout,
    nodes: HashMap<Address, Kept>,
    /// Nobody could be asked the last time: what has moved since may have been elsewhere in between.
    blind: bool,
}

struct Kept {
    node: Arc<Node>,
    /// None once they were started.
    supervisors: Option<Vec<Supervisor>>,
    tasks: JoinSet<()>,
    /// When it was last pointed to.
    pointed: Option<Instant>,
}

impl Keeper {
    /// A topology that begins as it was found, and who keeps it.
    pub(crate) fn new(
        options: Arc<RedisOptions>,
        finder: Finder,
        layout: Layout,
        on_push: OnPush,
    ) -> (Topology, Self) {
        let mut keeper = Self { options, finder, on_push, layout, nodes: HashMap::new(), blind: false };
        keeper.settle();
        (Topology::new(keeper.map()), keeper)
    }

    /// Runs until it is dropped.
    pub(crate) async fn run(mut self, shared: Arc<Shared>, queue: mpsc::WeakSender<Request>) {
        loop {
            for kept in self.nodes.values_mut() {
                let Some(supervisors) = kept.supervisors.take() else { continue };
                for supervisor in supervisors {
                    kept.tasks.spawn(supervisor.run());
                }
                kept.tasks.spawn(live::watch(Arc::clone(&shared), Arc::clone(&kept.node), queue.clone()));
            }
            let pause = if shared.topology.troubles().is_empty() { LOOK_EVERY } else { LOOK_SOON };
            tokio::select! {
                biased;
                () = shared.topology.nudged.notified() => tokio::time::sleep(LOOK_LEAST).await,
                () = tokio::time::sleep(pause) => {}
            }
            if self.finder.is_fixed() {
                shared.topology.hints.lock().clear();
            } else {
                self.look(&shared.topology).await;
            }
        }
    }

    async fn look(&mut self, topology: &Topology) {
        let before = self.layout.clone();
        let blind = self.blind;
        match self.finder.find().await {
            Ok(layout) => {
                self.layout = layout;
                self.blind = false;
                *topology.trouble.lock() = None;
            }
            Err(error) => {
                self.blind = true;
                let trouble = error.to_string();
                let mut told = topology.trouble.lock();
                if told.as_ref() != Some(&trouble) {
                    tracing::warn!(%error, "the Redis primaries cannot be asked for; going on with those known");
                }
                *told = Some(trouble);
            }
        }
        // Whoever said "moved" was the last to know for sure.
        for hint in std::mem::take(&mut *topology.hints.lock()) {
            match hint {
                Hint::Moved(at, to) => self.layout.give(at, &to),
                Hint::Asked(to) => {
                    self.keep(&to).pointed = Some(Instant::now());
                }
            }
        }
        self.settle();
        let map = self.map();
        // Before anybody finds the new place, and its gate shut.
        topology.moved(&before, &map.layout, blind);
        topology.map.send_if_modified(|current| {
            let news = current.layout != map.layout
                || current.nodes.len() != map.nodes.len()
                || map.nodes.keys().any(|address| !current.nodes.contains_key(address));
            if news {
                *current = Arc::new(map);
            }
            news
        });
    }

    /// Keeps a node for every primary, and lets go of the others.
    fn settle(&mut self) {
        for address in self.layout.primaries().to_vec() {
            let slots = self.layout.slots_of(&address);
            let in_cluster = matches!(self.options.url.deployment(), Deployment::Cluster { .. });
            let kept = self.keep(&address);
            if in_cluster {
                kept.node.place.holds(slots);
            }
        }
        let layout = &self.layout;
        self.nodes.retain(|address, kept| {
            let spare = kept.pointed.is_some_and(|pointed| pointed.elapsed() < SPARE);
            let stays = spare || layout.primaries().contains(address);
            if !stays {
                tracing::info!(shard = %address, "this Redis is not a primary any more");
                kept.node.place.retire();
            }
            stays
        });
    }

    fn keep(&mut self, address: &Address) -> &mut Kept {
        let (options, on_push) = (&self.options, &self.on_push);
        self.nodes.entry(address.clone()).or_insert_with(|| {
            let place = Arc::new(Place::new(address.clone(), identity(options, address)));
            if matches!(options.url.deployment(), Deployment::Cluster { .. }) {
                place.holds(vec![]);
            }
            let (node, supervisors) = Node::new(place, options, on_push);
            Kept {
                node: Arc::new(node),
                supervisors: Some(supervisors),
                tasks: JoinSet::new(),
                pointed: None,
            }
        })
    }

    fn map(&self) -> Map {
        let nodes = self.nodes.iter().map(|(address, kept)| (address.clone(), Arc::clone(&kept.node)));
        Map { layout: self.layout.clone(), nodes: nodes.collect() }
    }
}

/// Which of how many servers this is, where the list of them divides the keys.
fn identity(options: &RedisOptions, address: &Address) -> Option<String> {
    match options.url.deployment() {
        Deployment::Primaries(list) => {
            let at = list.iter().position(|listed| listed == address)?;
            Some(format!("{}/{}", at + 1, list.len()))
        }
        Deployment::Sentinel { .. } => Some("1/1".to_owned()),
        Deployment::Cluster { .. } => None,
    }
}
