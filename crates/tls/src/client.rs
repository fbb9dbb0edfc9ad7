//! The connecting side.

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

use crate::certificate::{self, CertificateFiles};
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
    config: FromFiles<Arc<ClientConfig>>,
    handshake_timeout: Duration,
}

impl Client {
    /// Reads all files once; what is wrong with any of them is said.
    pub fn load(settings: ClientSettings) -> Result<Self, LoadError> {
        let handshake_timeout = settings.handshake_timeout;
        let files = files(&settings);
        let config = FromFiles::load(files, move || configure(&settings).map(Arc::new))?;
        Ok(Self(Arc::new(Inner { config, handshake_timeout })))
    }

    /// Looks whether a file has changed, and reads them all anew then.
    pub fn refresh(&self) -> Refreshed {
        self.0.config.refresh()
    }

    /// Shakes hands over a socket with a server that has to prove to be `host`, a name or an address.
    pub async fn connect<S>(&self, host: &str, socket: S) -> Result<Connected<S>, HandshakeError>
    where
        S: AsyncRead + AsyncWrite + Unpin,
    {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        let name =
            ServerName::try_from(bare.to_owned()).map_err(|_| HandshakeError::Name(host.to_owned()))?;
        let connector = TlsConnector::from(Arc::clone(&*self.0.config.current()));
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
    if let Roots::File(path) = &settings.roots {
        files.push(path.clone());
    }
    files
}

fn configure(settings: &ClientSettings) -> Result<ClientConfig, LoadError> {
    let roots = match &settings.roots {
        Roots::File(path) => certificate::roots(path)?,
        Roots::System => system_roots()?,
    };
    let builder = ClientConfig::builder_with_provider(provider())
        .with_protocol_versions(versions(Version::Tls12))
        .map_err(|error| LoadError::Impossible(error.to_string()))?
        .with_root_certificates(roots);
    let mut config = match &settings.identity {
        None => builder.with_no_client_auth(),
        Some(identity) => {
            let certified: Arc<CertifiedKey> = identity.load()?;
            builder.with_client_cert_resolver(Arc::new(SingleCertAndKey::from(certified)))
        }
    };
    config.alpn_protocols = settings.protocols.iter().map(|protocol| protocol.name()).collect();
    Ok(config)
}

fn system_roots() -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    if roots.is_empty() { Err(LoadError::NoRoots) } else { Ok(roots) }
}
