//! Drills: a fault under load, measured, with the ledger as the judge.
//!
//! With `cargo test` they are smaller and the ledger is what counts; the figures of
//! `docs/benchmarks.md` come from a release build on an idle machine, with the command that each drill
//! names.

mod crowd;
mod figures;
mod storm;
