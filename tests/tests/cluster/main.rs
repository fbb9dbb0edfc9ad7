//! A cluster of real processes on one machine: control nodes, edges with a log in common, subscribers,
//! publishers; and what becomes of it when some of them die.
#![allow(missing_docs, reason = "a test")]

mod audience;
mod onlooker;
mod places;
mod scene;
mod strangers;

mod away;
mod balancers;
mod commands;
mod deaths;
mod drains;
mod faults;
mod geography;
mod kept;
mod levels;
mod limits;
mod members;
mod nearness;
mod partitions;
mod rebalance;
mod retries;
mod rings;
mod role;
mod upkeep;
