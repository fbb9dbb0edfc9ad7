//! Nodes that prove to each other who they are, and what happens to who does not.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::time::Duration;

use evergate_control::{Group, GroupSettings, Machine, RestoreError, Seeds, Timing};
use evergate_tls::{
    CertificateFiles, Client, ClientCertificates, ClientSettings, Protocol, Resumption, Roots, Server,
    ServerSettings, Version,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair};
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tonic::service::Routes;

const HANDSHAKE: Duration = Duration::from_secs(20);

#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    const FORMAT_READ: u32 = 1;
    const FORMAT_WRITTEN: u32 = 1;

    fn apply(&mut self, _: &[u8]) -> Vec<u8> {
        self.0 += 1;
        self.0.to_be_bytes().to_vec()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let count = snapshot.try_into().map_err(|_| RestoreError("it is no count".to_owned()))?;
        self.0 = u64::from_be_bytes(count);
        Ok(())
    }
}

type Issuer = CertifiedIssuer<'static, KeyPair>;

/// An authority, as a file too.
fn authority(dir: &Path) -> Issuer {
    let mut params = CertificateParams::new([]).expect("no names");
    params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
    let key = KeyPair::generate().expect("a key");
    let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
    fs::write(dir.join("ca.pem"), authority.pem()).expect("written");
    authority
}

/// A certificate for a host, a name or an address, in files named after it.
fn certificate(dir: &Path, authority: &Issuer, host: &str) -> CertificateFiles {
    let params = CertificateParams::new([host.to_owned()]).expect("a name");
    let key = KeyPair::generate().expect("a key");
    let signed = params.signed_by(&key, authority).expect("signed");
    let files = CertificateFiles {
        certificate: dir.join(format!("{host}.pem")),
        key: dir.join(format!("{host}.key")),
    };
    fs::write(&files.certificate, signed.pem()).expect("written");
    fs::write(&files.key, key.serialize_pem()).expect("written");
    files
}

fn client(dir: &Path, identity: Option<CertificateFiles>) -> Client {
    let roots = Roots::File(dir.join("ca.pem"));
    let protocols = vec![Protocol::Http2];
    Client::load(ClientSettings { roots, identity, protocols, handshake_timeout: HANDSHAKE })
        .expect("a client")
}

fn server(dir: &Path, files: CertificateFiles) -> Server {
    Server::load(ServerSettings {
        certificates: vec![files],
        clients: ClientCertificates::Required(vec![dir.join("ca.pem")]),
        resumption: Resumption::None,
        oldest: Version::Tls13,
        protocols: vec![Protocol::Http2],
        handshake_timeout: HANDSHAKE,
    })
    .expect("a server")
}

fn settings(id: u64, dir: &Path, address: &str, seeds: Seeds) -> GroupSettings {
    GroupSettings {
        cluster: "test".to_owned(),
        id,
        dir: dir.join(id.to_string()),
        address: address.to_owned(),
        seeds,
        identities: Vec::new(),
        timing: Timing::default(),
        command_bytes_max: 1024,
        snapshot_entries: 1000,
    }
}

/// Nothing of HTTP/2 comes, until the connection is cut.
async fn assert_silent(stream: &mut (impl AsyncRead + Unpin)) {
    let mut heard = Vec::new();
    // An alert of TLS may come, and a reset.
    let _ = stream.read_to_end(&mut heard).await;
    assert!(heard.len() < 16, "a server's settings: {heard:?}");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nodes_with_certificates_agree_and_one_without_is_left_out() {
    let dir = tempfile::tempdir().expect("a folder");
    let files = certificate(dir.path(), &authority(dir.path()), "localhost");
    let mut listeners = BTreeMap::new();
    for id in 1..=3 {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0").await.expect("a port"));
    }
    // By its name, for that is what the certificate is for.
    let address =
        |listener: &TcpListener| format!("localhost:{}", listener.local_addr().expect("bound").port());
    let peers: BTreeMap<_, _> = listeners.iter().map(|(id, listener)| (*id, address(listener))).collect();
    let mut groups = Vec::new();
    for (id, listener) in listeners {
        let settings = settings(id, dir.path(), &peers[&id], Seeds::Listed(peers.clone()));
        let client = client(dir.path(), Some(files.clone()));
        let mut group = Group::start(settings, Count::default(), Some(client)).await.expect("starts");
        group.serve(listener, Some(server(dir.path(), files.clone())), Routes::default());
        groups.push(group);
    }
    let mut handle = groups[2].handle();
    while handle.status().leader.is_none() {
        handle.changed().await.expect("it runs");
    }
    let answer = handle.propose(b"one".to_vec()).await.expect("agreed on");
    assert_eq!(answer.bytes, 1u64.to_be_bytes());
    assert_eq!(handle.read(|count, _| count.0).await.expect("the latest"), 1);

    // Whoever shows no certificate, or speaks plainly, hears nothing of them.
    let (_, port) = peers[&1].rsplit_once(':').expect("a port");
    let connect = || TcpStream::connect(("127.0.0.1", port.parse().expect("a number")));
    let mut plain = connect().await.expect("somebody listens");
    plain.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("written");
    assert_silent(&mut plain).await;
    let socket = connect().await.expect("somebody listens");
    if let Ok(mut nameless) = client(dir.path(), None).connect("localhost", socket).await {
        assert_silent(&mut nameless.stream).await;
    }
    // And a node that serves plainly cannot be added: it does not prove to be anybody.
    let listener = TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let at = address(&listener);
    let settings = settings(9, dir.path(), &at, Seeds::Nobody);
    let mut stranger = Group::start(settings, Count::default(), None).await.expect("starts");
    stranger.serve(listener, None, Routes::default());
    let added = handle.add(9, &at).await.expect_err("it speaks plainly");
    assert!(added.to_string().contains("cannot connect by TLS"), "{added}");
    stranger.stop().await;
    for group in groups {
        group.stop().await;
    }
}

/// Nodes at hosts of their own, each with a certificate for that.
struct Nodes {
    dir: tempfile::TempDir,
    authority: Issuer,
    groups: BTreeMap<u64, Group<Count>>,
}

impl Nodes {
    fn new() -> Self {
        let dir = tempfile::tempdir().expect("a folder");
        let authority = authority(dir.path());
        Self { dir, authority, groups: BTreeMap::new() }
    }

    /// A listener at a node's host, at a port of the system's choice.
    async fn bind(id: u64) -> TcpListener {
        TcpListener::bind((format!("127.0.0.{id}"), 0)).await.expect("a port")
    }

    /// Starts a node; `patience` is how long it waits for a leader before it stands for election.
    async fn start(&mut self, id: u64, listener: TcpListener, seeds: Seeds, patience: Duration) {
        let address = listener.local_addr().expect("bound");
        let files = certificate(self.dir.path(), &self.authority, &address.ip().to_string());
        let timing = Timing { election_min: patience, election_max: patience * 2, ..Timing::default() };
        let settings = GroupSettings { timing, ..settings(id, self.dir.path(), &address.to_string(), seeds) };
        let client = client(self.dir.path(), Some(files.clone()));
        let mut group = Group::start(settings, Count::default(), Some(client)).await.expect("starts");
        group.serve(listener, Some(server(self.dir.path(), files)), Routes::default());
        self.groups.insert(id, group);
    }

    async fn stop(&mut self, id: u64) {
        self.groups.remove(&id).expect("it runs").stop().await;
    }
}

/// Waits until there is something.
async fn until<T>(what: &str, mut so: impl AsyncFnMut() -> Option<T>) -> T {
    let looking = async {
        loop {
            match so().await {
                Some(found) => return found,
                None => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(60), looking).await.unwrap_or_else(|_| panic!("never: {what}"))
}

/// It knows nothing of those that came, one of whom leads: it takes their word once one that it knows has told of them.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_was_away_follows_a_leader_that_came_meanwhile() {
    const SLOW: Duration = Duration::from_secs(4);
    const QUICK: Duration = Duration::from_millis(800);
    let mut nodes = Nodes::new();
    let mut listeners = Vec::new();
    for id in 1..=3 {
        listeners.push((id, Nodes::bind(id).await));
    }
    let address = |listener: &TcpListener| listener.local_addr().expect("bound").to_string();
    let peers: BTreeMap<_, _> = listeners.iter().map(|(id, listener)| (*id, address(listener))).collect();
    for (id, listener) in listeners {
        nodes.start(id, listener, Seeds::Listed(peers.clone()), SLOW).await;
    }
    let first = nodes.groups[&1].handle();
    until("an agreement", async || first.propose(b"one".to_vec()).await.ok()).await;
    // Of three nodes one is away, and others come.
    nodes.stop(3).await;
    for id in [4, 5] {
        let listener = Nodes::bind(id).await;
        let at = address(&listener);
        nodes.start(id, listener, Seeds::Nobody, QUICK).await;
        until("a new member", async || first.add(id, &at).await.ok()).await;
        until("a new voter", async || first.promote(id).await.ok()).await;
    }
    // The leader goes, and of the rest those are the first to notice that the third never heard of.
    let leader = until("a leader", async || first.status().leader).await;
    if leader < 3 {
        nodes.stop(leader).await;
    }
    let newer = nodes.groups[&4].handle();
    let leads = |status: &evergate_control::Status| status.leader.is_some_and(|leader| leader > 3);
    until("a new leader", async || leads(&newer.status()).then_some(())).await;
    until("an agreement", async || newer.propose(b"two".to_vec()).await.ok()).await;

    let listener = TcpListener::bind(&peers[&3]).await.expect("its own port");
    nodes.start(3, listener, Seeds::Listed(peers), SLOW).await;
    let third = nodes.groups[&3].handle();
    let follows = async || (third.look(|count, _| count.0) >= 2).then_some(());
    until("what was agreed on meanwhile", follows).await;
    assert_eq!(third.status().members.len(), 5);
    until("an agreement", async || third.propose(b"three".to_vec()).await.ok()).await;
    for (_, group) in std::mem::take(&mut nodes.groups) {
        group.stop().await;
    }
}
