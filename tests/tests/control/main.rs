//! The control group as real processes on one machine: killed, stopped, cut off, filled up, replaced.
//!
//! Every test has the same judge, the [`ledger`](cluster::Cluster::judge): what was acknowledged is there,
//! once and in its place, on every node; what was refused is nowhere; and no two nodes ever had another
//! history. How long an election takes is told and never judged.

mod batches;
mod cluster;
mod node;

mod disks;
mod founding;
mod kills;
mod members;
mod partitions;
mod role;
