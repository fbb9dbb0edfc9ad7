//! Nodes and regions.

use evergate_domain::cluster::{Addresses, Lease, Node, NodeAddress, Region, Role, Weight};
use evergate_domain::{NodeName, RegionName, ZoneName};
use evergate_proto::control::v1 as proto;

use super::{DecodeError, checked, text_or_none};

/// A node as a message.
#[must_use]
pub fn encode_node(node: &Node) -> proto::Node {
    let address =
        |address: &Option<NodeAddress>| address.as_ref().map(NodeAddress::to_string).unwrap_or_default();
    let role = match node.role {
        Role::Edge => proto::Role::Edge,
        Role::Relay => proto::Role::Relay,
        Role::Control => proto::Role::Control,
    };
    proto::Node {
        name: node.name.to_string(),
        role: role.into(),
        http: address(&node.addresses.http),
        grpc: address(&node.addresses.grpc),
        admin: address(&node.addresses.admin),
        region: node.region.to_string(),
        zone: node.zone.to_string(),
        capacity: node.capacity,
        admits_per_second: node.admits_per_second,
        weight: node.weight.get().into(),
        version: node.version.clone(),
        format: node.format,
        incarnation: node.incarnation,
        held: node.lease == Lease::Held,
        draining: node.draining,
    }
}

/// A node of a message.
pub fn decode_node(node: &proto::Node) -> Result<Node, DecodeError> {
    let address = |what, text: &str| -> Result<Option<NodeAddress>, DecodeError> {
        text_or_none(text).map(|text| checked(what, text.parse())).transpose()
    };
    let role = match node.role() {
        proto::Role::Unspecified => return Err(DecodeError::absent("role")),
        proto::Role::Edge => Role::Edge,
        proto::Role::Relay => Role::Relay,
        proto::Role::Control => Role::Control,
    };
    Ok(Node {
        name: checked("node", NodeName::new(&node.name))?,
        role,
        addresses: Addresses {
            http: address("http", &node.http)?,
            grpc: address("grpc", &node.grpc)?,
            admin: address("admin", &node.admin)?,
        },
        region: checked("region", RegionName::new(&node.region))?,
        zone: checked("zone", ZoneName::new(&node.zone))?,
        capacity: node.capacity,
        admits_per_second: node.admits_per_second,
        weight: checked("weight", Weight::new(node.weight))?,
        version: node.version.clone(),
        format: node.format,
        incarnation: node.incarnation,
        lease: if node.held { Lease::Held } else { Lease::Lost },
        draining: node.draining,
    })
}

pub(super) fn encode_region(region: &Region) -> proto::Region {
    proto::Region {
        name: region.name.to_string(),
        public_host: region.public_host.clone().unwrap_or_default(),
        zones: region.zones.iter().map(ZoneName::to_string).collect(),
    }
}

pub(super) fn decode_region(region: &proto::Region) -> Result<Region, DecodeError> {
    Ok(Region {
        name: checked("region", RegionName::new(&region.name))?,
        public_host: text_or_none(&region.public_host).map(str::to_owned),
        zones: region
            .zones
            .iter()
            .map(|zone| checked("zone", ZoneName::new(zone)))
            .collect::<Result<_, _>>()?,
    })
}
