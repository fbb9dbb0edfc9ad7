//! Who belongs to a cluster, and where.

use std::collections::BTreeSet;

use crate::cluster::digest::Digester;
use crate::cluster::{Addresses, Weight};
use crate::{NodeName, RegionName, ZoneName};

/// What a node does.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Role {
    /// Serves subscribers and publishers.
    Edge,
    /// Copies streams between regions.
    Relay,
    /// Has a vote, or watches those that have.
    Control,
}

/// Whether a node is there, as those who hold its lease have judged. Nobody here reads a clock.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Lease {
    /// It is.
    Held,
    /// It is not, or has been back for too short a time.
    Lost,
}

/// A process of the cluster.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Node {
    /// Its name; no two have the same.
    pub name: NodeName,
    /// What it does.
    pub role: Role,
    /// Where it can be reached.
    pub addresses: Addresses,
    /// Where it stands.
    pub region: RegionName,
    /// Where in the region, as far as anything fails by parts.
    pub zone: ZoneName,
    /// Event streams that it can have open at once.
    pub capacity: u32,
    /// Clients that it can let in each second.
    pub admits_per_second: u32,
    /// Its share of the ring.
    pub weight: Weight,
    /// What it runs, for people: `0.1.0`.
    pub version: String,
    /// What it understands of what the cluster agrees on; see [`crate::cluster::View::format`].
    pub format: u32,
    /// Which run of the process this is. A later one has a higher number, so that an earlier one that
    /// lives on under the same name can be told from it.
    pub incarnation: u64,
    /// Whether it is there.
    pub lease: Lease,
    /// Whether its clients are being sent elsewhere. It gets no new ones.
    pub draining: bool,
}

/// A region, and its parts.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Region {
    /// Its name.
    pub name: RegionName,
    /// Where clients that may be sent to the region find it: a name, never a node's.
    pub public_host: Option<String>,
    /// Its zones.
    pub zones: BTreeSet<ZoneName>,
}

impl Role {
    /// In one word, the same everywhere.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Edge => "edge",
            Self::Relay => "relay",
            Self::Control => "control",
        }
    }
}

impl Node {
    /// Whether clients are placed on it.
    #[must_use]
    pub fn takes_clients(&self) -> bool {
        let is_edge = match self.role {
            Role::Edge => true,
            Role::Relay | Role::Control => false,
        };
        is_edge && self.lease == Lease::Held && !self.draining
    }

    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.text(self.name.as_str());
        digester.text(self.role.as_str());
        for address in [&self.addresses.http, &self.addresses.grpc, &self.addresses.admin] {
            digester.optional(address.as_ref(), |digester, address| digester.text(address.as_str()));
        }
        digester.text(self.region.as_str());
        digester.text(self.zone.as_str());
        digester.number(self.capacity);
        digester.number(self.admits_per_second);
        digester.number(self.weight.get());
        digester.text(&self.version);
        digester.number(self.format);
        digester.number(self.incarnation);
        digester.number(u8::from(self.lease == Lease::Held));
        digester.number(u8::from(self.draining));
    }
}

impl Region {
    pub(super) fn feed(&self, digester: &mut Digester) {
        digester.text(self.name.as_str());
        digester.optional(self.public_host.as_deref(), Digester::text);
        digester.number(self.zones.len() as u64);
        for zone in &self.zones {
            digester.text(zone.as_str());
        }
    }
}
