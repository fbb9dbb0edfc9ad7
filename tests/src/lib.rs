//! The harness of the black-box tests. It starts the real binary and speaks to it as strangers do:
//! over sockets, with its own strict parsers, sharing no code with what it judges but the generated
//! gRPC types. A mistake of the server is a panic here, with everything needed to see it.

pub mod cable;
pub mod clock;
pub mod controls;
pub mod mmdb;
pub mod namespace;
pub mod network;
pub mod process;
pub mod program;
pub mod proxy;
pub mod redis;
pub mod tiny_disk;

pub mod authority;
pub mod collector;
pub mod early;

pub mod gunzip;
pub mod http1;
pub mod http2;
pub mod tls;

pub mod event_source;
pub mod frame;
pub mod subscription;

pub mod publisher;

pub mod audience;
pub mod issuer;
pub mod key_server;
pub mod ledger;
pub mod offset;
pub mod signer;

pub mod clients;
pub mod figures;
pub mod left_out;
pub mod mutator;
pub mod size;

use std::time::Duration;

/// How long a test waits for something that should come at once. Generous, because the machine may
/// be busy with other tests; a healthy run never waits this long.
pub const PATIENCE: Duration = Duration::from_secs(20);
