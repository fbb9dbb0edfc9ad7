//! A node that was lost gets no clients again before it has been there for as long as is asked.

use std::collections::BTreeMap;

use evergate_domain::NodeName;
use evergate_domain::cluster::Lease;

use crate::world::World;

#[derive(Default)]
pub(crate) struct Hysteresis {
    /// Since when they have been lost.
    lost: BTreeMap<NodeName, u64>,
}

impl Hysteresis {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let view = world.newest();
        let wanted_ms = u64::from(world.settings.hysteresis_ms);
        let mut lost = BTreeMap::new();
        for node in view.nodes().values() {
            let since = self.lost.get(&node.name).copied();
            match (node.lease, since) {
                (Lease::Lost, since) => {
                    lost.insert(node.name.clone(), since.unwrap_or(world.now_ms));
                }
                (Lease::Held, Some(since)) if world.now_ms - since < wanted_ms => {
                    let out_ms = world.now_ms - since;
                    return Err(format!("{} was out for {out_ms} ms only", node.name));
                }
                (Lease::Held, _) => {}
            }
        }
        self.lost = lost;
        Ok(())
    }
}
