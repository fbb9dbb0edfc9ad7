//! What happened lately, for whoever opens the admin page afterwards: drains, nodes that were lost, gaps that
//! subscribers were told of, and the stages of the process itself.
//!
//! Bounded: the oldest entry is dropped when a new one comes.

use std::collections::{BTreeMap, VecDeque};
use std::sync::{Arc, OnceLock};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evergate_domain::UnixMillis;
use evergate_domain::cluster::View;
use parking_lot::Mutex;
use serde_json::{Value, json};

use super::Cluster;
use crate::cluster::state;
use crate::metrics::Metrics;
use crate::readiness::{Readiness, Stage};

/// Entries that are kept.
const ENTRIES_MAX: usize = 100;
/// How often what is kept elsewhere is compared with what it was.
const EVERY: Duration = Duration::from_secs(2);
/// What subscribers are told they missed, by reason.
const GAPS: &str = "evergate_gaps_total";

/// The newest entries. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Journal(Arc<Mutex<VecDeque<Entry>>>);

#[derive(Debug, Clone, PartialEq, Eq)]
struct Entry {
    at: UnixMillis,
    text: String,
}

/// How things stood at the last look.
#[derive(Debug, Default)]
struct Stood {
    /// What each node was doing, once anything of the cluster was known.
    nodes: Option<BTreeMap<String, &'static str>>,
    /// Notices of gaps, by reason.
    gaps: BTreeMap<String, u64>,
    stage: Option<Stage>,
}

impl Journal {
    /// Writes down what changes, until dropped.
    pub(crate) async fn keep(self, cluster: Arc<OnceLock<Cluster>>, metrics: Metrics, readiness: Readiness) {
        let mut stood = Stood::default();
        loop {
            let view = cluster.get().map(Cluster::view);
            let news = stood.news(view.as_deref(), metrics.counts(GAPS), readiness.stage());
            self.write(now(), news);
            tokio::time::sleep(EVERY).await;
        }
    }

    fn write(&self, at: UnixMillis, news: Vec<String>) {
        let mut entries = self.0.lock();
        for text in news {
            entries.truncate(ENTRIES_MAX - 1);
            entries.push_front(Entry { at, text });
        }
    }

    /// For the page, the newest first.
    pub(super) fn told(&self) -> Vec<Value> {
        let entries = self.0.lock();
        entries.iter().map(|entry| json!({ "at": entry.at.get(), "text": entry.text })).collect()
    }
}

impl Stood {
    /// What is different now, each in a sentence.
    fn news(&mut self, view: Option<&View>, gaps: BTreeMap<String, u64>, stage: Stage) -> Vec<String> {
        let mut news = Vec::new();
        if self.stage.replace(stage) != Some(stage) {
            news.push(format!("this process is {}", stage.as_str()));
        }
        for (reason, told) in &gaps {
            let risen = told.saturating_sub(self.gaps.get(reason).copied().unwrap_or(0));
            if risen > 0 {
                news.push(format!("{risen} times a subscriber was told of a gap: {reason}"));
            }
        }
        self.gaps = gaps;
        // Before anything is known nobody is there, and it is not that they have gone.
        if let Some(view) = view.filter(|view| view.version() > 0) {
            let nodes =
                view.nodes().values().map(|node| (node.name.to_string(), state(node, view))).collect();
            if let Some(before) = &self.nodes {
                news.extend(changes(before, &nodes));
            }
            self.nodes = Some(nodes);
        }
        news
    }
}

/// What became of the nodes, each in a sentence.
fn changes(before: &BTreeMap<String, &'static str>, now: &BTreeMap<String, &'static str>) -> Vec<String> {
    let mut news = Vec::new();
    for (node, state) in now {
        match before.get(node) {
            Some(was) if was == state => {}
            Some(was) => news.push(format!("{node} is {state}, and was {was}")),
            None => news.push(format!("{node} came: {state}")),
        }
    }
    let gone = before.iter().filter(|(node, _)| !now.contains_key(*node));
    news.extend(gone.map(|(node, was)| format!("{node} is gone, and was {was}")));
    news
}

fn now() -> UnixMillis {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    UnixMillis::new(u64::try_from(since.as_millis()).unwrap_or(u64::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn gaps(told: u64) -> BTreeMap<String, u64> {
        BTreeMap::from([("trimmed".to_owned(), told)])
    }

    #[test]
    fn each_change_is_told_once() {
        let mut stood = Stood::default();
        assert_eq!(stood.news(None, gaps(0), Stage::Ready), ["this process is ready"]);
        assert_eq!(stood.news(None, gaps(0), Stage::Ready), [""; 0]);
        let told = stood.news(None, gaps(3), Stage::Stopping);
        assert_eq!(told, ["this process is stopping", "3 times a subscriber was told of a gap: trimmed"]);
        assert_eq!(stood.news(None, gaps(3), Stage::Stopping), [""; 0]);
    }

    #[test]
    fn nodes_come_are_drained_and_go() {
        let of = |nodes: &[(&str, &'static str)]| {
            nodes.iter().map(|(node, state)| ((*node).to_owned(), *state)).collect::<BTreeMap<_, _>>()
        };
        let before = of(&[("a", "here"), ("b", "here")]);
        assert_eq!(changes(&before, &before), [""; 0]);
        let told = changes(&before, &of(&[("a", "draining"), ("c", "here")]));
        assert_eq!(told, ["a is draining, and was here", "c came: here", "b is gone, and was here"]);
    }

    #[test]
    fn the_oldest_is_dropped_for_the_newest() {
        let journal = Journal::default();
        for n in 0..ENTRIES_MAX as u64 + 5 {
            journal.write(UnixMillis::new(n), vec![n.to_string()]);
        }
        let told = journal.told();
        assert_eq!(told.len(), ENTRIES_MAX);
        assert_eq!((&told[0]["text"], &told[ENTRIES_MAX - 1]["text"]), (&"104".into(), &"5".into()));
    }
}
