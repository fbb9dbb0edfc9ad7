//! Who is at the other end of a socket, and whom it speaks for.

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

use evergate_domain::ClientAddress;
use http::HeaderMap;
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpStream;
use tokio::time::sleep;

use crate::config::{Proxies, ProxyProtocol};
use crate::http::forwarded;
use crate::http::proxy_header::{self, Begins};

/// The other end of a connection.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Peer {
    socket: IpAddr,
    /// Whom a trusted proxy named at the beginning.
    told: Option<IpAddr>,
}

/// Why a connection is closed before anything is asked.
#[derive(Debug, thiserror::Error)]
pub(crate) enum NotAdmitted {
    /// Somebody who is not trusted claims to speak for another.
    #[error("a PROXY header from {0}, which is no trusted proxy")]
    Untrusted(IpAddr),
    /// There has to be a header, and there is none.
    #[error("no PROXY header from {0}")]
    Missing(IpAddr),
    /// The header is wrong.
    #[error("a malformed PROXY header from {0}: {1}")]
    Malformed(IpAddr, &'static str),
    /// The connection broke.
    #[error(transparent)]
    Gone(#[from] io::Error),
}

impl NotAdmitted {
    /// A word for the metrics.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Self::Untrusted(_) => "proxy-untrusted",
            Self::Missing(_) => "proxy-missing",
            Self::Malformed(..) => "proxy-malformed",
            Self::Gone(_) => "gone",
        }
    }
}

impl Proxies {
    /// Reads the PROXY header of a connection, where there may be one, and nothing beyond it.
    pub(crate) async fn admit(&self, stream: &mut TcpStream, from: SocketAddr) -> Result<Peer, NotAdmitted> {
        let socket = from.ip().to_canonical();
        let peer = Peer { socket, told: None };
        let required = match self.protocol {
            ProxyProtocol::Off => return Ok(peer),
            ProxyProtocol::Accept => false,
            ProxyProtocol::Require => true,
        };
        let trusted = self.trusted.iter().any(|network| network.contains(socket));
        let mut seen = vec![0; proxy_header::BYTES_MAX];
        loop {
            let n = stream.peek(&mut seen).await?;
            match proxy_header::judge(&seen[..n]) {
                Begins::With { .. } | Begins::Wrong(_) if !trusted => {
                    return Err(NotAdmitted::Untrusted(socket));
                }
                Begins::With { bytes, source } => {
                    stream.read_exact(&mut seen[..bytes]).await?;
                    return Ok(Peer { socket, told: source });
                }
                Begins::Wrong(what) => return Err(NotAdmitted::Malformed(socket, what)),
                Begins::Without if required => return Err(NotAdmitted::Missing(socket)),
                Begins::Without => return Ok(peer),
                Begins::Unfinished if n == 0 => {
                    return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
                }
                // The rest is on its way. Peeking again at once would spin, as the socket stays readable.
                Begins::Unfinished => sleep(Duration::from_millis(5)).await,
            }
        }
    }

    /// The client behind a request.
    pub(crate) fn client(&self, peer: Peer, headers: &HeaderMap) -> ClientAddress {
        let noted = if self.trusted.is_empty() { Vec::new() } else { forwarded::hops(headers, self.header) };
        let hops = peer.told.map(Some).into_iter().chain(noted);
        ClientAddress::resolve(&self.trusted, peer.socket, hops)
    }
}

impl From<SocketAddr> for Peer {
    fn from(address: SocketAddr) -> Self {
        Self { socket: address.ip(), told: None }
    }
}
