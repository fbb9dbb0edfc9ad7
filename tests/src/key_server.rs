//! Where an issuer publishes its keys: a server of HTTPS that answers everybody the same.

use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{JoinHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use tokio_rustls::rustls::ServerConfig;
use tokio_rustls::rustls::pki_types::pem::PemObject as _;
use tokio_rustls::rustls::pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, Signed, text};
use crate::process::Options;

/// For what comes by itself: sources are looked at every few seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A server of keys. Gone when it is dropped.
#[derive(Debug)]
pub struct KeyServer {
    address: SocketAddr,
    answers: Arc<Answers>,
    serving: JoinHandle<()>,
}

#[derive(Debug)]
struct Answers {
    /// The whole answer, head and all; `None` if there is never one.
    next: Mutex<Option<Vec<u8>>>,
    given: AtomicUsize,
}

impl KeyServer {
    /// One at a port of the system's choice that proves by a certificate of this authority to be `localhost`, and
    /// answers with these keys.
    ///
    /// # Panics
    /// If it cannot listen.
    pub async fn start(authority: &Authority, keys: &str) -> Self {
        let acceptor = acceptor(&authority.sign("issuer", &["localhost"]));
        let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
        let address = listener.local_addr().expect("it is bound");
        let answers = Arc::new(Answers { next: Mutex::new(Some(ok(keys))), given: AtomicUsize::new(0) });
        let serving = tokio::spawn(serve(listener, acceptor, Arc::clone(&answers)));
        Self { address, answers, serving }
    }

    /// Where the keys are, as the product is told it.
    #[must_use]
    pub fn url(&self) -> String {
        format!("https://localhost:{}/keys", self.address.port())
    }

    /// A server that asks it for its keys, and believes its authority as a root of the system's.
    #[must_use]
    pub fn guard(&self, authority: &Authority, options: Options) -> Options {
        let roots = format!("SSL_CERT_FILE={}", text(&authority.file()));
        options
            .launched_by(&["env", &roots])
            .set("access.mode", "tokens")
            .set("access.keys", &self.url())
            .set("access.keys_refresh", "10s")
            .set("access.leeway", "0s")
    }

    /// From now on it answers with these keys.
    pub fn publish(&self, keys: &str) {
        self.answer(Some(ok(keys)));
    }

    /// From now on it answers with these bytes; `None` is never.
    ///
    /// # Panics
    /// Never: nobody fails who holds the lock.
    pub fn answer(&self, bytes: Option<Vec<u8>>) {
        *self.answers.next.lock().expect("nobody failed") = bytes;
    }

    /// How often it was asked.
    #[must_use]
    pub fn asked(&self) -> usize {
        self.answers.given.load(Ordering::Acquire)
    }

    /// Waits until it was asked once more.
    ///
    /// # Panics
    /// If it never is.
    pub async fn asked_again(&self) {
        let (before, began) = (self.asked(), Instant::now());
        while self.asked() == before {
            assert!(began.elapsed() < PATIENCE, "it is never asked again");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

impl Drop for KeyServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// An answer with a status, fields and a body.
#[must_use]
pub fn answer(status: &str, fields: &[(&str, &str)], body: &str) -> Vec<u8> {
    let fields: String = fields.iter().map(|(name, value)| format!("{name}: {value}\r\n")).collect();
    format!("HTTP/1.1 {status}\r\n{fields}Content-Length: {}\r\nConnection: close\r\n\r\n{body}", body.len())
        .into_bytes()
}

fn ok(keys: &str) -> Vec<u8> {
    answer("200 OK", &[("Content-Type", "application/jwk-set+json")], keys)
}

async fn serve(listener: TcpListener, acceptor: TlsAcceptor, answers: Arc<Answers>) {
    let mut all = JoinSet::new();
    loop {
        let (socket, _) = listener.accept().await.expect("it listens");
        while all.try_join_next().is_some() {}
        // Whoever breaks off is of no interest.
        let (acceptor, answers) = (acceptor.clone(), Arc::clone(&answers));
        all.spawn(async move { drop(serve_one(socket, acceptor, &answers).await) });
    }
}

async fn serve_one(socket: TcpStream, acceptor: TlsAcceptor, answers: &Answers) -> std::io::Result<()> {
    let mut stream = acceptor.accept(socket).await?;
    let mut asked = Vec::new();
    while !asked.ends_with(b"\r\n\r\n") {
        if stream.read_buf(&mut asked).await? == 0 {
            return Ok(());
        }
    }
    let next = answers.next.lock().expect("nobody failed").clone();
    answers.given.fetch_add(1, Ordering::AcqRel);
    match next {
        Some(answer) => {
            stream.write_all(&answer).await?;
            stream.shutdown().await
        }
        None => std::future::pending().await,
    }
}

fn acceptor(shown: &Signed) -> TlsAcceptor {
    let chain = vec![CertificateDer::from_pem_file(&shown.certificate).expect("it was signed")];
    let key = PrivateKeyDer::from_pem_file(&shown.key).expect("it was made");
    let provider = Arc::new(tokio_rustls::rustls::crypto::ring::default_provider());
    let config = ServerConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .expect("ring speaks TLS 1.2 and 1.3")
        .with_no_client_auth()
        .with_single_cert(chain, key)
        .expect("they belong together");
    TlsAcceptor::from(Arc::new(config))
}
