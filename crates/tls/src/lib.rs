//! TLS, once for every listener and every link: who proves to be whom, by which files, and what becomes
//! of a running process when these files change.
//!
//! A [`Server`] accepts and a [`Client`] connects; both are made of files, and made anew when those
//! change, without touching a connection that is open. What a peer proved to be is an [`Identity`].
//! An accepted connection is a [`ServerStream`], which may be used before its handshake is over ([`Early`]);
//! taken from its task it goes on as a [`Session`], which knows no runtime.
//!
//! What is spoken inside a connection is not known here.

mod authority;
mod certificate;
mod error;
mod files;
mod identity;

mod early;
mod server;
mod session;
mod sni;
mod stream;
mod tickets;

mod client;
mod connector;

pub use authority::Authority;
pub use certificate::{CertificateFiles, Expiry};
pub use client::{Client, ClientSettings, Connected, Roots};
pub use connector::{ConnectError, Connector};
pub use early::Early;
pub use error::{HandshakeError, LoadError};
pub use files::Refreshed;
pub use identity::Identity;
pub use server::{Accepted, ClientCertificates, Protocol, Resumption, Server, ServerSettings, Version};
pub use session::{Heard, Session, Wrote};
pub use stream::ServerStream;

/// A connection that was made, after its handshake.
pub use tokio_rustls::client::TlsStream as ClientStream;
