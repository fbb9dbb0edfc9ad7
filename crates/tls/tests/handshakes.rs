//! What two ends agree on, and what they refuse each other.

mod pki;

use std::fs;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use evergate_tls::{
    Accepted, CertificateFiles, Client, ClientCertificates, ClientSettings, Connected, HandshakeError,
    Protocol, Refreshed, Resumption, Roots, Server, ServerSettings,
};
use rustls::client::WebPkiServerVerifier;
use rustls::client::danger::{HandshakeSignatureValid, ServerCertVerified, ServerCertVerifier};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName, UnixTime};
use rustls::{
    ClientConfig, DigitallySignedStruct, HandshakeKind, RootCertStore, SignatureScheme,
    SupportedProtocolVersion, version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream};

use pki::{Pki, settings};

type Ends = (Result<Accepted<DuplexStream>, HandshakeError>, Result<Connected<DuplexStream>, HandshakeError>);

/// Both ends of a handshake, after a word each way: over TLS 1.3 a client learns only then that it was
/// refused, and gets its tickets.
async fn meet(server: &Server, client: &Client, name: &str) -> Ends {
    let (here, there) = tokio::io::duplex(64 << 10);
    let accepted = async {
        let mut accepted = server.accept(here).await?;
        let mut word = [0; 4];
        accepted.stream.read_exact(&mut word).await?;
        accepted.stream.write_all(b"pong").await?;
        accepted.stream.flush().await?;
        Ok(accepted)
    };
    let connected = async {
        let mut connected = client.connect(name, there).await?;
        connected.stream.write_all(b"ping").await?;
        connected.stream.flush().await?;
        let mut word = [0; 4];
        connected.stream.read_exact(&mut word).await?;
        Ok(connected)
    };
    tokio::join!(accepted, connected)
}

/// How a client that comes again is received.
async fn kind(server: &Server, client: &Client) -> HandshakeKind {
    let (accepted, connected) = meet(server, client, "edge.example").await;
    accepted.expect("accepted");
    connected.expect("connected").stream.get_ref().1.handshake_kind().expect("it is over")
}

fn secrets(pki: &Pki, file: &str, byte: &str) -> Resumption {
    fs::write(pki.path(file), byte.repeat(32)).expect("written");
    Resumption::Tickets(Some(pki.path(file)))
}

#[tokio::test]
async fn a_client_is_shown_the_certificate_of_the_name_it_asks_for() {
    let pki = Pki::new();
    let (a, b) = (pki.sign("a", &["a.example"]), pki.sign("b", &["b.example", "*.b.example"]));
    let server = Server::load(settings(vec![a, b])).expect("a server");
    let client = pki.client(None);
    for (name, first) in
        [("a.example", "a.example"), ("b.example", "b.example"), ("x.b.example", "b.example")]
    {
        let (accepted, connected) = meet(&server, &client, name).await;
        let accepted = accepted.expect("accepted");
        assert_eq!((accepted.protocol, accepted.identity), (Protocol::Http2, None));
        let identity = connected.expect("connected").identity.expect("every server has one");
        assert_eq!(identity.names()[0], first);
    }
    // Whoever asks for another name is shown the first, and may not like it.
    let (_, connected) = meet(&server, &client, "c.example").await;
    assert!(matches!(connected.expect_err("another's"), HandshakeError::Refused(_)));
}

/// Keeps what comes beside a certificate, and judges that as ever.
#[derive(Debug)]
struct Keeping {
    judge: Arc<WebPkiServerVerifier>,
    stapled: Mutex<Vec<u8>>,
}

impl ServerCertVerifier for Keeping {
    fn verify_server_cert(
        &self,
        end_entity: &CertificateDer<'_>,
        intermediates: &[CertificateDer<'_>],
        server_name: &ServerName<'_>,
        ocsp_response: &[u8],
        now: UnixTime,
    ) -> Result<ServerCertVerified, rustls::Error> {
        *self.stapled.lock().expect("nobody failed") = ocsp_response.to_vec();
        self.judge.verify_server_cert(end_entity, intermediates, server_name, &[], now)
    }

    fn verify_tls12_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls12_signature(message, certificate, signed)
    }

    fn verify_tls13_signature(
        &self,
        message: &[u8],
        certificate: &CertificateDer<'_>,
        signed: &DigitallySignedStruct,
    ) -> Result<HandshakeSignatureValid, rustls::Error> {
        self.judge.verify_tls13_signature(message, certificate, signed)
    }

    fn supported_verify_schemes(&self) -> Vec<SignatureScheme> {
        self.judge.supported_verify_schemes()
    }
}

/// What a server staples for whoever asks for this name by this version.
async fn stapled(
    server: &Server,
    pki: &Pki,
    name: &str,
    version: &'static SupportedProtocolVersion,
) -> Vec<u8> {
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let mut roots = RootCertStore::empty();
    roots.add(CertificateDer::from_pem_file(pki.ca()).expect("a certificate")).expect("a root");
    let judge = WebPkiServerVerifier::builder_with_provider(Arc::new(roots), Arc::clone(&provider));
    let judge = judge.build().expect("a verifier");
    let keeping = Arc::new(Keeping { judge, stapled: Mutex::default() });
    let config = ClientConfig::builder_with_provider(provider)
        .with_protocol_versions(&[version])
        .expect("it is spoken")
        .dangerous()
        .with_custom_certificate_verifier(Arc::clone(&keeping) as _)
        .with_no_client_auth();
    let (here, there) = tokio::io::duplex(64 << 10);
    let connector = tokio_rustls::TlsConnector::from(Arc::new(config));
    let name = ServerName::try_from(name.to_owned()).expect("a name");
    let (accepted, connected) = tokio::join!(server.accept(here), connector.connect(name, there));
    accepted.expect("accepted");
    connected.expect("connected");
    keeping.stapled.lock().expect("nobody failed").clone()
}

#[tokio::test]
async fn what_an_authority_says_of_a_certificate_is_stapled_to_it() {
    // Whether it is true is for clients to judge: it is passed on as it is.
    const FIRST: &[u8] = &[0x30, 0x03, 0x0a, 0x01, 0x00];
    const SECOND: &[u8] = &[0x30, 0x03, 0x0a, 0x01, 0x06];
    let pki = Pki::new();
    let (a, b) = (pki.sign("a", &["a.example"]), pki.sign("b", &["b.example"]));
    fs::write(pki.path("a.pem.ocsp"), FIRST).expect("written");
    let server = Server::load(settings(vec![a, b])).expect("a server");
    for version in [&version::TLS12, &version::TLS13] {
        assert_eq!(stapled(&server, &pki, "a.example", version).await, FIRST);
        assert_eq!(stapled(&server, &pki, "b.example", version).await, b"", "there is none for it");
    }
    // A newer one, and one that comes later, are taken as new certificates are.
    fs::write(pki.path("a.pem.ocsp"), SECOND).expect("written");
    fs::write(pki.path("b.pem.ocsp"), FIRST).expect("written");
    assert!(matches!(server.refresh(), Refreshed::Renewed));
    for version in [&version::TLS12, &version::TLS13] {
        assert_eq!(stapled(&server, &pki, "a.example", version).await, SECOND);
        assert_eq!(stapled(&server, &pki, "b.example", version).await, FIRST);
    }
    fs::remove_file(pki.path("a.pem.ocsp")).expect("removed");
    assert!(matches!(server.refresh(), Refreshed::Renewed));
    assert_eq!(stapled(&server, &pki, "a.example", &version::TLS13).await, b"");
}

#[tokio::test]
async fn a_client_that_has_to_prove_itself_is_known_by_its_names_or_refused() {
    let pki = Pki::new();
    let edge = pki.sign("edge", &["edge.example"]);
    let of = |clients| Server::load(ServerSettings { clients, ..settings(vec![edge.clone()]) });
    let required = of(ClientCertificates::Required(vec![pki.ca()])).expect("a server");
    let optional = of(ClientCertificates::Optional(vec![pki.ca()])).expect("a server");
    let known = pki.client(Some(pki.sign("known", &["spiffe://example/publisher/7"])));
    let nobody = pki.client(None);
    let others = Pki::new();
    let stranger = Client::load(ClientSettings {
        roots: Roots::File(pki.ca()),
        identity: Some(others.sign("stranger", &["spiffe://example/publisher/7"])),
        protocols: vec![Protocol::Http2],
        handshake_timeout: Duration::from_secs(20),
    })
    .expect("a client");

    for server in [&required, &optional] {
        let (accepted, _) = meet(server, &known, "edge.example").await;
        let identity = accepted.expect("accepted").identity.expect("proved");
        assert!(identity.fits("spiffe://example/publisher/*"), "{identity:?}");
        let (accepted, connected) = meet(server, &stranger, "edge.example").await;
        assert!(accepted.is_err() && connected.is_err(), "signed by another authority");
    }
    let (accepted, connected) = meet(&required, &nobody, "edge.example").await;
    assert!(matches!(accepted.expect_err("nobody"), HandshakeError::Refused(_)));
    assert!(connected.is_err());
    let (accepted, _) = meet(&optional, &nobody, "edge.example").await;
    assert_eq!(accepted.expect("accepted").identity, None);
}

#[tokio::test]
async fn a_client_certificate_that_ran_out_is_refused() {
    let pki = Pki::new();
    let edge = pki.sign("edge", &["edge.example"]);
    let clients = ClientCertificates::Required(vec![pki.ca()]);
    let server = Server::load(ServerSettings { clients, ..settings(vec![edge]) }).expect("a server");
    let late = pki.client(Some(pki.sign_until("late", &["late.example"], 2020)));
    let (accepted, connected) = meet(&server, &late, "edge.example").await;
    assert!(accepted.is_err() && connected.is_err());
}

#[tokio::test]
async fn any_edge_with_the_same_secret_takes_up_a_session() {
    let pki = Pki::new();
    let edge = pki.sign("edge", &["edge.example"]);
    let with = |resumption| ServerSettings { resumption, ..settings(vec![edge.clone()]) };
    let a = Server::load(with(secrets(&pki, "tickets", "0a"))).expect("a server");
    let b = Server::load(with(secrets(&pki, "tickets", "0a"))).expect("a server");
    let other = Server::load(with(secrets(&pki, "others", "0b"))).expect("a server");
    let alone = Server::load(with(Resumption::Tickets(None))).expect("a server");
    let never = Server::load(with(Resumption::None)).expect("a server");
    let kept =
        Server::load(with(Resumption::Sessions { max: 16, early_data_bytes_max: 0 })).expect("a server");

    let client = pki.client(None);
    assert_eq!(kind(&a, &client).await, HandshakeKind::Full);
    assert_eq!(kind(&b, &client).await, HandshakeKind::Resumed);
    assert_eq!(kind(&other, &client).await, HandshakeKind::Full);
    for (server, again) in
        [(&alone, HandshakeKind::Resumed), (&kept, HandshakeKind::Resumed), (&never, HandshakeKind::Full)]
    {
        let client = pki.client(None);
        assert_eq!(kind(server, &client).await, HandshakeKind::Full);
        assert_eq!(kind(server, &client).await, again);
    }
}

#[tokio::test]
async fn no_ticket_leads_past_the_check_of_a_client_s_certificate() {
    let pki = Pki::new();
    let edge = pki.sign("edge", &["edge.example"]);
    let resumption = secrets(&pki, "tickets", "0a");
    let with = |clients| {
        let resumption = resumption.clone();
        Server::load(ServerSettings { clients, resumption, ..settings(vec![edge.clone()]) })
            .expect("a server")
    };
    let (open, closed) = (with(ClientCertificates::None), with(ClientCertificates::Required(vec![pki.ca()])));
    let nobody = pki.client(None);
    assert_eq!(kind(&open, &nobody).await, HandshakeKind::Full);
    let (accepted, _) = meet(&closed, &nobody, "edge.example").await;
    assert!(accepted.is_err(), "a ticket of the open server");

    // Who proved itself once is known again by its ticket, until its authority is believed no more.
    let known = pki.client(Some(pki.sign("known", &["known.example"])));
    assert_eq!(kind(&closed, &known).await, HandshakeKind::Full);
    let (accepted, connected) = meet(&closed, &known, "edge.example").await;
    let resumed = connected.expect("connected").stream.get_ref().1.handshake_kind();
    assert_eq!(resumed, Some(HandshakeKind::Resumed));
    assert_eq!(accepted.expect("accepted").identity.expect("known").names(), ["known.example"]);
    fs::copy(Pki::new().ca(), pki.ca()).expect("replaced");
    assert!(matches!(closed.refresh(), Refreshed::Renewed));
    let (accepted, _) = meet(&closed, &known, "edge.example").await;
    assert!(accepted.is_err(), "its authority is gone");
}

#[tokio::test]
async fn a_new_certificate_is_for_those_who_come_and_leaves_those_who_are_there() {
    let pki = Pki::new();
    let edge = pki.sign("edge", &["edge.example", "old.example"]);
    let server = Server::load(settings(vec![edge.clone()])).expect("a server");
    let client = pki.client(None);
    let (accepted, connected) = meet(&server, &client, "edge.example").await;
    let (mut accepted, mut connected) = (accepted.expect("accepted"), connected.expect("connected"));

    // Half of the new pair: what works goes on.
    let new = pki.sign("new", &["edge.example", "new.example"]);
    copy(&new.certificate, &edge.certificate);
    assert!(matches!(server.refresh(), Refreshed::Kept(_)));
    let (_, old) = meet(&server, &client, "edge.example").await;
    assert!(old.expect("connected").identity.expect("shown").fits("old.example"));
    copy(&new.key, &edge.key);
    assert!(matches!(server.refresh(), Refreshed::Renewed));
    let (_, renewed) = meet(&server, &pki.client(None), "edge.example").await;
    assert!(renewed.expect("connected").identity.expect("shown").fits("new.example"));

    accepted.stream.write_all(b"still").await.expect("written");
    accepted.stream.flush().await.expect("written");
    let mut word = [0; 5];
    connected.stream.read_exact(&mut word).await.expect("read");
    assert_eq!(&word, b"still");
}

fn copy(from: &Path, to: &Path) {
    fs::copy(from, to).expect("copied");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_has_its_time() {
    let pki = Pki::new();
    let server = Server::load(settings(vec![pki.sign("edge", &["edge.example"])])).expect("a server");
    let (here, mut there) = tokio::io::duplex(1024);
    // The beginning of a record that never comes.
    there.write_all(&[0x16, 3, 1, 1, 0, 1]).await.expect("written");
    assert!(matches!(server.accept(here).await, Err(HandshakeError::TooSlow(_))));
}

#[tokio::test]
async fn what_is_no_tls_is_refused_at_once() {
    let pki = Pki::new();
    let server = Server::load(settings(vec![pki.sign("edge", &["edge.example"])])).expect("a server");
    let (here, mut there) = tokio::io::duplex(1024);
    there.write_all(b"GET / HTTP/1.1\r\n\r\n").await.expect("written");
    let refused = server.accept(here).await.expect_err("no handshake");
    assert_eq!((refused.reason(), refused.is_transient()), ("tls-refused", false));
}

#[tokio::test]
async fn files_that_make_no_server_are_named() {
    let pki = Pki::new();
    let (a, b) = (pki.sign("a", &["a.example"]), pki.sign("b", &["b.example"]));
    let why = |certificate: &Path, key: &Path| {
        let files = CertificateFiles { certificate: certificate.to_owned(), key: key.to_owned() };
        Server::load(settings(vec![files])).expect_err("no server").to_string()
    };
    assert!(why(&a.certificate, &b.key).contains("does not belong to"));
    assert!(why(&a.key, &a.key).contains("holds no certificate"));
    assert!(why(&a.certificate, &a.certificate).contains("holds no private key"));
    assert!(why(&pki.path("missing"), &a.key).contains("missing"));
    fs::write(pki.path("a.pem.ocsp"), "no DER").expect("written");
    assert!(why(&a.certificate, &a.key).contains("is no OCSP response"));
    assert!(Server::load(settings(vec![])).is_err());
}
