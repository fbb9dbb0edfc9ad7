//! The whole gateway over a real Redis: several processes on one server, a server that dies and comes
//! back, and one that has forgotten everything. The ledger judges.

mod cluster;
mod forgotten;
mod hard_times;
mod leaving;
mod levels;
mod mistakes;
mod others;
mod places;
mod refusals;
mod restarts;
mod sentinel;
mod two_gateways;
mod two_streams;
mod ways;
mod work;
