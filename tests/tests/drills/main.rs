//! Drills: a fault under load, measured, with the ledger as the judge.
//!
//! With `cargo test` they are small and ask only whether anything was lost; the figures of
//! `docs/benchmarks.md` come from a release build on an idle machine, with the command that each drill
//! names.

mod crowd;
mod figures;
mod storm;
