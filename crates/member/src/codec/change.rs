//! Views, whole or by what has changed.

use evergate_domain::cluster::{Change, Delta, Digest, Drain, Rebalance, View};
use evergate_domain::{NodeName, RegionName, StreamName};
use evergate_proto::control::v1 as proto;
use proto::change::What;

use super::node::{decode_node, decode_region, encode_node, encode_region};
use super::policy::{
    decode_breaker, decode_canary, decode_limit, decode_policy, decode_settings, decode_slot, encode_breaker,
    encode_canary, encode_limit, encode_policy, encode_settings, encode_slot,
};
use super::{DecodeError, checked};

/// A whole view as a message.
#[must_use]
pub fn encode_view(view: &View) -> proto::View {
    proto::View {
        version: view.version(),
        ring_version: view.ring_version(),
        changes: view.contents().iter().map(encode_change).collect(),
        digest: view.digest().get(),
    }
}

/// The view of a message, which must be what its sender has.
pub fn decode_view(view: &proto::View) -> Result<View, DecodeError> {
    let changes = decode_changes(&view.changes)?;
    View::whole(view.version, view.ring_version, changes, Digest::new(view.digest))
        .ok_or_else(|| DecodeError::new("view", "what it makes is not what its sender has"))
}

/// A step from one version to the next as a message.
#[must_use]
pub fn encode_delta(delta: &Delta) -> proto::Delta {
    proto::Delta {
        from: delta.from,
        changes: delta.changes.iter().map(encode_change).collect(),
        digest: delta.digest.get(),
    }
}

/// The step of a message.
pub fn decode_delta(delta: &proto::Delta) -> Result<Delta, DecodeError> {
    let changes = decode_changes(&delta.changes)?;
    Ok(Delta { from: delta.from, changes, digest: Digest::new(delta.digest) })
}

fn decode_changes(changes: &[proto::Change]) -> Result<Vec<Change>, DecodeError> {
    changes.iter().map(decode_change).collect()
}

fn encode_change(change: &Change) -> proto::Change {
    let what = match change {
        Change::Format(format) => What::Format(*format),
        Change::Settings(settings) => What::Settings(encode_settings(settings)),
        Change::Region(region) => What::Region(encode_region(region)),
        Change::RegionGone(region) => What::RegionGone(region.to_string()),
        Change::Node(node) => What::Node(encode_node(node)),
        Change::NodeGone(node) => What::NodeGone(node.to_string()),
        Change::Slot(number, slot) => What::Slot(encode_slot(*number, slot)),
        Change::Policy(stream, policy) => What::Policy(encode_policy(stream, policy)),
        Change::PolicyGone(stream) => What::PolicyGone(stream.to_string()),
        Change::Drain(drain) => What::Drain(proto::Drain {
            node: drain.node.to_string(),
            order: drain.order,
            force: drain.force,
            running: drain.running,
        }),
        Change::DrainOver(node) => What::DrainOver(node.to_string()),
        Change::Breaker(name, breaker) => What::Breaker(encode_breaker(name, breaker)),
        Change::BreakerGone(name) => What::BreakerGone(name.clone()),
        Change::Limit(name, limit) => What::Limit(encode_limit(name, limit)),
        Change::LimitGone(name) => What::LimitGone(name.clone()),
        Change::Canary(canary) => What::Canary(encode_canary(canary)),
        Change::Rebalance(rebalance) => What::Rebalance(proto::Rebalance {
            region: rebalance.region.to_string(),
            plan: rebalance.plan,
            left: rebalance.left.iter().map(ToString::to_string).collect(),
        }),
        Change::RebalanceDone(node) => What::RebalanceDone(node.to_string()),
        Change::RebalanceOver => What::RebalanceOver(proto::change::Nothing {}),
        Change::Balanced(region) => What::Balanced(region.to_string()),
    };
    proto::Change { what: Some(what) }
}

fn decode_change(change: &proto::Change) -> Result<Change, DecodeError> {
    let node = |name: &str| checked("node", NodeName::new(name));
    let change = match change.what.as_ref().ok_or_else(|| DecodeError::absent("change"))? {
        What::Format(format) => Change::Format(*format),
        What::Settings(settings) => Change::Settings(decode_settings(settings)?),
        What::Region(region) => Change::Region(decode_region(region)?),
        What::RegionGone(region) => Change::RegionGone(checked("region", RegionName::new(region))?),
        What::Node(node) => Change::Node(Box::new(decode_node(node)?)),
        What::NodeGone(name) => Change::NodeGone(node(name)?),
        What::Slot(slot) => {
            let (number, slot) = decode_slot(slot)?;
            Change::Slot(number, slot)
        }
        What::Policy(policy) => {
            let (stream, policy) = decode_policy(policy)?;
            Change::Policy(stream, policy)
        }
        What::PolicyGone(stream) => Change::PolicyGone(checked("stream", StreamName::new(stream))?),
        What::Drain(drain) => Change::Drain(Drain {
            node: node(&drain.node)?,
            order: drain.order,
            force: drain.force,
            running: drain.running,
        }),
        What::DrainOver(name) => Change::DrainOver(node(name)?),
        What::Breaker(breaker) => {
            let (name, breaker) = decode_breaker(breaker)?;
            Change::Breaker(name, breaker)
        }
        What::BreakerGone(name) => Change::BreakerGone(name.clone()),
        What::Limit(limit) => {
            let (name, limit) = decode_limit(limit);
            Change::Limit(name, limit)
        }
        What::LimitGone(name) => Change::LimitGone(name.clone()),
        What::Canary(canary) => Change::Canary(decode_canary(canary)?),
        What::Rebalance(rebalance) => Change::Rebalance(Rebalance {
            region: checked("region", RegionName::new(&rebalance.region))?,
            plan: rebalance.plan,
            left: rebalance.left.iter().map(|name| node(name)).collect::<Result<_, _>>()?,
        }),
        What::RebalanceDone(name) => Change::RebalanceDone(node(name)?),
        What::RebalanceOver(proto::change::Nothing {}) => Change::RebalanceOver,
        What::Balanced(region) => Change::Balanced(checked("region", RegionName::new(region))?),
    };
    Ok(change)
}
