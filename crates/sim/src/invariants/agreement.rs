//! No two views disagree at one version, on whatever node, at whatever time; and no version is taken back.

use std::collections::BTreeMap;

use evergate_domain::cluster::{Digest, View};

use crate::world::World;

#[derive(Default)]
pub(crate) struct Agreement {
    digests: BTreeMap<u64, Digest>,
    /// Of each control node, then of each edge, as they were last looked at.
    versions: Vec<u64>,
}

impl Agreement {
    pub(crate) fn check(&mut self, world: &World) -> Result<(), String> {
        let controls = world.controls.iter().map(|control| control.state.view());
        let edges = world.edges.iter().map(|edge| &edge.view);
        let parties = world.controls.len() + world.edges.len();
        self.versions.resize(parties, 0);
        for (party, view) in controls.chain(edges).enumerate() {
            let (before, now) = (self.versions[party], view.version());
            self.versions[party] = now;
            // An edge that is started anew begins with nothing; a control node has its disk.
            if now < before && party < world.controls.len() {
                return Err(format!("control node {party} went from {before} to {now}"));
            }
            if now != before {
                self.note(view)?;
            }
        }
        Ok(())
    }

    fn note(&mut self, view: &View) -> Result<(), String> {
        let digest = view.digest();
        let known = *self.digests.entry(view.version()).or_insert(digest);
        if known == digest {
            Ok(())
        } else {
            Err(format!("version {} is {known} and {digest}", view.version()))
        }
    }
}
