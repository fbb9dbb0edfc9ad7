//! TLS with a certificate of a test's own, made by `openssl`.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;

use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, ServerName};
use tokio_rustls::rustls::{ClientConfig, RootCertStore};

/// The name the certificate stands for.
pub const HOST: &str = "localhost";

/// A certificate and its key, as files.
#[derive(Debug, Clone)]
pub struct Certificate {
    /// The certificate.
    pub chain: PathBuf,
    /// Its key.
    pub key: PathBuf,
    /// Both in one file.
    pub both: PathBuf,
}

impl Certificate {
    /// Makes one in this folder.
    ///
    /// # Panics
    /// If `openssl` cannot make it.
    #[must_use]
    pub fn make(openssl: &Path, folder: &Path) -> Self {
        let file = |name: &str| folder.join(name);
        let made =
            Self { chain: file("fullchain.pem"), key: file("privkey.pem"), both: file("evergate.pem") };
        let output = Command::new(openssl)
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes"])
            .args(["-days", "2", "-subj", "/CN=localhost"])
            .args(["-addext", "subjectAltName=DNS:localhost,IP:127.0.0.1"])
            .args(["-addext", "basicConstraints=critical,CA:FALSE"])
            .arg("-keyout")
            .arg(&made.key)
            .arg("-out")
            .arg(&made.chain)
            .output()
            .expect("openssl can be started");
        assert!(output.status.success(), "openssl: {}", String::from_utf8_lossy(&output.stderr));
        let read = |path: &Path| std::fs::read_to_string(path).expect("openssl wrote it");
        let both = read(&made.chain) + &read(&made.key);
        std::fs::write(&made.both, both).expect("the folder is ours");
        made
    }

    /// A client that knows this certificate and speaks `alpn`.
    #[must_use]
    pub fn client(&self, alpn: &str) -> ClientConfig {
        let mut roots = RootCertStore::empty();
        let certificate = CertificateDer::from_pem_file(&self.chain).expect("openssl wrote it");
        roots.add(certificate).expect("it is well formed");
        let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
        let mut config = ClientConfig::builder_with_provider(provider)
            .with_safe_default_protocol_versions()
            .expect("ring speaks TLS 1.2 and 1.3")
            .with_root_certificates(roots)
            .with_no_client_auth();
        config.alpn_protocols = vec![alpn.as_bytes().to_vec()];
        config
    }

    /// Connects to a server that holds this certificate and speaks `alpn`.
    ///
    /// # Errors
    /// Nobody listens there, or what listens is somebody else.
    pub async fn connect(&self, address: SocketAddr, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
        self.over(TcpStream::connect(address).await?, alpn).await
    }

    /// The same over a connection that is there.
    ///
    /// # Errors
    /// What is at its other end is somebody else.
    pub async fn over(&self, socket: TcpStream, alpn: &str) -> std::io::Result<TlsStream<TcpStream>> {
        let config = self.client(alpn);
        socket.set_nodelay(true)?;
        let name = ServerName::try_from(HOST).expect("a name");
        let stream = TlsConnector::from(Arc::new(config)).connect(name, socket).await?;
        let agreed = stream.get_ref().1.alpn_protocol().map(String::from_utf8_lossy);
        assert_eq!(agreed.as_deref(), Some(alpn), "the server was offered {alpn}");
        Ok(stream)
    }
}
