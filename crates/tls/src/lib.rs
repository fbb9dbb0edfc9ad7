//! TLS, once for every listener and every link: who proves to be whom, by which files, and what becomes
//! of a running process when these files change.
//!
//! A [`Server`] accepts and a [`Client`] connects; both are made of files, and made anew when those
//! change, without touching a connection that is open. What a peer proved to be is an [`Identity`].
//! A connection that is taken from its task goes on as a [`Session`], which knows no runtime.
//!
//! What is spoken inside a connection is not known here.

mod authority;
mod certificate;
mod error;
mod files;
mod identity;

mod server;
mod session;
mod sni;
mod tickets;

mod client;
mod connector;

pub use authority::Authority;
pub use certificate::{CertificateFiles, Expiry};
pub use client::{Client, ClientSettings, Connected, Roots};
pub use connector::{ConnectError, Connector};
pub use error::{HandshakeError, LoadError};
pub use files::Refreshed;
pub use identity::Identity;
pub use server::{Accepted, ClientCertificates, Protocol, Resumption, Server, ServerSettings, Version};
pub use session::{Heard, Session, Wrote};

/// A connection that was made, after its handshake.
pub use tokio_rustls::client::TlsStream as ClientStream;
/// An accepted connection after its handshake.
pub use tokio_rustls::server::TlsStream as ServerStream;
