//! A session without a task: nothing is lost to a socket that takes a byte at a time, nor to what the
//! protocol says by itself.

mod pki;

use std::io::{self, ErrorKind, Read as _, Write};
use std::sync::Arc;
use std::time::Duration;

use evergate_tls::{Connected, Heard, Server, Session};
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, ClientConnection, RootCertStore};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use pki::{Pki, settings};

/// Two ends of a connection over a real socket, the server's taken from its task.
async fn taken_apart(pki: &Pki) -> (std::net::TcpStream, Session, Connected<TcpStream>) {
    let server = Server::load(settings(vec![pki.sign("edge", &["edge.example"])])).expect("a server");
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let there = TcpStream::connect(listener.local_addr().expect("bound")).await.expect("connected");
    let (here, _) = listener.accept().await.expect("accepted");
    let client = pki.client(None);
    let (accepted, connected) = tokio::join!(server.accept(here), client.connect("edge.example", there));
    let (socket, session) = Session::take(accepted.expect("accepted").stream);
    (socket.into_std().expect("registered"), session, connected.expect("connected"))
}

#[tokio::test]
async fn a_session_without_a_task_loses_nothing_to_a_socket_that_is_full() {
    let (mut socket, mut session, mut client) = taken_apart(&Pki::new()).await;
    let plain: Vec<u8> = (0..16 << 20).map(|n: u32| n.to_le_bytes()[1]).collect();
    let first = session.write(&plain, &mut socket).expect("a part");
    assert!(first.blocked && first.taken < plain.len() && session.holds_back(), "{first:?}");

    let reading = tokio::spawn(async move {
        let mut read = Vec::new();
        client.stream.read_to_end(&mut read).await.expect("a clean end");
        read
    });
    let (mut taken, mut sent) = (first.taken, first.sent);
    while taken < plain.len() || session.holds_back() {
        let wrote = session.write(&plain[taken..], &mut socket).expect("a part");
        (taken, sent) = (taken + wrote.taken, sent + wrote.sent);
        if wrote.blocked {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    }
    assert!(sent > plain.len(), "what is on the wire is the ciphertext, {sent} bytes");
    session.say_end();
    let end = session.write(&[], &mut socket).expect("the end");
    assert!(end.sent > 0 && !end.blocked && !session.holds_back(), "{end:?}");
    assert!(reading.await.expect("read") == plain, "in order, and once");
}

#[tokio::test]
async fn a_session_hears_that_its_client_goes_and_drops_what_it_says() {
    let (mut socket, mut session, mut client) = taken_apart(&Pki::new()).await;
    assert_eq!(session.hear(&mut socket, usize::MAX).expect("nothing came"), Heard { bytes: 0, open: true });
    client.stream.write_all(&[b'x'; 40_000]).await.expect("written");
    client.stream.flush().await.expect("written");
    let heard = session.hear(&mut socket, 1_000).expect("dropped");
    assert!(heard.open && (1_001..10_000).contains(&heard.bytes), "no more than was asked for: {heard:?}");
    client.stream.shutdown().await.expect("says its end");
    let gone = async {
        while session.hear(&mut socket, usize::MAX).expect("well-formed").open {
            tokio::time::sleep(Duration::from_millis(1)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), gone).await.expect("heard");
}

/// A socket that takes so many bytes and then nothing, in turns.
struct Miserly {
    at_once: usize,
    willing: bool,
    took: Vec<u8>,
}

impl Write for Miserly {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.willing = !self.willing;
        if !self.willing {
            return Err(ErrorKind::WouldBlock.into());
        }
        let n = bytes.len().min(self.at_once);
        self.took.extend_from_slice(&bytes[..n]);
        Ok(n)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// A client without a task, too, which has shaken hands with a session over memory.
async fn both_apart(pki: &Pki) -> (Session, ClientConnection) {
    let server = Server::load(settings(vec![pki.sign("edge", &["edge.example"])])).expect("a server");
    let mut roots = RootCertStore::empty();
    let pem = std::fs::read(pki.ca()).expect("written");
    roots.add(CertificateDer::from_pem_slice(&pem).expect("PEM")).expect("a root");
    let config = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::ring::default_provider()))
        .with_safe_default_protocol_versions()
        .expect("ring speaks both")
        .with_root_certificates(roots)
        .with_no_client_auth();
    let name = ServerName::try_from("edge.example").expect("a name");
    let mut client = ClientConnection::new(Arc::new(config), name).expect("a client");
    let (here, mut there) = tokio::io::duplex(1 << 20);
    let accepting = tokio::spawn(async move { server.accept(here).await.expect("accepted") });
    while client.is_handshaking() || client.wants_write() {
        while client.wants_write() {
            let mut out = Vec::new();
            client.write_tls(&mut out).expect("into memory");
            there.write_all(&out).await.expect("taken");
        }
        if client.is_handshaking() {
            let mut read = vec![0; 1 << 16];
            let n = there.read(&mut read).await.expect("answered");
            feed(&mut client, &read[..n]);
        }
    }
    let (_, session) = Session::take(accepting.await.expect("no panic").stream);
    // What the server has said since, such as tickets.
    let mut rest = vec![0; 1 << 16];
    while let Ok(Ok(n)) = tokio::time::timeout(Duration::from_millis(50), there.read(&mut rest)).await {
        if n == 0 {
            break;
        }
        feed(&mut client, &rest[..n]);
    }
    (session, client)
}

/// Gives a client these bytes, and what is said in them back.
fn feed(client: &mut ClientConnection, mut bytes: &[u8]) -> Vec<u8> {
    let mut plain = Vec::new();
    while !bytes.is_empty() {
        client.read_tls(&mut bytes).expect("from memory");
        client.process_new_packets().expect("well-formed");
        match client.reader().read_to_end(&mut plain) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), ErrorKind::WouldBlock),
        }
    }
    plain
}

#[tokio::test]
async fn a_socket_that_takes_any_number_of_bytes_at_a_time_gets_every_byte_once() {
    let pki = Pki::new();
    let (mut session, mut client) = both_apart(&pki).await;
    let mut sent = 0;
    // Through one record of every length of the pieces, and once through several records.
    for (at_once, len) in (1..=150).map(|at_once| (at_once, 100)).chain([(997, 40_000), (16_383, 40_000)]) {
        let plain: Vec<u8> = (0..len).map(|n: u32| n.to_le_bytes()[0] ^ 0x5a).collect();
        let mut socket = Miserly { at_once, willing: false, took: Vec::new() };
        let mut taken = 0;
        while taken < plain.len() || session.holds_back() {
            let wrote = session.write(&plain[taken..], &mut socket).expect("it goes on");
            taken += wrote.taken;
            assert_eq!(session.holds_back(), wrote.blocked, "{wrote:?}");
            sent += wrote.sent;
        }
        assert!(sent >= socket.took.len());
        assert!(feed(&mut client, &socket.took) == plain, "{at_once} bytes at once");
    }
}

#[tokio::test]
async fn new_keys_are_taken_up_in_the_middle_of_a_record_that_waits() {
    let pki = Pki::new();
    let (mut session, mut client) = both_apart(&pki).await;
    let mut socket = Miserly { at_once: 10, willing: false, took: Vec::new() };
    let first = session.write(b"before the new keys", &mut socket).expect("a part");
    assert!(first.blocked && session.holds_back());
    // The client asks for new keys in both directions, while a record of ours has gone out by half.
    client.refresh_traffic_keys().expect("TLS 1.3");
    let mut asked = Vec::new();
    client.write_tls(&mut asked).expect("into memory");
    assert_eq!(
        session.hear(&mut &asked[..], 1 << 12).expect("heard"),
        Heard { bytes: asked.len(), open: false },
        "the memory ends there, which a socket would not"
    );
    while session.holds_back() {
        session.write(&[], &mut socket).expect("the rest");
    }
    let mut taken = 0;
    let second = b"and after";
    while taken < second.len() || session.holds_back() {
        taken += session.write(&second[taken..], &mut socket).expect("goes on").taken;
    }
    assert_eq!(feed(&mut client, &socket.took), b"before the new keysand after");
    // And what the client says now is understood.
    client.writer().write_all(b"heard").expect("into memory");
    let mut said = Vec::new();
    client.write_tls(&mut said).expect("into memory");
    assert_eq!(session.hear(&mut &said[..], 1 << 12).expect("the new keys").bytes, said.len());
}

#[tokio::test]
async fn what_was_changed_on_the_way_is_told_to_the_client_and_ends_it() {
    let pki = Pki::new();
    let (mut session, mut client) = both_apart(&pki).await;
    client.writer().write_all(b"x").expect("into memory");
    let mut said = Vec::new();
    client.write_tls(&mut said).expect("into memory");
    *said.last_mut().expect("a record") ^= 1;
    assert!(session.hear(&mut &said[..], 1 << 12).is_err());
    assert!(session.holds_back(), "an alert");
    let mut socket = Miserly { at_once: 1 << 10, willing: false, took: Vec::new() };
    session.write(&[], &mut socket).expect("a part");
    while session.holds_back() {
        session.write(&[], &mut socket).expect("the rest");
    }
    let mut told = &socket.took[..];
    client.read_tls(&mut told).expect("from memory");
    assert!(client.process_new_packets().is_err(), "a fatal alert");
}
