//! A cluster of real processes on one machine: control nodes, edges with a log in common, subscribers,
//! publishers; and what becomes of it when some of them die.
#![allow(missing_docs, reason = "a test")]

mod audience;
mod places;
mod scene;
mod strangers;

mod away;
mod balancers;
mod commands;
mod deaths;
mod drains;
mod geography;
mod kept;
mod levels;
mod members;
mod partitions;
mod rebalance;
mod role;
mod upkeep;
