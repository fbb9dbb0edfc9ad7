//! The same over TLS. The engine writes through sessions; behind the client's socket a task undoes it, which
//! takes no more than the client does, so that slow readers are as slow.

use std::fs;
use std::sync::Arc;
use std::time::Duration;

use evergate_domain::{EventDraft, KeyFilter, Start};
use evergate_fanout::{Begin, Encoding, Framing, HeartbeatKind, HubConfig, SubscribeRequest};
use evergate_tls::{
    CertificateFiles, Client, ClientCertificates, ClientSettings, Protocol, Resumption, Roots, Server,
    ServerSettings, Session, Version,
};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};

use crate::{
    Chunks, SMALL, World, everybody_accounts_for_every_event, last_words, name, quiet_streams, streams,
    world_with,
};

/// What both ends of a world's connections are secured with.
pub(crate) struct Secured {
    server: Server,
    client: Client,
}

impl Secured {
    pub(crate) fn new() -> Self {
        let folder = tempfile::tempdir().expect("a place for files");
        let key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(["edge.example".to_owned()]).expect("a name");
        let certificate = params.self_signed(&key).expect("signed");
        let files = CertificateFiles {
            certificate: folder.path().join("edge.pem"),
            key: folder.path().join("edge.key"),
        };
        fs::write(&files.certificate, certificate.pem()).expect("written");
        fs::write(&files.key, key.serialize_pem()).expect("written");
        let handshake_timeout = Duration::from_secs(60);
        let client = Client::load(ClientSettings {
            roots: Roots::File(files.certificate.clone()),
            identity: None,
            protocols: vec![Protocol::Http1],
            handshake_timeout,
        });
        let server = Server::load(ServerSettings {
            certificates: vec![files],
            clients: ClientCertificates::None,
            resumption: Resumption::Tickets(None),
            oldest: Version::Tls12,
            protocols: vec![Protocol::Http1],
            handshake_timeout,
        });
        Self { server: server.expect("a server"), client: client.expect("a client") }
    }

    /// Shakes hands over a connected pair. Gives a plain socket for the client, and what the engine is given.
    pub(crate) async fn over(&self, client: TcpStream, server: TcpStream) -> (TcpStream, TcpStream, Session) {
        let (accepted, connected) =
            tokio::join!(self.server.accept(server), self.client.connect("edge.example", client));
        let (socket, session) = Session::take(accepted.expect("accepted").stream);
        let mut secured = connected.expect("connected").stream;
        let (plain, mut behind) = pair(SMALL).await;
        tokio::spawn(async move {
            // However it ends, both ends are gone then.
            let _ = tokio::io::copy_bidirectional(&mut secured, &mut behind).await;
        });
        (plain, socket, session)
    }
}

/// Two ends of a connection that holds little.
async fn pair(buffer: usize) -> (TcpStream, TcpStream) {
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let address = listener.local_addr().expect("bound");
    let (one, other) = tokio::join!(TcpStream::connect(address), listener.accept());
    let (one, (other, _)) = (one.expect("connects"), other.expect("accepts"));
    socket2::SockRef::from(&one).set_recv_buffer_size(buffer).expect("a small buffer");
    socket2::SockRef::from(&other).set_send_buffer_size(buffer).expect("a small buffer");
    (one, other)
}

fn secured(config: HubConfig) -> Arc<World> {
    world_with(evergate_domain::StreamPolicies::open(evergate_domain::Retention::FOREVER), config, true)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_every_client_gets_every_event_once_and_in_order() {
    everybody_accounts_for_every_event(secured).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_quiet_streams_beat_and_a_client_that_leaves_is_let_go() {
    quiet_streams(secured).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn over_tls_streams_end_with_their_last_words_even_when_they_are_parked() {
    last_words(secured).await;
}

/// A client that asks for new keys while it is parked goes on, and one that says what is no TLS is let go.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_parked_session_takes_up_new_keys_and_ends_on_what_is_no_tls() {
    let world = secured(HubConfig::default());
    let mut clients = Vec::new();
    for _ in 0..2 {
        let (client, server) = pair(1 << 16).await;
        let tls = world.tls.as_ref().expect("secured");
        let (accepted, connected) =
            tokio::join!(tls.server.accept(server), tls.client.connect("edge.example", client));
        let (socket, session) = Session::take(accepted.expect("accepted").stream);
        let request = SubscribeRequest {
            streams: streams(),
            filters: [KeyFilter::all()].into(),
            begin: Begin::Start(Start::Latest),
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        };
        world.hand_over(request, false, socket, Some(session)).await;
        clients.push(connected.expect("connected").stream.into_inner());
    }
    while world.engine.parked() < clients.len() {
        tokio::time::sleep(Duration::from_millis(1)).await;
    }
    let (mut socket, mut tls) = clients.remove(0);
    for _ in 0..3 {
        tls.refresh_traffic_keys().expect("TLS 1.3");
        let mut asked = Vec::new();
        tls.write_tls(&mut asked).expect("into memory");
        socket.write_all(&asked).await.expect("written");
    }
    let (mut other, _) = clients.remove(0);
    // A record that nobody has sealed.
    let record = [&[0x17, 3, 3, 0, 20][..], &[7; 20]].concat();
    other.write_all(&record).await.expect("written");
    let mut rest = Vec::new();
    // What had come before, an alert, and the end.
    let _ =
        tokio::time::timeout(Duration::from_secs(20), other.read_to_end(&mut rest)).await.expect("it ends");

    world.log.append(&name(), vec![EventDraft::new("after")]).await.expect("appends");
    let (mut chunks, mut data) = (Chunks::of(Encoding::Identity), Vec::new());
    let mut read = vec![0; 1 << 14];
    let waiting = async {
        while !String::from_utf8_lossy(&data).contains("data: after\n") {
            let n = socket.read(&mut read).await.expect("reads");
            assert!(n > 0, "still there");
            let mut bytes = &read[..n];
            while !bytes.is_empty() {
                tls.read_tls(&mut bytes).expect("from memory");
                tls.process_new_packets().expect("by the new keys");
            }
            let mut plain = Vec::new();
            let _ = std::io::Read::read_to_end(&mut tls.reader(), &mut plain);
            data.extend(chunks.feed(&plain));
        }
    };
    tokio::time::timeout(Duration::from_secs(20), waiting).await.expect("it comes");
    assert_eq!(world.engine.parked(), 1, "the other is gone");
    drop(socket);
    world.ended().await;
}
