//! The accepting side.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use ring::digest::{SHA256, digest};
use rustls::crypto::CryptoProvider;
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, ServerSessionMemoryCache, WebPkiClientVerifier};
use rustls::{HandshakeKind, RootCertStore, ServerConfig, SupportedProtocolVersion, version};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::{Instant, timeout_at};

use crate::certificate::{self, CertificateFiles, Expiry};
use crate::early::Early;
use crate::error::{HandshakeError, LoadError};
use crate::files::{FromFiles, Refreshed};
use crate::identity::Identity;
use crate::sni::ByName;
use crate::stream::ServerStream;
use crate::tickets::{Secrets, Tickets};

/// What a server is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ServerSettings {
    /// What it proves to be; the first is shown to whoever asks for no name that another has.
    pub certificates: Vec<CertificateFiles>,
    /// What its clients have to prove.
    pub clients: ClientCertificates,
    /// How clients that come again are known.
    pub resumption: Resumption,
    /// The oldest version that is spoken.
    pub oldest: Version,
    /// What may be spoken inside, the preferred first.
    pub protocols: Vec<Protocol>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

/// What the clients of a server have to prove.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum ClientCertificates {
    /// Nothing; they are not asked.
    None,
    /// Who shows a certificate has to have it from a root in one of these files.
    Optional(Vec<PathBuf>),
    /// Everybody has to show one.
    Required(Vec<PathBuf>),
}

/// How clients that come again are spared the full handshake.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Resumption {
    /// By tickets that they keep. With a file of secrets that all edges have, at any of them; without,
    /// only at this process.
    Tickets(Option<PathBuf>),
    /// By sessions that this process keeps. Each is taken up once, so that what was recorded of a client's
    /// first words finds none when it is sent again; after a change of the files there are none.
    Sessions {
        /// How many at the most; the oldest is dropped first.
        max: usize,
        /// How much a client that comes again may say before its handshake is over; 0 for nothing.
        early_data_bytes_max: u32,
    },
    /// Not at all.
    None,
}

/// A version of TLS.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Version {
    /// 1.2, with forward secrecy and authenticated encryption only.
    Tls12,
    /// 1.3.
    Tls13,
}

/// What is spoken inside a connection.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Protocol {
    /// HTTP/1.1; also of those who name nothing.
    Http1,
    /// HTTP/2.
    Http2,
}

/// A connection that was accepted.
#[derive(Debug)]
pub struct Accepted<S> {
    /// What the two say to each other.
    pub stream: ServerStream<S>,
    /// What they agreed to speak.
    pub protocol: Protocol,
    /// Who the client proved to be, where it did.
    pub identity: Option<Identity>,
    /// Whether it was known from before, and spared the full handshake.
    pub resumed: bool,
    /// Whether its handshake is still to be ended by the client, which is heard already; `None` where it is
    /// done. Whoever serves it cuts it when it is [`overdue`](Early::overdue).
    pub early: Option<Early>,
}

/// Accepts TLS. Cheap to clone; all clones are renewed together.
#[derive(Clone)]
pub struct Server(Arc<Inner>);

struct Inner {
    loaded: FromFiles<Loaded>,
    handshake_timeout: Duration,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ServerConfig>,
    expiries: Vec<Expiry>,
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Server").field("expiries", &self.expiries()).finish_non_exhaustive()
    }
}

impl Server {
    /// Reads all files once; what is wrong with any of them is said.
    pub fn load(settings: ServerSettings) -> Result<Self, LoadError> {
        let handshake_timeout = settings.handshake_timeout;
        // For as long as this process lives: a renewed certificate ends nobody's session.
        let own_secrets = Secrets::random()?;
        let files = files(&settings);
        let loaded = FromFiles::load(files, move || configure(&settings, &own_secrets))?;
        Ok(Self(Arc::new(Inner { loaded, handshake_timeout })))
    }

    /// Until when each of its certificates proves anything.
    #[must_use]
    pub fn expiries(&self) -> Vec<Expiry> {
        self.0.loaded.current().expiries.clone()
    }

    /// Looks whether a file has changed, and reads them all anew then. Connections that are open go on
    /// as they are.
    pub fn refresh(&self) -> Refreshed {
        self.0.loaded.refresh()
    }

    /// Shakes hands over a socket, within the time that there is for it; with a client that sends early
    /// data, as far as is needed to hear and answer it. Dropped in the middle, the connection is lost.
    pub async fn accept<S>(&self, socket: S) -> Result<Accepted<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let config = Arc::clone(&self.0.loaded.current().config);
        let within = self.0.handshake_timeout;
        let due = Instant::now() + within;
        let accepted = timeout_at(due, ServerStream::accept(config, socket, due)).await;
        let stream = accepted.map_err(|_| HandshakeError::TooSlow(within))??;
        let connection = stream.connection();
        let protocol = Protocol::agreed(connection.alpn_protocol());
        let shown = connection.peer_certificates().and_then(<[_]>::first);
        let identity = shown.and_then(|shown| Identity::read(shown).ok());
        // The chain was checked when the session began, which may be a while ago.
        if identity.as_ref().is_some_and(|identity| identity.has_expired(SystemTime::now())) {
            return Err(HandshakeError::Expired);
        }
        let resumed = connection.handshake_kind() == Some(HandshakeKind::Resumed);
        let early = stream.early().cloned();
        Ok(Accepted { stream, protocol, identity, resumed, early })
    }
}

impl Protocol {
    pub(crate) fn name(self) -> Vec<u8> {
        match self {
            Self::Http1 => b"http/1.1".to_vec(),
            Self::Http2 => b"h2".to_vec(),
        }
    }

    pub(crate) fn agreed(name: Option<&[u8]>) -> Self {
        if name == Some(b"h2") { Self::Http2 } else { Self::Http1 }
    }
}

impl ClientCertificates {
    fn roots(&self) -> Option<&[PathBuf]> {
        match self {
            Self::None => None,
            Self::Optional(roots) | Self::Required(roots) => Some(roots),
        }
    }
}

/// The cryptography of all connections.
pub(crate) fn provider() -> Arc<CryptoProvider> {
    Arc::new(rustls::crypto::ring::default_provider())
}

pub(crate) fn versions(oldest: Version) -> &'static [&'static SupportedProtocolVersion] {
    static BOTH: &[&SupportedProtocolVersion] = &[&version::TLS13, &version::TLS12];
    match oldest {
        Version::Tls12 => BOTH,
        Version::Tls13 => &BOTH[..1],
    }
}

fn files(settings: &ServerSettings) -> Vec<PathBuf> {
    let mut files: Vec<_> = settings.certificates.iter().flat_map(CertificateFiles::files).collect();
    files.extend(settings.clients.roots().into_iter().flatten().cloned());
    if let Resumption::Tickets(Some(secrets)) = &settings.resumption {
        files.push(secrets.clone());
    }
    files
}

fn configure(settings: &ServerSettings, own_secrets: &Secrets) -> Result<Loaded, LoadError> {
    let certified: Vec<_> =
        settings.certificates.iter().map(CertificateFiles::load).collect::<Result<_, _>>()?;
    let expiries = settings.certificates.iter().zip(&certified);
    let expiries = expiries.map(|(files, certified)| files.expiry(certified)).collect::<Result<_, _>>()?;
    let certificates = ByName::new(&certified).ok_or(LoadError::NoCertificate)?;
    let roots = settings.clients.roots().map(certificate::roots).transpose()?;
    let terms = terms(settings, roots.as_ref());
    let builder = ServerConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(settings.oldest))
        .map_err(|error| LoadError::Impossible(error.to_string()))?;
    let builder = match roots {
        None => builder.with_no_client_auth(),
        Some(roots) => builder.with_client_cert_verifier(verifier(&settings.clients, roots)?),
    };
    let mut config = builder.with_cert_resolver(Arc::new(certificates));
    config.alpn_protocols = settings.protocols.iter().map(|protocol| protocol.name()).collect();
    match &settings.resumption {
        Resumption::Tickets(shared) => {
            let secrets =
                shared.as_ref().map_or_else(|| Ok(own_secrets.clone()), |path| Secrets::load(path))?;
            config.ticketer = Arc::new(Tickets::new(secrets, terms));
            config.session_storage = Arc::new(NoServerSessionStorage {});
        }
        Resumption::Sessions { max, early_data_bytes_max } => {
            config.session_storage = ServerSessionMemoryCache::new(*max);
            config.max_early_data_size = *early_data_bytes_max;
            // What is said early is answered before the client can have ended its handshake.
            config.send_half_rtt_data = *early_data_bytes_max > 0;
        }
        Resumption::None => {
            config.session_storage = Arc::new(NoServerSessionStorage {});
            config.send_tls13_tickets = 0;
        }
    }
    Ok(Loaded { config: Arc::new(config), expiries })
}

fn verifier(
    clients: &ClientCertificates,
    roots: RootCertStore,
) -> Result<Arc<dyn ClientCertVerifier>, LoadError> {
    let builder = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider());
    let builder = match clients {
        ClientCertificates::Optional(_) => builder.allow_unauthenticated(),
        ClientCertificates::Required(_) | ClientCertificates::None => builder,
    };
    builder.build().map_err(|error| LoadError::Impossible(error.to_string()))
}

/// What a server asks of its clients and speaks with them, so that its tickets are of no use at
/// another that asks for more.
fn terms(settings: &ServerSettings, roots: Option<&RootCertStore>) -> Vec<u8> {
    let clients = match settings.clients {
        ClientCertificates::None => "none",
        ClientCertificates::Optional(_) => "optional",
        ClientCertificates::Required(_) => "required",
    };
    let mut terms = format!("{:?} {clients} ", settings.protocols).into_bytes();
    for root in roots.iter().flat_map(|roots| &roots.roots) {
        for part in [&root.subject, &root.subject_public_key_info] {
            terms.extend_from_slice(digest(&SHA256, part).as_ref());
        }
    }
    terms
}
