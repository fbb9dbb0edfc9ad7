//! Control nodes at places of their own, and edges with their subscribers and publishers at another: whatever is cut
//! between the ones, the others must not notice.

use std::collections::BTreeMap;

use evergate_tests::controls::{Controls, Plan, wait};
use evergate_tests::figures::figure;
use evergate_tests::http1::{Request, call};
use evergate_tests::ledger::Totals;
use evergate_tests::left_out::left_out;
use evergate_tests::network::Network;
use evergate_tests::process::Evergate;
use evergate_tests::redis::{Keeps, RedisServer};

use crate::audience::Audience;
use crate::onlooker::Onlooker;
use crate::places::{edge, knows};

/// All of it.
pub(crate) struct Scene {
    pub(crate) controls: Controls,
    pub(crate) edges: Vec<Evergate>,
    pub(crate) audience: Audience,
    /// What was said of each version of the view.
    versions: BTreeMap<u64, (String, u64, String)>,
    changes: u64,
    onlooker: Onlooker,
    /// Control nodes that are gone for good.
    pub(crate) gone: Vec<usize>,
    _redis: RedisServer,
}

/// A network for so many control nodes and everybody else, if this system lets us have one.
pub(crate) fn network(test: &str, controls: u64) -> Option<Network> {
    Network::lay(controls + 1).inspect_err(|why| left_out(test, why)).ok()
}

impl Scene {
    /// With a Redis for the edges, if there is one.
    pub(crate) async fn set(test: &str, plan: Plan, edges: usize, subscribers: usize) -> Option<Self> {
        let redis = RedisServer::start(test, Keeps::Everything).await?;
        let controls = Controls::start_as(plan).await;
        let names: Vec<_> = ('a'..).take(edges).map(|letter| format!("edge-{letter}")).collect();
        let mut all = Vec::new();
        for name in &names {
            all.push(Evergate::start(edge(&controls, redis.options(), name)).await);
        }
        wait("all edges", async || {
            let nodes = controls.json(0, &["nodes"])?;
            (nodes["nodes"].as_array()?.len() == edges).then_some(())
        })
        .await;
        for edge in &all {
            knows(edge, 3.min(edges)).await;
        }
        let addresses: Vec<_> = all.iter().map(Evergate::http).collect();
        let audience = Audience::gather(subscribers, &addresses).await;
        let onlooker = Onlooker::at(all.iter().map(Evergate::admin));
        let (versions, changes, gone) = (BTreeMap::new(), 0, Vec::new());
        Some(Self { controls, edges: all, audience, versions, changes, onlooker, gone, _redis: redis })
    }

    /// Everybody but these and those who are gone for good, of the control nodes.
    pub(crate) fn besides(&self, some: &[usize]) -> Vec<usize> {
        (0..self.controls.count()).filter(|at| !some.contains(at) && !self.gone.contains(at)).collect()
    }

    /// Cuts control nodes off from the other control nodes; everybody else still reaches all.
    pub(crate) fn part(&self, some: &[usize]) {
        self.controls.network().divide(&ids(some), &ids(&self.besides(some)));
    }

    /// Undoes it.
    pub(crate) fn join(&self, some: &[usize]) {
        self.controls.network().unite(&ids(some), &ids(&self.besides(some)));
    }

    /// Looks at what control nodes have. Of one version no two ever say different things.
    pub(crate) fn look(&mut self, nodes: &[usize]) -> Option<Vec<u64>> {
        let mut seen = Vec::new();
        for at in nodes {
            let status = self.controls.json(*at, &["status"])?;
            let version = status["version"].as_u64()?;
            let text = |key: &str| status[key].as_str().expect("a digest").to_owned();
            let said = (text("digest"), status["ring_version"].as_u64()?, text("ring_digest"));
            let known = self.versions.entry(version).or_insert_with(|| said.clone());
            assert_eq!(*known, said, "two views at version {version}");
            seen.push(version);
        }
        Some(seen)
    }

    /// Has a change agreed on through a control node, and answers by what it can be told from others.
    pub(crate) async fn change(&mut self, through: usize) -> u64 {
        self.changes += 1;
        let number = self.changes.to_string();
        let set = ["policy", "set", "quote", "--events", &number];
        wait("a change", async || self.controls.json(through, &set)).await;
        self.changes
    }

    /// Returns once all control nodes have the same, and all edges a ring that follows from it. No two of them ever
    /// said different things of one version.
    #[expect(clippy::print_stdout, reason = "shown when a test fails, or when asked")]
    pub(crate) async fn one_history(&mut self) {
        let all = self.besides(&[]);
        wait("one view and one ring everywhere", async || {
            let seen = self.look(&all)?;
            let (version, first) = (seen[0], &self.versions[&seen[0]]);
            let mut is_same = seen.iter().all(|other| *other == version);
            let ring = as_gauge(&first.2);
            for edge in &self.edges {
                let page = call(edge.admin(), Request::get("/metrics")).await;
                let told = |name| figure(page.text(), name);
                is_same &= told("evergate_view_version") == Some(version as f64);
                is_same &= told("evergate_ring_digest") == Some(ring as f64);
            }
            is_same.then_some(())
        })
        .await;
        let rings = self.versions.iter().map(|(version, (_, _, ring))| (*version, as_gauge(ring)));
        let (looks, versions) = self.onlooker.judge(&rings.collect());
        println!("{looks} looks at edges, of {versions} versions: one ring at each");
        for at in &all {
            let policy = self.controls.json(*at, &["policy"]).expect("it is told");
            assert_eq!(
                policy["streams"][0]["events"], self.changes,
                "the latest change at control node {at}"
            );
        }
    }

    /// Returns once every edge holds a lease, with somebody.
    pub(crate) async fn leases(&self) {
        for edge in &self.edges {
            wait("the lease of an edge", async || {
                let page = call(edge.admin(), Request::get("/metrics")).await;
                (figure(page.text(), "evergate_lease_held") == Some(1.0)).then_some(())
            })
            .await;
        }
    }

    /// Nobody was ever taken for lost.
    pub(crate) fn nobody_was_lost(&self) {
        let at = self.besides(&[])[0];
        let audit = self.controls.json(at, &["audit", "--max", "0"]).expect("it is remembered").to_string();
        assert!(!audit.contains("lost edge-"), "{audit}");
    }

    /// A fault has just come over the leader: one of the others leads, a change through `through` is agreed on, and
    /// nobody else notices.
    pub(crate) async fn led_by_one_of(&mut self, rest: &[usize], through: usize) {
        self.audience.injected();
        self.controls.leader_of(rest).await;
        self.change(through).await;
        self.look(rest);
        self.leases().await;
        self.audience.goes_on().await;
    }

    /// No stream ended, no edge was lost, nothing was lost or doubled.
    pub(crate) async fn unnoticed(mut self, faults: usize) -> Totals {
        self.one_history().await;
        self.leases().await;
        self.nobody_was_lost();
        let asked = self.besides(&[])[0];
        let policies = self.controls.json(asked, &["policy"]).expect("it is told").to_string();
        assert!(!policies.contains("refused"), "what was refused took effect: {policies}");
        self.audience.goes_on().await;
        assert_eq!(self.audience.cuts(), 0, "no stream ended");
        self.audience.judge(0, faults).await
    }
}

/// Of a digest as it is printed, what a gauge holds: its last 32 bits.
fn as_gauge(digest: &str) -> u64 {
    u64::from_str_radix(digest, 16).expect("a digest") & 0xffff_ffff
}

/// Their ids on the network.
pub(crate) fn ids(nodes: &[usize]) -> Vec<u64> {
    nodes.iter().map(|at| *at as u64 + 1).collect()
}

/// What a control node that cannot reach a majority says to whoever wants something changed: one sentence.
pub(crate) async fn refusal(controls: &Controls, at: usize) -> String {
    let told = wait("a refusal", async || {
        let output = controls.ask(at, &["policy", "set", "unknown", "--events", "1"]);
        let told = String::from_utf8_lossy(&output.stderr).into_owned();
        (!output.status.success() && told.contains("not heard from a majority")).then_some(told)
    })
    .await;
    assert_eq!(told.trim_end().lines().count(), 1, "{told}");
    assert!(told.starts_with("evergate cluster: "), "{told}");
    // From here on it is certain: what is refused now never takes effect.
    let output = controls.ask(at, &["policy", "set", "refused", "--events", "1"]);
    assert!(!output.status.success());
    told
}
