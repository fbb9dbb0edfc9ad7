//! What all nodes of a cluster agree on, and the rules that follow from it.
//!
//! ```text
//!   Change ─▶ View ──────────▶ Ring ─────────▶ owner and alternatives of a client's address
//!   (delta)   version, digest   (of a region)      ▲
//!                                    Load ─────────┘ whom a bounded load passes over
//!                                     └────────────▶ spread: how long clients are asked to wait
//!
//!   Command ─▶ State ─▶ Change        what a cluster agrees on: judged, numbered, and remembered
//! ```
//! Everything here is a function of what is handed in: two nodes that hold the same view hold the same
//! ring, bit for bit, and can say so by a digest.

mod address;
mod audit;
mod balancer;
mod command;
mod digest;
mod geography;
mod lease;
mod limit_name;
mod load;
mod node;
mod pace;
mod policy;
mod refusal;
mod ring;
mod route;
mod settings;
mod slot;
mod spread;
mod state;
mod unbalanced;
mod view;
mod weight;

#[cfg(any(test, feature = "testing"))]
pub mod testing;

pub use address::{Addresses, NodeAddress, NodeAddressError};
pub use audit::{AUDIT_MAX, Audit, AuditEntry};
pub use balancer::{BalancerError, envoy_endpoints, nginx_upstream};
pub use command::{Command, Proposal};
pub use digest::Digest;
pub use geography::{Geography, GeographyError, GeographyRule, Located, PlaceCode, Whereabouts};
pub use lease::{LeaseTable, beat_ms};
pub use limit_name::{LimitName, LimitNameError};
pub use load::{Load, LoadBound};
pub use node::{Lease, Node, Region, Role};
pub use pace::Pace;
pub use policy::{AfterDegradation, Breaker, Canary, CanaryState, Limit, StreamPolicy};
pub use refusal::{Refusal, RefusalKind};
pub use ring::{Placed, PlacementKey, Ring};
pub use route::{Rings, Route};
pub use settings::{ClusterSettings, SettingError};
pub use slot::{EpochSpan, SLOTS, Slot, SlotError, SlotNumber};
pub use spread::Spread;
pub use state::{NODES_MAX, Outcome, POLICIES_MAX, REGIONS_MAX, State, ZONES_MAX};
pub use unbalanced::Unbalanced;
pub use view::{Change, Delta, DeltaError, Drain, FORMAT, FORMAT_OLDEST, Rebalance, View};
pub use weight::{Weight, WeightError};
