//! The state that a cluster agrees on: commands in, changes out.
//!
//! Every control node has one and gives it the same commands in the same order. What becomes of it follows
//! from these alone. A command that is refused changes nothing.

mod drains;
mod joining;
mod rebalance;

use crate::cluster::{
    Audit, AuditEntry, Canary, CanaryState, Change, Command, Delta, Drain, Lease, Node, Proposal, Rebalance,
    Refusal, Region, Role, Slot, View,
};
use crate::{Epoch, NodeName, RegionName};

/// Nodes of a cluster.
pub const NODES_MAX: usize = 5_000;
/// Regions of a cluster.
pub const REGIONS_MAX: usize = 64;
/// Zones of a region.
pub const ZONES_MAX: usize = 64;
/// Streams with a policy.
pub const POLICIES_MAX: usize = 10_000;
/// Breakers, and limits.
const NAMED_MAX: usize = 256;

/// Free text of a command.
const TEXT_BYTES_MAX: usize = 256;

/// What is agreed on.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct State {
    view: View,
    audit: Audit,
    /// How many drains were ever asked for.
    drains_asked: u64,
}

/// What came of a command.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Outcome {
    /// The steps from the view before to the one after; none if nothing had to be changed.
    pub deltas: Vec<Delta>,
    /// The epoch that was begun.
    pub epoch: Option<Epoch>,
}

impl State {
    /// From its parts, as a snapshot holds them.
    #[must_use]
    pub fn from_parts(view: View, audit: Audit, drains_asked: u64) -> Self {
        Self { view, audit, drains_asked }
    }

    /// What everybody follows.
    #[must_use]
    pub fn view(&self) -> &View {
        &self.view
    }

    /// Who changed what.
    #[must_use]
    pub fn audit(&self) -> &Audit {
        &self.audit
    }

    /// How many drains were ever asked for.
    #[must_use]
    pub fn drains_asked(&self) -> u64 {
        self.drains_asked
    }

    /// Does what a proposal says, or refuses it and stays as it was.
    pub fn apply(&mut self, proposal: &Proposal) -> Result<Outcome, Refusal> {
        check_text("by", &proposal.by, 128)?;
        let mut epoch = None;
        let changes = self.judge(&proposal.command, &mut epoch)?;
        // Nothing may be refused from here on.
        let is_note = matches!(proposal.command, Command::Note(_));
        if changes.is_empty() && !is_note {
            return Ok(Outcome { deltas: Vec::new(), epoch });
        }
        if let Command::Drain { .. } = &proposal.command {
            self.drains_asked += 1;
        }
        let mut deltas = Vec::new();
        if !changes.is_empty() {
            deltas.push(self.view.advance(changes));
        }
        let turn = self.turn();
        if !turn.is_empty() {
            deltas.push(self.view.advance(turn));
        }
        if matches!(proposal.command, Command::Rebalanced { .. }) && self.view.rebalance().is_some() {
            // Of many edges that say so one after the other, the last is remembered.
            return Ok(Outcome { deltas, epoch });
        }
        self.audit.note(AuditEntry {
            version: self.view.version(),
            at: proposal.at,
            by: proposal.by.clone(),
            what: proposal.command.to_string(),
        });
        Ok(Outcome { deltas, epoch })
    }

    fn judge(&self, command: &Command, begun: &mut Option<Epoch>) -> Result<Vec<Change>, Refusal> {
        let view = &self.view;
        match command {
            Command::Join(node) => self.join(node),
            Command::Lost { node, incarnation } => self.lost(node, *incarnation),
            Command::Back { node, incarnation } => self.back(node, *incarnation),
            Command::Ending { node, incarnation } => self.ending(node, *incarnation),
            Command::Leave { node, incarnation } => self.leave(node, *incarnation),
            Command::Forget(node) => self.forget(node),
            Command::Drain { node, force } => self.drain(node, *force),
            Command::Drained { node, incarnation } => self.drained(node, *incarnation),
            Command::Undrain(node) => self.undrain(node),
            Command::Rebalance(region) => self.rebalance(region),
            Command::CancelRebalance(region) => self.cancel_rebalance(region),
            Command::Rebalanced { node, incarnation, plan } => self.rebalanced(node, *incarnation, *plan),
            Command::Note(what) => {
                self.needs_format(2, "a note")?;
                check_text("note", what, TEXT_BYTES_MAX)?;
                Ok(Vec::new())
            }
            Command::SetRegion(region) => {
                self.check_region(region)?;
                Ok(changed(view.regions().get(&region.name), region, |region| Change::Region(region.clone())))
            }
            Command::RemoveRegion(region) => self.remove_region(region),
            Command::SetPolicy(stream, policy) => {
                let before = view.policies().get(stream);
                if before.is_some_and(|before| before.level != policy.level) {
                    return Err(Refusal::LevelFixed(stream.clone()));
                }
                has_room("stream policies", view.policies().len(), POLICIES_MAX, before.is_some())?;
                Ok(changed(before, policy, |policy| Change::Policy(stream.clone(), policy.clone())))
            }
            Command::RemovePolicy(stream) => {
                known("policy of stream", stream, view.policies().contains_key(stream))?;
                Ok(vec![Change::PolicyGone(stream.clone())])
            }
            Command::SetBreaker(name, breaker) => {
                check_text("breaker", name, 64)?;
                let before = view.breakers().get(name);
                has_room("breakers", view.breakers().len(), NAMED_MAX, before.is_some())?;
                if breaker.budget_permille_min > 1_000 || breaker.failures == 0 || breaker.open_ms == 0 {
                    let why =
                        "failures and open_ms are above 0, and a budget's rest at most 1000 thousandths";
                    return Err(Refusal::invalid("breaker", why));
                }
                Ok(changed(before, breaker, |breaker| Change::Breaker(name.clone(), *breaker)))
            }
            Command::RemoveBreaker(name) => {
                known("breaker", name, view.breakers().contains_key(name))?;
                Ok(vec![Change::BreakerGone(name.clone())])
            }
            Command::SetLimit(name, limit) => {
                check_text("limit", name, 64)?;
                let before = view.limits().get(name);
                has_room("limits", view.limits().len(), NAMED_MAX, before.is_some())?;
                if limit.per_second == 0 || limit.burst == 0 {
                    return Err(Refusal::invalid("limit", "per_second and burst are above 0"));
                }
                Ok(changed(before, limit, |limit| Change::Limit(name.clone(), *limit)))
            }
            Command::RemoveLimit(name) => {
                known("limit", name, view.limits().contains_key(name))?;
                Ok(vec![Change::LimitGone(name.clone())])
            }
            Command::SetSettings(settings) => {
                settings.check()?;
                if settings.rebalance_after_ms > 0 {
                    self.needs_format(2, "a rebalance")?;
                }
                Ok(changed(Some(view.settings()), settings, |settings| Change::Settings(*settings)))
            }
            Command::SetCanary(canary) => {
                check_canary(canary)?;
                Ok(changed(Some(view.canary()), canary, |canary| Change::Canary(canary.clone())))
            }
            Command::RaiseFormat(format) => self.raise_format(*format),
            Command::BeginEpoch { slot, home, at_least } => {
                known("region", home, view.regions().contains_key(home))?;
                let mut table = view.slots().get(slot).cloned().unwrap_or_default();
                let next = table.epochs().last().map_or(1, |span| span.epoch.get() + 1);
                let epoch = Epoch::new(next.max(at_least.get()))
                    .ok_or_else(|| Refusal::invalid("epoch", "there is none left"))?;
                table.begin(epoch, home.clone())?;
                *begun = Some(epoch);
                Ok(vec![Change::Slot(*slot, table)])
            }
            Command::EndEpoch { slot, epoch, ends } => {
                let mut table = view.slots().get(slot).cloned().unwrap_or_default();
                table.end(*epoch, *ends)?;
                Ok(vec![Change::Slot(*slot, table)])
            }
        }
    }

    /// The node of this name.
    fn node(&self, name: &NodeName) -> Result<&Node, Refusal> {
        self.view.nodes().get(name).ok_or_else(|| Refusal::unknown("node", name))
    }

    /// The node of this name, if it is still the run of it that was judged.
    fn same(&self, name: &NodeName, incarnation: u64) -> Result<&Node, Refusal> {
        let node = self.node(name)?;
        if node.incarnation == incarnation { Ok(node) } else { Err(Refusal::Outdated(name.clone())) }
    }

    fn check_region(&self, region: &Region) -> Result<(), Refusal> {
        has_room(
            "regions",
            self.view.regions().len(),
            REGIONS_MAX,
            self.view.regions().contains_key(&region.name),
        )?;
        has_room("zones of a region", region.zones.len(), ZONES_MAX, region.zones.len() <= ZONES_MAX)?;
        region.public_host.as_deref().map_or(Ok(()), |host| check_text("public host", host, 253))
    }

    fn remove_region(&self, region: &RegionName) -> Result<Vec<Change>, Refusal> {
        known("region", region, self.view.regions().contains_key(region))?;
        let in_use = |what| Err(Refusal::RegionInUse { region: region.clone(), what });
        if self.view.nodes().values().any(|node| node.region == *region) {
            return in_use("nodes");
        }
        let is_home = |slot: &Slot| slot.open().is_some_and(|span| span.home == *region);
        if self.view.slots().values().any(is_home) {
            return in_use("slots that are at home there");
        }
        Ok(vec![Change::RegionGone(region.clone())])
    }

    /// Judged by what is agreed on alone, and not by what this program understands: another one may be at
    /// the same command.
    fn raise_format(&self, asked: u32) -> Result<Vec<Change>, Refusal> {
        let agreed = self.view.format();
        let refused = |why| Err(Refusal::Format { agreed, asked, why });
        if asked <= agreed {
            return refused("it only rises".to_owned());
        }
        match self.view.nodes().values().find(|node| node.format < asked) {
            Some(node) => refused(format!("{} understands {} at the most", node.name, node.format)),
            None => Ok(vec![Change::Format(asked)]),
        }
    }

    /// What an older node would not understand is refused by all alike, until they have agreed that there is none.
    fn needs_format(&self, needs: u32, what: &'static str) -> Result<(), Refusal> {
        let agreed = self.view.format();
        if agreed >= needs { Ok(()) } else { Err(Refusal::FormatTooLow { what, needs, agreed }) }
    }
}

fn check_text(what: &'static str, text: &str, bytes_max: usize) -> Result<(), Refusal> {
    if text.is_empty() || text.len() > bytes_max || text.chars().any(char::is_control) {
        let why = format!("it has 1 to {bytes_max} bytes and no control characters");
        return Err(Refusal::invalid(what, why));
    }
    Ok(())
}

fn check_canary(canary: &Canary) -> Result<(), Refusal> {
    if canary.share_permille > 1_000 {
        return Err(Refusal::invalid("canary", "its share is at most 1000 thousandths"));
    }
    match &canary.state {
        CanaryState::Off | CanaryState::Running => Ok(()),
        CanaryState::RolledBack { why } => check_text("canary", why, TEXT_BYTES_MAX),
    }
}

fn known(what: &'static str, name: &(impl ToString + ?Sized), is_known: bool) -> Result<(), Refusal> {
    if is_known { Ok(()) } else { Err(Refusal::unknown(what, name)) }
}

/// Whether there is room for one more, or none is needed.
fn has_room(what: &'static str, len: usize, max: usize, is_there: bool) -> Result<(), Refusal> {
    if is_there || len < max { Ok(()) } else { Err(Refusal::TooMany { what, max }) }
}

/// Nothing if it is so already: to ask twice is to ask once.
fn changed<T: PartialEq>(before: Option<&T>, after: &T, change: impl FnOnce(&T) -> Change) -> Vec<Change> {
    if before == Some(after) { Vec::new() } else { vec![change(after)] }
}

#[cfg(test)]
mod tests;
