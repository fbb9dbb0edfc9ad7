//! Ways to the servers: over TLS, by their names, and through what translates addresses.

use std::sync::atomic::{AtomicUsize, Ordering};

use evergate_domain::Retention;
use tokio::net::{TcpListener, TcpStream};

use super::super::testing::{clock, free_port, until};
use super::deployments::{cluster_of, everything_works, stream, until_it_watches};
use super::*;

/// An authority, and a certificate of its for this machine, as files.
struct Certificates {
    _folder: tempfile::TempDir,
    authority: Vec<u8>,
    /// What a server is told to use them.
    words: Vec<String>,
}

impl Certificates {
    fn make() -> Self {
        let key = rcgen::KeyPair::generate().expect("a key");
        let mut params = rcgen::CertificateParams::new(vec![]).expect("valid");
        params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
        // Another name than the certificate's, or OpenSSL takes that for one that signed itself.
        params.distinguished_name.push(rcgen::DnType::CommonName, "the tests' authority");
        let authority = params.self_signed(&key).expect("signs");
        let issuer = rcgen::Issuer::new(params, key);
        let server_key = rcgen::KeyPair::generate().expect("a key");
        let params = rcgen::CertificateParams::new(vec!["127.0.0.1".to_owned(), "localhost".to_owned()]);
        let certificate = params.expect("valid").signed_by(&server_key, &issuer).expect("signs");
        let folder = tempfile::tempdir().expect("a directory");
        let file = |name: &str, text: String| {
            let path = folder.path().join(name);
            std::fs::write(&path, text).expect("the folder is ours");
            path.to_str().expect("plain").to_owned()
        };
        let words = [
            ["--tls-cert-file".to_owned(), file("cert.pem", certificate.pem())],
            ["--tls-key-file".to_owned(), file("key.pem", server_key.serialize_pem())],
            ["--tls-ca-cert-file".to_owned(), file("ca.pem", authority.pem())],
            ["--tls-auth-clients".to_owned(), "no".to_owned()],
        ];
        Self { authority: authority.pem().into_bytes(), words: words.concat(), _folder: folder }
    }

    /// These words before them.
    fn and(&self, words: &[&str]) -> Vec<String> {
        words.iter().map(|&word| word.to_owned()).chain(self.words.iter().cloned()).collect()
    }
}

async fn start(words: &[String]) -> Server {
    Server::start_with(&words.iter().map(String::as_str).collect::<Vec<_>>()).await
}

fn options(url: &str, ca: Option<Vec<u8>>) -> RedisOptions {
    RedisOptions { ca, ..RedisOptions::new(RedisUrl::parse(url).expect("valid")) }
}

async fn opened(options: RedisOptions) -> Arc<RedisLog> {
    log(options, StreamPolicies::open(Retention::FOREVER), clock()).await
}

/// The hosts and ports of all primaries that a log found.
fn primaries(log: &RedisLog) -> Vec<String> {
    let map = log.shared.topology.now();
    let mut found: Vec<_> = map.primaries().map(|node| node.place.address.to_string()).collect();
    found.sort();
    found
}

#[tokio::test]
async fn over_tls_only_who_is_vouched_for_is_believed() {
    let certificates = Certificates::make();
    let port = free_port().to_string();
    let _server = start(&certificates.and(&["--tls-port", &port])).await;
    let trusted = Some(certificates.authority.clone());
    let by_number = opened(options(&format!("rediss://127.0.0.1:{port}"), trusted.clone())).await;
    everything_works(&by_number).await;
    by_number.close().await;
    let by_name = opened(options(&format!("rediss://localhost:{port}"), trusted)).await;
    assert_eq!(by_name.status(&stream(0)).await.expect("stands").tail.seq.get(), 2);
    by_name.close().await;
    let refused = async |ca| {
        let options = options(&format!("rediss://127.0.0.1:{port}"), ca);
        match RedisLog::open(options, Arc::default(), clock()).await {
            Ok(_) => panic!("opened"),
            Err(error) => error.to_string(),
        }
    };
    let told = refused(None).await;
    assert!(told.starts_with("no Redis answers at ") && told.contains("certificate"), "{told}");
    let told = refused(Some(b"no certificate".to_vec())).await;
    assert!(told.starts_with("no Redis answers at "), "{told}");
}

/// Nodes and clients speak TLS; a client over TLS is told the ports for that.
#[tokio::test]
async fn a_cluster_over_tls() {
    let certificates = Certificates::make();
    let ports = [free_port().to_string(), free_port().to_string()];
    let _nodes = cluster_of(|n| certificates.and(&["--tls-port", &ports[n], "--tls-cluster", "yes"])).await;
    let url = format!("rediss-cluster://127.0.0.1:{}", ports[0]);
    let log = opened(options(&url, Some(certificates.authority.clone()))).await;
    let mut expected = ports.each_ref().map(|port| format!("127.0.0.1:{port}"));
    expected.sort();
    assert_eq!(primaries(&log), expected);
    everything_works(&log).await;
    log.close().await;
}

#[tokio::test]
async fn a_sentinel_over_tls() {
    let certificates = Certificates::make();
    let [port, at] = [free_port().to_string(), free_port().to_string()];
    let _primary = start(&certificates.and(&["--tls-port", &port])).await;
    let words = certificates.and(&["--tls-port", &at, "--tls-replication", "yes"]);
    let lines: Vec<_> = words.chunks(2).map(|pair| format!("{} {}", &pair[0][2..], pair[1])).collect();
    let monitor = format!("sentinel monitor main 127.0.0.1 {port} 1");
    let sentinel = Server::sentinel(&format!("{}\n{monitor}\n", lines.join("\n"))).await;
    until_it_watches(&sentinel).await;
    let url = format!("rediss-sentinel://127.0.0.1:{at}/main");
    let log = opened(options(&url, Some(certificates.authority.clone()))).await;
    assert_eq!(primaries(&log), [format!("127.0.0.1:{port}")]);
    everything_works(&log).await;
    log.close().await;
    let told = RedisLog::open(options(&url, None), Arc::default(), clock()).await.err().expect("refused");
    assert!(told.to_string().starts_with("no Sentinel answers at "), "{told}");
}

/// As where certificates stand for names and not for numbers.
#[tokio::test]
async fn a_cluster_whose_nodes_are_called_by_names() {
    let certificates = Certificates::make();
    let ports = [free_port().to_string(), free_port().to_string()];
    let _nodes = cluster_of(|n| {
        let names =
            ["--cluster-announce-hostname", "localhost", "--cluster-preferred-endpoint-type", "hostname"];
        let tls = ["--tls-port", &ports[n], "--tls-cluster", "yes"];
        certificates.and(&[&names[..], &tls].concat())
    })
    .await;
    let url = format!("rediss-cluster://127.0.0.1:{}", ports[1]);
    let log = opened(options(&url, Some(certificates.authority.clone()))).await;
    let mut expected = ports.each_ref().map(|port| format!("localhost:{port}"));
    expected.sort();
    // A name travels from node to node with their next words.
    until("both names are known", || async { primaries(&log) == expected }).await;
    everything_works(&log).await;
    log.close().await;
}

/// Passes on whatever comes to a server that nobody can reach otherwise, and counts who came.
async fn pass_on(listener: TcpListener, to: u16, came: Arc<AtomicUsize>) {
    let mut passing = tokio::task::JoinSet::new();
    while let Ok((mut near, _)) = listener.accept().await {
        came.fetch_add(1, Ordering::Relaxed);
        passing.spawn(async move {
            let mut far = TcpStream::connect(("127.0.0.1", to)).await.expect("the server listens");
            let _ = tokio::io::copy_bidirectional(&mut near, &mut far).await;
        });
    }
}

/// The nodes stand behind address translation, and announce where they can be reached.
#[tokio::test]
async fn a_cluster_behind_address_translation() {
    let doors = [TcpListener::bind("127.0.0.1:0").await, TcpListener::bind("127.0.0.1:0").await];
    let doors = doors.map(|door| door.expect("a port"));
    let ports = doors.each_ref().map(|door| door.local_addr().expect("bound").port().to_string());
    let nodes = cluster_of(|n| {
        let words = ["--cluster-announce-ip", "127.0.0.1", "--cluster-announce-port", &ports[n]];
        words.map(str::to_owned).to_vec()
    })
    .await;
    let came = [Arc::<AtomicUsize>::default(), Arc::default()];
    let mut passing = tokio::task::JoinSet::new();
    for ((door, node), came) in doors.into_iter().zip(&nodes).zip(&came) {
        passing.spawn(pass_on(door, node.port(), Arc::clone(came)));
    }
    let log = opened(options(&format!("redis-cluster://127.0.0.1:{}", ports[0]), None)).await;
    let mut expected = ports.each_ref().map(|port| format!("127.0.0.1:{port}"));
    expected.sort();
    assert_eq!(primaries(&log), expected, "as they announce themselves");
    everything_works(&log).await;
    log.close().await;
    for came in &came {
        assert!(came.load(Ordering::Relaxed) >= 4, "a connection for each purpose came by the announced way");
    }
}
