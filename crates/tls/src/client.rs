//! The connecting side.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use rustls::pki_types::ServerName;
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::{self, CertificateFiles, Expiry};
use crate::error::{HandshakeError, LoadError};
use crate::files::{FromFiles, Refreshed};
use crate::identity::Identity;
use crate::server::{Protocol, Version, provider, versions};

/// What a client is told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ClientSettings {
    /// Whom it believes.
    pub roots: Roots,
    /// What it proves to be, if it is asked.
    pub identity: Option<CertificateFiles>,
    /// What it wants to speak inside, the preferred first.
    pub protocols: Vec<Protocol>,
    /// How long a handshake may take.
    pub handshake_timeout: Duration,
}

/// By which roots a client judges servers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Roots {
    /// Those of the system.
    System,
    /// Only those of a file, PEM.
    File(PathBuf),
    /// Those of the system, if it has any, and those of a file, PEM.
    SystemAnd(PathBuf),
}

/// A connection whose handshake is done.
#[derive(Debug)]
pub struct Connected<S> {
    /// What the two say to each other.
    pub stream: TlsStream<S>,
    /// What they agreed to speak.
    pub protocol: Protocol,
    /// Who the server proved to be.
    pub identity: Option<Identity>,
}

/// Connects by TLS. Cheap to clone; all clones are renewed together.
#[derive(Clone)]
pub struct Client(Arc<Inner>);

struct Inner {
    loaded: FromFiles<Loaded>,
    handshake_timeout: Duration,
}

/// What was made of the files.
struct Loaded {
    config: Arc<ClientConfig>,
    expiry: Option<Expiry>,
}

impl fmt::Debug for Client {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Client").field("expiry", &self.expiry()).finish_non_exhaustive()
    }
}

impl Client {
    /// Reads all files once; what is wrong with any of them is said.
    pub fn load(settings: ClientSettings) -> Result<Self, LoadError> {
        let handshake_timeout = settings.handshake_timeout;
        let files = files(&settings);
        let loaded = FromFiles::load(files, move || configure(&settings))?;
        Ok(Self(Arc::new(Inner { loaded, handshake_timeout })))
    }

    /// Until when the certificate by which it proves itself does so.
    #[must_use]
    pub fn expiry(&self) -> Option<Expiry> {
        self.0.loaded.current().expiry.clone()
    }

    /// Looks whether a file has changed, and reads them all anew then.
    pub fn refresh(&self) -> Refreshed {
        self.0.loaded.refresh()
    }

    /// Shakes hands over a socket with a server that has to prove to be `host`, a name or an address.
    pub async fn connect<S>(&self, host: &str, socket: S) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_| HandshakeError::Name(host.to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(&self.0.loaded.current().config));
        let within = self.0.handshake_timeout;
        let stream = timeout(within, connector.connect(name, socket))
            .await
            .map_err(|_| HandshakeError::TooSlow(within))??;
        let (_, connection) = stream.get_ref();
        let protocol = Protocol::agreed(connection.alpn_protocol());
        let identity = connection
            .peer_certificates()
            .and_then(<[_]>::first)
            .and_then(|shown| Identity::read(shown).ok());
        Ok(Connected { stream, protocol, identity })
    }
}

fn files(settings: &ClientSettings) -> Vec<PathBuf> {
    let mut files: Vec<_> = settings.identity.iter().flat_map(CertificateFiles::files).collect();
    match &settings.roots {
        Roots::System => {}
        Roots::File(path) | Roots::SystemAnd(path) => files.push(path.clone()),
    }
    files
}

fn configure(settings: &ClientSettings) -> Result<Loaded, LoadError> {
    let roots = match &settings.roots {
        Roots::File(path) => certificate::roots(std::slice::from_ref(path))?,
        Roots::System => {
            let roots = system_roots();
            if roots.is_empty() {
                return Err(LoadError::NoRoots);
            }
            roots
        }
        Roots::SystemAnd(path) => {
            let mut roots = system_roots();
            roots.extend(certificate::roots(std::slice::from_ref(path))?.roots);
            roots
        }
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(Version::Tls12))
        .map_err(|error| LoadError::Impossible(error.to_string()))?
        .with_root_certificates(roots);
    let (mut config, expiry) = match &settings.identity {
        None => (builder.with_no_client_auth(), None),
        Some(identity) => {
            let certified: Arc<CertifiedKey> = identity.load()?;
            let expiry = identity.expiry(&certified)?;
            (builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified))), Some(expiry))
        }
    };
    config.alpn_protocols = settings.protocols.iter().map(|protocol| protocol.name()).collect();
    Ok(Loaded { config: Arc::new(config), expiry })
}

fn system_roots() -> RootCertStore {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    roots
}
