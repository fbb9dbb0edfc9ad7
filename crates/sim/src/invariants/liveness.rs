//! When all faults have healed, everybody has the same view; who is there is in it, who is not is out, and
//! no drain or rebalance is left half done.

use evergate_domain::cluster::Lease;

use crate::world::World;

pub(crate) fn check(world: &World) -> Result<(), String> {
    if world.leader.is_none() {
        return Err("nobody leads".to_owned());
    }
    let view = world.newest();
    for (number, control) in world.controls.iter().enumerate() {
        if control.state.view() != view {
            return Err(format!(
                "control node {number} is at {}, {} is newest",
                control.state.view().version(),
                view.version()
            ));
        }
    }
    for edge in &world.edges {
        let known = view.nodes().get(&edge.name);
        let is_held =
            known.is_some_and(|node| node.lease == Lease::Held && node.incarnation == edge.incarnation);
        if edge.is_up != is_held {
            return Err(format!(
                "{} is {}, and known as {known:?}",
                edge.name,
                if edge.is_up { "up" } else { "down" }
            ));
        }
        if edge.is_up && edge.view != *view {
            return Err(format!(
                "{} has view {}, {} is newest",
                edge.name,
                edge.view.version(),
                view.version()
            ));
        }
    }
    let mut edges = std::collections::BTreeMap::<_, usize>::new();
    for node in view.nodes().values().filter(|node| node.takes_clients()) {
        *edges.entry(&node.region).or_default() += 1;
    }
    let is_unbalanced = |(region, edges): &(&_, usize)| *edges > 1 && !view.balanced().contains(*region);
    if let Some((region, _)) = edges.into_iter().find(is_unbalanced) {
        return Err(format!("clients of {region} were never sent where they belong"));
    }
    if let Some(plan) = view.rebalance() {
        return Err(format!("the rebalance of {} never ends: it waits for {:?}", plan.region, plan.left));
    }
    match view.drains().values().find(|drain| drain.running) {
        Some(drain) => Err(format!("the drain of {} never ends", drain.node)),
        None => Ok(()),
    }
}
