//! The configuration: one table of settings, three sources, one proof.
//!
//! ```text
//!   defaults ◄── file ◄── environment ◄── flags      each source is a layer of written values
//!      └────────────────┬────────────────────┘
//!                    one stack ── rules ──► Config, or every mistake with its place
//! ```
//!
//! What was written (`layer`) and what was proven (`proven`) are two types: nothing outside this
//! module ever sees a value that has not been checked.

mod kind;
mod near;
mod quantity;
mod registry;
mod value;

mod environment;
mod file;
mod flags;
mod layer;
mod mistake;
mod rules;

mod proven;
mod reference;

#[cfg(test)]
mod tests;

pub(crate) use environment::CONFIG_VARIABLE;
pub(crate) use file::FileSource;
pub(crate) use flags::FlagSource;
pub(crate) use mistake::Mistakes;
pub(crate) use proven::{
    Access, Clients, Config, Defaults, LogFormat, LogOutput, Rates, Resumption, Shutdown, Sources, Telemetry,
    Tls,
};
pub(crate) use reference::reference;
pub(crate) use registry::{SETTINGS, Setting};
pub(crate) use value::{CorsOrigins, KeysAt, LogChoice, Peer};
