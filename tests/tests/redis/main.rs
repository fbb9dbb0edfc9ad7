//! The whole gateway over a real Redis: several processes on one server, a server that dies and comes
//! back, and one that has forgotten everything. The ledger judges.

mod forgotten;
mod places;
mod restarts;
mod storm;
mod two_gateways;
mod work;
