//! Accepted connections as streams: every byte once and in order, whatever the socket does, the client's end
//! told from a cut, and what is said before the handshake is over told from what is said after it.

mod pki;

use std::io::{ErrorKind, Read as _, Write as _};
use std::sync::Arc;
use std::time::Duration;

use evergate_tls::{Accepted, Connected, Resumption, Server, ServerSettings, Session};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _, DuplexStream};
use tokio::time::timeout;

use pki::{Pki, settings};

/// Both ends of a connection over a pipe that holds so many bytes.
async fn pair(pki: &Pki, holds: usize) -> (Accepted<DuplexStream>, Connected<DuplexStream>) {
    let server = Server::load(settings(vec![pki.sign("edge", &["edge.example"])])).expect("a server");
    let client = pki.client(None);
    let (here, there) = tokio::io::duplex(holds);
    let (accepted, connected) = tokio::join!(server.accept(here), client.connect("edge.example", there));
    (accepted.expect("accepted"), connected.expect("connected"))
}

/// Says all of it and an end, while it hears the other out.
async fn talk(stream: impl AsyncRead + AsyncWrite, says: &[u8]) -> Vec<u8> {
    let (mut reads, mut writes) = tokio::io::split(stream);
    let mut heard = Vec::new();
    let says = async {
        for part in says.chunks(10_007) {
            writes.write_all(part).await.expect("taken");
        }
        writes.shutdown().await.expect("an end");
    };
    let (read, ()) = tokio::join!(reads.read_to_end(&mut heard), says);
    read.expect("a clean end");
    heard
}

#[tokio::test]
async fn every_byte_goes_once_and_in_order_through_pipes_of_any_width() {
    let pki = Pki::new();
    let bytes = |len: u32, mask: u8| -> Vec<u8> { (0..len).map(|n| n.to_le_bytes()[1] ^ mask).collect() };
    for (holds, here_says, there_says) in
        [(1, 3_000, 2_000), (7, 20_000, 0), (64, 0, 50_000), (5_000, 700_000, 900_000)]
    {
        let (here, there) = (bytes(here_says, 0x55), bytes(there_says, 0xaa));
        let (accepted, connected) = pair(&pki, holds).await;
        let (heard_here, heard_there) =
            tokio::join!(talk(accepted.stream, &here), talk(connected.stream, &there));
        assert!(heard_here == there && heard_there == here, "through {holds} bytes");
    }
}

#[tokio::test]
async fn an_end_that_is_said_is_no_cut_and_leaves_the_other_direction_open() {
    let pki = Pki::new();
    let (mut accepted, mut connected) = pair(&pki, 1 << 16).await;
    connected.stream.write_all(b"all").await.expect("taken");
    connected.stream.shutdown().await.expect("an end");
    let mut heard = Vec::new();
    accepted.stream.read_to_end(&mut heard).await.expect("a clean end");
    assert_eq!(heard, b"all");
    accepted.stream.write_all(b"still").await.expect("taken");
    accepted.stream.shutdown().await.expect("an end");
    accepted.stream.shutdown().await.expect("twice is once");
    let late = accepted.stream.write(b"x").await.expect_err("after the end");
    assert_eq!(late.kind(), ErrorKind::BrokenPipe);
    heard.clear();
    connected.stream.read_to_end(&mut heard).await.expect("a clean end");
    assert_eq!(heard, b"still");

    let (mut accepted, mut connected) = pair(&pki, 1 << 16).await;
    connected.stream.write_all(b"some").await.expect("taken");
    connected.stream.flush().await.expect("taken");
    drop(connected);
    heard.clear();
    let cut = accepted.stream.read_to_end(&mut heard).await.expect_err("a cut");
    assert_eq!((cut.kind(), &heard[..]), (ErrorKind::UnexpectedEof, &b"some"[..]));
}

/// A server that hears clients early, and the settings of one that comes again.
fn early(pki: &Pki) -> (Server, Arc<ClientConfig>) {
    let resumption = Resumption::Sessions { max: 16, early_data_bytes_max: 1_000 };
    let settings = ServerSettings { resumption, ..settings(vec![pki.sign("edge", &["edge.example"])]) };
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(pki.ca()).expect("written");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
    let mut config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    config.enable_early_data = true;
    (Server::load(settings).expect("a server"), Arc::new(config))
}

/// A client without a task.
struct Client {
    tls: ClientConnection,
    pipe: DuplexStream,
}

impl Client {
    fn new(config: &Arc<ClientConfig>, pipe: DuplexStream) -> Self {
        let name = ServerName::try_from("edge.example").expect("a name");
        Self { tls: ClientConnection::new(Arc::clone(config), name).expect("a client"), pipe }
    }

    /// Sends all that it has to send.
    async fn push(&mut self) {
        let mut bytes = Vec::new();
        while self.tls.wants_write() {
            self.tls.write_tls(&mut bytes).expect("into memory");
        }
        self.pipe.write_all(&bytes).await.expect("taken");
    }

    /// Reads until it has heard so much.
    async fn hear(&mut self, len: usize) -> Vec<u8> {
        let mut plain = Vec::new();
        while plain.len() < len {
            let mut bytes = vec![0; 1 << 14];
            let n = self.pipe.read(&mut bytes).await.expect("something");
            assert!(n > 0, "an end");
            plain.append(&mut self.feed(&bytes[..n]));
        }
        plain
    }

    fn feed(&mut self, mut bytes: &[u8]) -> Vec<u8> {
        let mut plain = Vec::new();
        while !bytes.is_empty() {
            self.tls.read_tls(&mut bytes).expect("from memory");
            self.tls.process_new_packets().expect("well-formed");
            if let Err(error) = self.tls.reader().read_to_end(&mut plain) {
                assert_eq!(error.kind(), ErrorKind::WouldBlock);
            }
        }
        plain
    }
}

/// Is there once, for a session to come again with.
async fn visit(server: &Server, config: &Arc<ClientConfig>) {
    let (here, there) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(config, there);
    let serves = async {
        let mut accepted = server.accept(here).await.expect("accepted");
        assert!(accepted.early.is_none(), "nothing was offered yet");
        accepted.stream.write_all(b"hello").await.expect("taken");
        accepted.stream.flush().await.expect("taken");
    };
    let comes = async {
        client.push().await;
        while client.tls.is_handshaking() {
            let mut bytes = vec![0; 1 << 14];
            let n = client.pipe.read(&mut bytes).await.expect("something");
            client.feed(&bytes[..n]);
        }
        client.push().await;
        assert_eq!(client.hear(5).await, b"hello");
    };
    tokio::join!(serves, comes);
}

/// Comes again with these words. The handshake is not over.
async fn come_again(
    server: &Server,
    config: &Arc<ClientConfig>,
    words: &[u8],
) -> (Accepted<DuplexStream>, Client) {
    visit(server, config).await;
    let (here, there) = tokio::io::duplex(1 << 16);
    let mut client = Client::new(config, there);
    client.tls.early_data().expect("offered").write_all(words).expect("there is room");
    client.push().await;
    (server.accept(here).await.expect("accepted"), client)
}

#[tokio::test(start_paused = true)]
async fn what_is_said_early_is_read_first_and_answered_before_the_handshake_is_over() {
    let pki = Pki::new();
    let (server, config) = early(&pki);
    let (mut accepted, mut client) = come_again(&server, &config, b"early words").await;
    let told = accepted.early.clone().expect("heard early");
    assert!(accepted.resumed && !told.is_over());
    let mut heard = [0; 11];
    for part in heard.chunks_mut(3) {
        accepted.stream.read_exact(part).await.expect("said");
    }
    assert_eq!(&heard, b"early words");
    accepted.stream.write_all(b"answer").await.expect("taken");
    accepted.stream.flush().await.expect("taken");
    assert_eq!(client.hear(6).await, b"answer");
    assert!(client.tls.is_early_data_accepted() && !told.is_over(), "its last word is still to come");
    let nothing = timeout(Duration::from_secs(1), accepted.stream.read(&mut heard)).await;
    assert!(nothing.is_err(), "{nothing:?}");

    client.tls.writer().write_all(b"late words").expect("there is room");
    client.push().await;
    let n = accepted.stream.read(&mut heard).await.expect("said");
    assert_eq!((&heard[..n], told.is_over()), (&b"late words"[..], true));
    assert!(timeout(Duration::from_secs(600), told.overdue()).await.is_err(), "it is over in time");
    accepted.stream.write_all(b"bye").await.expect("taken");
    accepted.stream.shutdown().await.expect("an end");
    assert_eq!(client.hear(3).await, b"bye");
}

#[tokio::test(start_paused = true)]
async fn a_handshake_that_never_ends_is_overdue_in_time() {
    let pki = Pki::new();
    let (server, config) = early(&pki);
    let (accepted, _client) = come_again(&server, &config, b"early words").await;
    let told = accepted.early.expect("heard early");
    assert!(timeout(Duration::from_secs(19), told.overdue()).await.is_err(), "not yet");
    assert!(timeout(Duration::from_secs(2), told.overdue()).await.is_ok());
}

#[tokio::test]
async fn one_session_is_taken_up_once() {
    let pki = Pki::new();
    let (server, config) = early(&pki);
    visit(&server, &config).await;
    let (_, there) = tokio::io::duplex(1);
    let mut client = Client::new(&config, there);
    client.tls.early_data().expect("offered").write_all(b"words").expect("there is room");
    let mut recorded = Vec::new();
    while client.tls.wants_write() {
        client.tls.write_tls(&mut recorded).expect("into memory");
    }
    for first in [true, false] {
        let (here, mut there) = tokio::io::duplex(1 << 16);
        there.write_all(&recorded).await.expect("taken");
        // Whoever sends it again can say nothing that ends a handshake.
        there.shutdown().await.expect("an end");
        let accepted = server.accept(here).await;
        assert_eq!(accepted.is_ok_and(|accepted| accepted.early.is_some()), first);
    }
}

#[tokio::test]
async fn a_session_without_a_task_answers_early_and_hears_the_end_of_the_handshake() {
    let pki = Pki::new();
    let (server, config) = early(&pki);
    let (mut accepted, mut client) = come_again(&server, &config, b"a request, and more").await;
    let told = accepted.early.clone().expect("heard early");
    accepted.stream.read_exact(&mut [0; 9]).await.expect("said");
    let (_pipe, mut session) = Session::take(accepted.stream);
    let mut wire = Vec::new();
    session.write(b"answer", &mut wire).expect("into memory");
    assert!(session.is_early() && !session.holds_back());
    // Behind what the task has sent.
    let mut bytes = vec![0; 1 << 14];
    let n = client.pipe.read(&mut bytes).await.expect("the server's part");
    assert_eq!(client.feed(&bytes[..n]), b"");
    assert_eq!(client.feed(&wire), b"answer");
    let mut last = Vec::new();
    while client.tls.wants_write() {
        client.tls.write_tls(&mut last).expect("into memory");
    }
    assert!(session.is_early() && !told.is_over());
    assert_eq!(session.hear(&mut &last[..], 1 << 12).expect("heard").bytes, last.len());
    assert!(!session.is_early() && told.is_over());
    assert!(session.holds_back(), "sessions to come again with");
    wire.clear();
    session.write(b"and more", &mut wire).expect("into memory");
    assert_eq!(client.feed(&wire), b"and more");
    assert!(client.tls.is_early_data_accepted());
}
