//! An authority of a test's own: it signs certificates for servers and clients, and connects as a client
//! that believes nobody else.

use std::fs;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use hyper_util::rt::TokioIo;
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};
use tonic::transport::{Channel, Endpoint};
use tower_service::Service;

use crate::process::Options;

/// An authority, and a folder for what it signs.
pub struct Authority {
    folder: TempDir,
    issuer: CertifiedIssuer<'static, KeyPair>,
}

/// A certificate with its key, as files.
#[derive(Debug, Clone)]
pub struct Signed {
    /// The certificate.
    pub certificate: PathBuf,
    /// Its key.
    pub key: PathBuf,
}

impl Default for Authority {
    fn default() -> Self {
        Self::new()
    }
}

impl Authority {
    /// A new one, which nobody believes yet.
    ///
    /// # Panics
    /// If it cannot be made.
    #[must_use]
    pub fn new() -> Self {
        let folder = tempfile::tempdir().expect("a temporary folder can be made");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        params.distinguished_name.push(rcgen::DnType::CommonName, "a test's own authority");
        let key = KeyPair::generate().expect("a key");
        let issuer = CertifiedIssuer::self_signed(params, key).expect("an authority");
        fs::write(folder.path().join("ca.pem"), issuer.pem()).expect("the folder is ours");
        Self { folder, issuer }
    }

    /// Its own certificate.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// A file of this name beside what it signed.
    #[must_use]
    pub fn path(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }

    /// Signs a certificate for hosts, addresses and URIs, which lies in files of this name.
    #[must_use]
    pub fn sign(&self, name: &str, stands_for: &[&str]) -> Signed {
        self.sign_until(name, stands_for, 2100)
    }

    /// The same, until the beginning of a year.
    ///
    /// # Panics
    /// If a name is none.
    #[must_use]
    pub fn sign_until(&self, name: &str, stands_for: &[&str], year: i32) -> Signed {
        let mut params = CertificateParams::new([]).expect("no names");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.distinguished_name.push(rcgen::DnType::CommonName, name);
        params.subject_alt_names = stands_for.iter().map(|name| alternative(name)).collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.issuer).expect("signed");
        let signed =
            Signed { certificate: self.path(&format!("{name}.pem")), key: self.path(&format!("{name}.key")) };
        fs::write(&signed.certificate, certificate.pem()).expect("the folder is ours");
        fs::write(&signed.key, key.serialize_pem()).expect("the folder is ours");
        signed
    }

    /// Connects by TLS as a client that believes only this authority, speaks these protocols and, where it
    /// has one, proves to be somebody.
    ///
    /// # Errors
    /// Nobody listens there, or the two do not agree.
    pub async fn connect(
        &self,
        address: SocketAddr,
        protocols: &[&str],
        identity: Option<&Signed>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let socket = TcpStream::connect(address).await?;
        socket.set_nodelay(true)?;
        self.connect_over(socket, protocols, identity).await
    }

    /// The same over a socket that is connected already.
    ///
    /// # Errors
    /// The two do not agree.
    ///
    /// # Panics
    /// If what was signed cannot be read.
    pub async fn connect_over(
        &self,
        socket: TcpStream,
        protocols: &[&str],
        identity: Option<&Signed>,
    ) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.client(protocols, identity);
        let name = ServerName::try_from("localhost").expect("a name");
        TlsConnector::from(Arc::new(config)).connect(name, socket).await
    }

    /// The same for gRPC.
    ///
    /// # Errors
    /// Nobody listens there, or the two do not agree.
    pub async fn channel(
        &self,
        address: SocketAddr,
        identity: Option<&Signed>,
    ) -> Result<Channel, tonic::transport::Error> {
        let connector = Connector { config: Arc::new(self.client(&["h2"], identity)), address };
        let endpoint = Endpoint::from_shared(format!("https://localhost:{}", address.port()));
        endpoint.expect("a URL").connect_with_connector(connector).await
    }

    /// How such a client is set up.
    ///
    /// # Panics
    /// If what was signed cannot be read.
    #[must_use]
    pub fn client(&self, protocols: &[&str], identity: Option<&Signed>) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        roots.add(self.issuer.der().clone()).expect("it is well formed");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let builder = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots);
        let mut config = match identity {
            None => builder.with_no_client_auth(),
            Some(Signed { certificate, key }) => {
                let chain = vec![CertificateDer::from_pem_file(certificate).expect("it was signed")];
                let key = PrivateKeyDer::from_pem_file(key).expect("it was made");
                builder.with_client_auth_cert(chain, key).expect("they belong together")
            }
        };
        config.alpn_protocols = protocols.iter().map(|name| name.as_bytes().to_vec()).collect();
        config
    }
}

/// Connects for a gRPC client.
#[derive(Clone)]
struct Connector {
    config: Arc<ClientConfig>,
    address: SocketAddr,
}

impl Service<http::Uri> for Connector {
    type Response = TokioIo<TlsStream<TcpStream>>;
    type Error = std::io::Error;
    type Future = Pin<Box<dyn Future<Output = std::io::Result<Self::Response>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<std::io::Result<()>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, _: http::Uri) -> Self::Future {
        let Self { config, address } = self.clone();
        Box::pin(async move {
            let socket = TcpStream::connect(address).await?;
            let name = ServerName::try_from("localhost").expect("a name");
            Ok(TokioIo::new(TlsConnector::from(config).connect(name, socket).await?))
        })
    }
}

impl Signed {
    /// Copies both over those of another, as a renewal does, the certificate first.
    ///
    /// # Panics
    /// If they cannot be written.
    pub fn replace(&self, other: &Self) {
        fs::copy(&self.certificate, &other.certificate).expect("the folder is ours");
        fs::copy(&self.key, &other.key).expect("the folder is ours");
    }
}

/// HTTP over TLS with this certificate.
#[must_use]
pub fn over_tls(options: Options, shown: &Signed) -> Options {
    options
        .set("http.tls", "on")
        .set("tls.certificate_files", text(&shown.certificate))
        .set("tls.key_files", text(&shown.key))
}

/// A path as an argument.
///
/// # Panics
/// If it is no UTF-8.
#[must_use]
pub fn text(path: &Path) -> &str {
    path.to_str().expect("temporary folders have plain names")
}

fn alternative(name: &str) -> SanType {
    if let Ok(address) = name.parse() {
        return SanType::IpAddress(address);
    }
    let text = name.try_into().expect("ASCII");
    if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
}
