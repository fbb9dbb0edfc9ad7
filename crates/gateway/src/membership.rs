//! This process as a node of its cluster.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use anyhow::Context as _;
use evergate_domain::cluster::{
    Addresses, FORMAT, Lease, LimitName, Load, Node, NodeAddress, Role, View, Weight,
};
use evergate_domain::{AgreedLimits, AgreedPolicies, NodeName, RegionName, ZoneName};
use evergate_member::{Member, MemberSettings, Placement};
use tokio::sync::watch;
use tracing::{info, warn};

use crate::certificates::Certificates;
use crate::config::Config;
use crate::keepsake::Keepsake;
use crate::ready_file::Addresses as Bound;
use crate::wiring;

/// A view that is older than this is told of at `/readyz`: control nodes say something twice a second.
const OLD: Duration = Duration::from_secs(5);

/// What is followed, from before there is anything to follow.
pub(crate) type Followed = watch::Receiver<Arc<Placement>>;

/// Takes part in the cluster that was configured.
pub(crate) fn join(
    config: &Config,
    bound: Bound,
    certificates: &Certificates,
    told: watch::Sender<Arc<Placement>>,
    load: impl Fn() -> Load + Send + Sync + 'static,
) -> anyhow::Result<Member> {
    let address = |place: &http::Uri| -> anyhow::Result<NodeAddress> {
        let authority = place.authority().context("cluster.control: no host")?;
        authority.as_str().parse().with_context(|| format!("cluster.control: {authority}"))
    };
    let by_tls = |place: &http::Uri| place.scheme_str() == Some("https");
    let settings = MemberSettings {
        cluster: config.control.cluster.clone(),
        node: node(config, bound)?,
        controls: config.cluster.control.iter().map(address).collect::<anyhow::Result<_>>()?,
        tls: certificates.links().filter(|_| config.cluster.control.iter().all(by_tls)),
    };
    Ok(Member::start(settings, told, load))
}

/// What a node says of itself.
fn node(config: &Config, bound: Bound) -> anyhow::Result<Node> {
    let cluster = &config.cluster;
    let at = |bound: SocketAddr| -> anyhow::Result<Option<NodeAddress>> {
        let address = wiring::host_and_port(&cluster.host, bound.port()).parse();
        Ok(Some(address.context("cluster.host and a port")?))
    };
    let started = SystemTime::now().duration_since(UNIX_EPOCH).context("the clock stands before 1970")?;
    let narrow = |number: u64| u32::try_from(number).unwrap_or(u32::MAX);
    Ok(Node {
        name: NodeName::new(&config.node)?,
        role: Role::Edge,
        addresses: Addresses { http: at(bound.http)?, grpc: at(bound.grpc)?, admin: None },
        region: RegionName::new(&config.region)?,
        zone: ZoneName::new(&cluster.zone)?,
        capacity: narrow(config.http.connections_max.get() as u64),
        admits_per_second: narrow(cluster.admits_per_second),
        weight: Weight::new(cluster.weight)?,
        version: env!("CARGO_PKG_VERSION").to_owned(),
        format: FORMAT,
        incarnation: u64::try_from(started.as_millis()).unwrap_or(u64::MAX),
        lease: Lease::Held,
        draining: false,
    })
}

/// What is wrong with what is followed, in a sentence. Nothing here makes a process unready: it serves on by
/// what it knows.
pub(crate) fn trouble(placement: &Placement) -> Option<String> {
    match placement.age() {
        None => Some("no control node has told this node what the cluster agrees on".to_owned()),
        Some(age) if age >= OLD => {
            let (version, seconds) = (placement.view.version(), age.as_secs());
            Some(format!(
                "no control node that knows a leader was heard for {seconds} s; serving on by version {version} of the view"
            ))
        }
        Some(_) => None,
    }
}

/// Has streams and rates go by what is agreed on, for as long as it is followed, and keeps it for the next start. Until
/// the first view comes they go by what was kept, or by the configuration.
pub(crate) async fn heed(
    mut followed: Followed,
    policies: AgreedPolicies,
    limits: AgreedLimits,
    keepsake: Option<Keepsake>,
) {
    // What was heeded last, and nothing else of its view.
    let mut known = View::default();
    loop {
        let view = Arc::clone(&followed.borrow_and_update().view);
        let is_first = known.version() == 0;
        // Before anything is known, nothing is known of policies either.
        let is_known = view.version() > 0;
        let other_policies = is_known && known.policies() != view.policies();
        let other_limits = is_known && known.limits() != view.limits();
        let is_new = other_policies || other_limits || (is_first && is_known);
        if is_new {
            policies.replace(view.policies().clone());
            limits.replace(view.limits());
            known = view.policies_alone();
        }
        if other_policies {
            let (streams, version) = (view.policies().len(), view.version());
            info!(streams, version, "streams go by the policies of the cluster");
        }
        if other_limits {
            let (rates, version) = (view.limits().len(), view.version());
            info!(rates, version, "rates go by the limits of the cluster");
            for unknown in view.limits().keys().filter(|name| name.parse::<LimitName>().is_err()) {
                warn!(limit = unknown, "the cluster has agreed on a limit that this version does not know");
            }
        }
        if let Some(keepsake) = keepsake.as_ref().filter(|_| is_new) {
            keepsake.keep(&view).await;
        }
        if followed.changed().await.is_err() {
            return;
        }
    }
}

/// Sets the gauges of what is followed, each time it is called.
pub(crate) fn gauges(placement: Followed) -> impl Fn() + Send + 'static {
    let began = Instant::now();
    move || {
        let placement = Arc::clone(&placement.borrow());
        let age = placement.age().unwrap_or_else(|| began.elapsed());
        metrics::gauge!("evergate_view_age_seconds").set(age.as_secs_f64());
        // All of the same view: they are compared between processes.
        metrics::gauge!("evergate_view_version").set(placement.view.version() as f64);
        metrics::gauge!("evergate_ring_version").set(placement.view.ring_version() as f64);
        ring_digest(placement.rings().digest().get());
    }
}

/// Sets the gauge of the rings' digest: as much of it as a number of Prometheus's can hold.
pub(crate) fn ring_digest(digest: u64) {
    metrics::gauge!("evergate_ring_digest").set((digest & 0xffff_ffff) as f64);
}
