//! What can be asked of a cluster.

use std::path::PathBuf;

use clap::{Args, Subcommand, ValueEnum};
use evergate_domain::cluster::NodeAddress;
use evergate_domain::{NodeName, RegionName};

use super::limit::LimitChange;
use super::policy::PolicyChange;
use super::upstream::UpstreamArgs;
use crate::dial::TlsArgs;

/// Look at a cluster, and have it changed
#[derive(Debug, Clone, Args)]
pub(crate) struct ClusterArgs {
    /// A control node, any of them
    #[arg(long, global = true, value_name = "URL", default_value = "http://127.0.0.1:8083")]
    pub(super) server: String,
    /// A file with the operators' token
    #[arg(long, global = true, value_name = "FILE")]
    pub(super) token_file: Option<PathBuf>,
    /// How to print
    #[arg(long, global = true, value_name = "FORMAT", value_enum, default_value = "table")]
    pub(super) output: OutputFormat,
    /// Do not ask
    #[arg(long, short, global = true)]
    pub(super) yes: bool,
    #[command(flatten)]
    pub(super) tls: TlsArgs,
    #[command(subcommand)]
    pub(super) asked: Asked,
}

/// How answers are printed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, ValueEnum)]
pub(crate) enum OutputFormat {
    /// For people
    Table,
    /// For programs
    Json,
}

#[derive(Debug, Clone, Subcommand)]
pub(super) enum Asked {
    /// The cluster in a few lines: leader, versions, digests, what is amiss
    Status,
    /// All nodes
    Nodes,
    /// The rings, with the share of each edge
    Ring,
    /// Send a node's clients elsewhere, when its turn comes
    Drain {
        node: NodeName,
        /// Even if its region has no other edge that takes clients
        #[arg(long)]
        force: bool,
    },
    /// Let a node have clients again, or take back the wish to drain it
    Undrain { node: NodeName },
    /// Send the clients of a region that are at other edges than theirs where they belong, a few at a time
    Rebalance {
        region: RegionName,
        /// Let those who have not gone yet stay where they are
        #[arg(long)]
        cancel: bool,
    },
    /// Remove a lost node that will not come back
    Forget { node: NodeName },
    /// What holds for streams and for the cluster; and change it
    Policy {
        #[command(subcommand)]
        change: Option<PolicyChange>,
    },
    /// The rates that hold at every edge; and change them
    Limit {
        #[command(subcommand)]
        change: Option<LimitChange>,
    },
    /// The control nodes themselves; and change them
    Members {
        #[command(subcommand)]
        change: Option<MemberChange>,
    },
    /// The regions; and change them
    Regions {
        #[command(subcommand)]
        change: Option<RegionChange>,
    },
    /// Write the edges of a region down for a balancer
    Upstream(UpstreamArgs),
    /// Write down all that is agreed on, as JSON, whatever --output says
    Snapshot,
    /// What every node has to understand; and raise it, once all are up to date
    Format {
        /// To this; older programs are refused from then on
        raise: Option<u32>,
    },
    /// Who changed what, the newest first
    Audit {
        /// At most so many; 0 is all
        #[arg(long, default_value = "50")]
        max: u32,
    },
    /// Print every change as it is agreed on
    Watch,
}

/// A change of the control nodes. A node is replaced by adding one, giving it a vote, and removing the other.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum MemberChange {
    /// Have a node follow, which is up with an empty folder; it has no vote yet
    Add { id: u64, address: NodeAddress },
    /// Give a vote to a node that follows and has caught up
    Promote { id: u64 },
    /// Take the vote from a node
    Demote { id: u64 },
    /// Have a node be no part any more; its number is never used again
    Remove { id: u64 },
}

/// A change of the regions. They come by themselves with their first node.
#[derive(Debug, Clone, Subcommand)]
pub(super) enum RegionChange {
    /// Say by which name clients find a region from outside; without one they are told none
    Set {
        region: RegionName,
        #[arg(long, value_name = "HOST")]
        host: Option<String>,
    },
    /// Remove a region that has no nodes
    Remove { region: RegionName },
}
