//! At one version of the ring everybody places every client alike.

use std::collections::BTreeMap;

use evergate_domain::cluster::Digest;

use crate::world::World;

#[derive(Default)]
pub(crate) struct RingAgreement(BTreeMap<u64, Digest>);

impl RingAgreement {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        for edge in &world.edges {
            let (version, digest) = (edge.rings.version(), edge.rings.digest());
            if version != edge.view.ring_version() {
                return Err(format!("{} has ring {version} of view {}", edge.name, edge.view.version()));
            }
            let known = *self.0.entry(version).or_insert(digest);
            if known != digest {
                return Err(format!("ring {version} is {known}, and {digest} on {}", edge.name));
            }
        }
        Ok(())
    }
}
