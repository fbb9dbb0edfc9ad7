//! The `evergate` binary.
mod config;
fn main() { print!("{}", config::reference()); }
