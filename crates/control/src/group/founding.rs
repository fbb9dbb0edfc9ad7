//! Whether, and with whom, a group is founded: the asking.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use parking_lot::Mutex;

use super::bootstrap::{Asked, Verdict, judge};
use super::settings::Seeds;
use crate::network::Links;
use crate::raft::types::{NodeId, Raft};

/// Time before all are asked again.
const PAUSE: Duration = Duration::from_millis(500);
/// How long one may take to answer.
const PATIENCE: Duration = Duration::from_secs(2);

/// What a node waits for that is in no group yet, in a sentence. Clones are the same.
#[derive(Clone, Default)]
pub(super) struct Waiting(Arc<Mutex<Option<String>>>);

impl Waiting {
    pub(super) fn why(&self) -> Option<String> {
        self.0.lock().clone()
    }

    fn tell(&self, verdict: &Verdict) {
        *self.0.lock() = Some(match verdict {
            Verdict::Wait(why) => format!("waiting for a control group: {why}"),
            Verdict::Join(member) => {
                format!("node {member} belongs to a control group, which has not taken this node in yet")
            }
            Verdict::Found(_) => "founding the control group".to_owned(),
        });
    }

    fn is_over(&self) {
        *self.0.lock() = None;
    }
}

/// Asks, until the group is founded or this node is taken into it.
pub(super) async fn found(raft: Raft, links: Arc<Links>, me: NodeId, seeds: Seeds, waiting: Waiting) {
    let mut said = None;
    // An error is the end of the node, which others tell of.
    while let Ok(false) = raft.is_initialized().await {
        let verdict = judge(me, &seeds, &ask(&links, &seeds).await);
        if said.as_ref() != Some(&verdict) {
            match &verdict {
                Verdict::Wait(why) => tracing::info!(%why, "waiting for a control group"),
                Verdict::Join(member) => {
                    tracing::info!(member, "there is a control group, which has not taken this node in yet");
                }
                Verdict::Found(members) => {
                    tracing::info!(members = ?members.keys(), "founding the control group");
                }
            }
        }
        waiting.tell(&verdict);
        if let Verdict::Found(members) = &verdict
            && let Err(error) = raft.initialize(members.clone()).await
        {
            tracing::warn!(%error, "the control group was not founded");
        }
        said = Some(verdict);
        tokio::time::sleep(PAUSE).await;
    }
    waiting.is_over();
}

async fn ask(links: &Links, seeds: &Seeds) -> Vec<Asked> {
    match seeds {
        Seeds::Nobody => Vec::new(),
        Seeds::Listed(peers) => {
            let asking = peers.iter().map(|(id, address)| ask_one(links, Some(*id), address, None));
            join_all(asking).await
        }
        Seeds::Named { name, .. } => match tokio::net::lookup_host(name).await {
            Ok(addresses) => {
                let mut addresses: Vec<SocketAddr> = addresses.collect();
                addresses.sort();
                addresses.dedup();
                // Who is asked at a bare address proves to have the name.
                let host = name.rsplit_once(':').map_or(name.as_str(), |(host, _)| host);
                let addresses: Vec<_> = addresses.iter().map(ToString::to_string).collect();
                join_all(addresses.iter().map(|address| ask_one(links, None, address, Some(host)))).await
            }
            Err(error) => {
                let answer = Err(format!("the name cannot be looked up: {error}"));
                vec![Asked { expected: None, address: name.clone(), answer }]
            }
        },
    }
}

async fn ask_one(links: &Links, expected: Option<NodeId>, address: &str, host: Option<&str>) -> Asked {
    let answer = match tokio::time::timeout(PATIENCE, links.greet(address, host, PATIENCE)).await {
        Ok(answer) => answer.map_err(|error| error.to_string()),
        Err(_) => Err(format!("no answer within {PATIENCE:?}")),
    };
    Asked { expected, address: address.to_owned(), answer }
}
