//! Commands, and what came of them.

use evergate_domain::cluster::{Command, Digest, Proposal, Refusal, RefusalKind, SlotNumber};
use evergate_domain::{Epoch, NodeName, RegionName, StreamName, UnixMillis};
use evergate_proto::control::v1 as proto;
use proto::command::{BeginEpoch, EndEpoch, NodeRun, Rebalanced, StartDrain, What};

use super::node::{decode_node, decode_region, encode_node, encode_region};
use super::policy::{
    decode_breaker, decode_canary, decode_epoch, decode_limit, decode_policy, decode_settings,
    encode_breaker, encode_canary, encode_limit, encode_policy, encode_settings,
};
use super::{DecodeError, checked};

/// A proposal as a message.
#[must_use]
pub fn encode_proposal(proposal: &Proposal) -> proto::Proposal {
    proto::Proposal {
        by: proposal.by.clone(),
        at_ms: proposal.at.get(),
        command: Some(encode_command(&proposal.command)),
    }
}

/// The proposal of a message.
pub fn decode_proposal(proposal: &proto::Proposal) -> Result<Proposal, DecodeError> {
    let command = proposal.command.as_ref().ok_or_else(|| DecodeError::absent("command"))?;
    let (by, at) = (proposal.by.clone(), UnixMillis::new(proposal.at_ms));
    Ok(Proposal { by, at, command: decode_command(command)? })
}

/// A command as a message.
#[must_use]
pub fn encode_command(command: &Command) -> proto::Command {
    let run =
        |node: &NodeName, incarnation: &u64| NodeRun { node: node.to_string(), incarnation: *incarnation };
    let what = match command {
        Command::Join(node) => What::Join(encode_node(node)),
        Command::Lost { node, incarnation } => What::Lost(run(node, incarnation)),
        Command::Back { node, incarnation } => What::Back(run(node, incarnation)),
        Command::Ending { node, incarnation } => What::Ending(run(node, incarnation)),
        Command::Leave { node, incarnation } => What::Leave(run(node, incarnation)),
        Command::Forget(node) => What::Forget(node.to_string()),
        Command::Drain { node, force } => What::Drain(StartDrain { node: node.to_string(), force: *force }),
        Command::Drained { node, incarnation } => What::Drained(run(node, incarnation)),
        Command::Undrain(node) => What::Undrain(node.to_string()),
        Command::Rebalance(region) => What::Rebalance(region.to_string()),
        Command::CancelRebalance(region) => What::CancelRebalance(region.to_string()),
        Command::Rebalanced { node, incarnation, plan } => {
            let (node, incarnation, plan) = (node.to_string(), *incarnation, *plan);
            What::Rebalanced(Rebalanced { node, incarnation, plan })
        }
        Command::Note(what) => What::Note(what.clone()),
        Command::SetRegion(region) => What::SetRegion(encode_region(region)),
        Command::RemoveRegion(region) => What::RemoveRegion(region.to_string()),
        Command::SetPolicy(stream, policy) => What::SetPolicy(encode_policy(stream, policy)),
        Command::RemovePolicy(stream) => What::RemovePolicy(stream.to_string()),
        Command::SetBreaker(name, breaker) => What::SetBreaker(encode_breaker(name, breaker)),
        Command::RemoveBreaker(name) => What::RemoveBreaker(name.clone()),
        Command::SetLimit(name, limit) => What::SetLimit(encode_limit(name, limit)),
        Command::RemoveLimit(name) => What::RemoveLimit(name.clone()),
        Command::SetSettings(settings) => What::SetSettings(encode_settings(settings)),
        Command::SetCanary(canary) => What::SetCanary(encode_canary(canary)),
        Command::RaiseFormat(format) => What::RaiseFormat(*format),
        Command::BeginEpoch { slot, home, at_least } => What::BeginEpoch(BeginEpoch {
            slot: slot.get().into(),
            home: home.to_string(),
            at_least: at_least.get(),
        }),
        Command::EndEpoch { slot, epoch, ends } => {
            What::EndEpoch(EndEpoch { slot: slot.get().into(), epoch: epoch.get(), ends: ends.get() })
        }
    };
    proto::Command { what: Some(what) }
}

/// The command of a message.
pub fn decode_command(command: &proto::Command) -> Result<Command, DecodeError> {
    let node = |name: &str| checked("node", NodeName::new(name));
    let region = |name: &str| checked("region", RegionName::new(name));
    let stream = |name: &str| checked("stream", StreamName::new(name));
    let slot = |number: u32| checked("slot", SlotNumber::new(number.into()));
    let command = match command.what.as_ref().ok_or_else(|| DecodeError::absent("command"))? {
        What::Join(node) => Command::Join(Box::new(decode_node(node)?)),
        What::Lost(run) => Command::Lost { node: node(&run.node)?, incarnation: run.incarnation },
        What::Back(run) => Command::Back { node: node(&run.node)?, incarnation: run.incarnation },
        What::Ending(run) => Command::Ending { node: node(&run.node)?, incarnation: run.incarnation },
        What::Leave(run) => Command::Leave { node: node(&run.node)?, incarnation: run.incarnation },
        What::Forget(name) => Command::Forget(node(name)?),
        What::Drain(drain) => Command::Drain { node: node(&drain.node)?, force: drain.force },
        What::Drained(run) => Command::Drained { node: node(&run.node)?, incarnation: run.incarnation },
        What::Undrain(name) => Command::Undrain(node(name)?),
        What::Rebalance(name) => Command::Rebalance(region(name)?),
        What::CancelRebalance(name) => Command::CancelRebalance(region(name)?),
        What::Rebalanced(done) => {
            Command::Rebalanced { node: node(&done.node)?, incarnation: done.incarnation, plan: done.plan }
        }
        What::Note(what) => Command::Note(what.clone()),
        What::SetRegion(region) => Command::SetRegion(decode_region(region)?),
        What::RemoveRegion(name) => Command::RemoveRegion(region(name)?),
        What::SetPolicy(policy) => {
            let (stream, policy) = decode_policy(policy)?;
            Command::SetPolicy(stream, policy)
        }
        What::RemovePolicy(name) => Command::RemovePolicy(stream(name)?),
        What::SetBreaker(breaker) => {
            let (name, breaker) = decode_breaker(breaker)?;
            Command::SetBreaker(name, breaker)
        }
        What::RemoveBreaker(name) => Command::RemoveBreaker(name.clone()),
        What::SetLimit(limit) => {
            let (name, limit) = decode_limit(limit);
            Command::SetLimit(name, limit)
        }
        What::RemoveLimit(name) => Command::RemoveLimit(name.clone()),
        What::SetSettings(settings) => Command::SetSettings(decode_settings(settings)?),
        What::SetCanary(canary) => Command::SetCanary(decode_canary(canary)?),
        What::RaiseFormat(format) => Command::RaiseFormat(*format),
        What::BeginEpoch(begin) => Command::BeginEpoch {
            slot: slot(begin.slot)?,
            home: region(&begin.home)?,
            at_least: decode_epoch(begin.at_least)?,
        },
        What::EndEpoch(end) => Command::EndEpoch {
            slot: slot(end.slot)?,
            epoch: decode_epoch(end.epoch)?,
            ends: Digest::new(end.ends),
        },
    };
    Ok(command)
}

/// What a refusal of a command says to whoever gave it.
fn encode_refusal(refusal: &Refusal) -> proto::Refusal {
    let kind = match refusal.kind() {
        RefusalKind::Invalid => proto::refusal::Kind::Invalid,
        RefusalKind::Conflict => proto::refusal::Kind::Conflict,
        RefusalKind::Unknown => proto::refusal::Kind::Unknown,
        RefusalKind::Full => proto::refusal::Kind::Full,
    };
    proto::Refusal { kind: kind.into(), message: refusal.to_string() }
}

/// What came of a command, the view being at `version` after it.
#[must_use]
pub fn encode_answer(version: u64, result: Result<Option<Epoch>, &Refusal>) -> proto::Answer {
    let (epoch, refusal) = match result {
        Ok(epoch) => (epoch.map_or(0, Epoch::get), None),
        Err(refusal) => (0, Some(encode_refusal(refusal))),
    };
    proto::Answer { version, epoch, refusal }
}

/// What came of a command that could not be read.
#[must_use]
pub fn encode_malformed(version: u64, why: String) -> proto::Answer {
    let refusal = proto::Refusal { kind: proto::refusal::Kind::Invalid.into(), message: why };
    proto::Answer { version, epoch: 0, refusal: Some(refusal) }
}
