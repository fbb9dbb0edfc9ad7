//! Control nodes compare the rings of those whose leases they hold with their own.

use evergate_proto::control::v1 as proto;
use evergate_tests::controls::Controls;
use evergate_tests::figures::figure;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use proto::control_client::ControlClient;
use proto::lease_request::{Beat, Hello, What};
use tokio::sync::mpsc;
use tokio_stream::wrappers::ReceiverStream;

use crate::places::{edge, knows};

const COUNTED: &str = "evergate_ring_mismatches_total";

/// A lease of somebody who says of its ring what the test wants.
struct Liar {
    say: mpsc::Sender<proto::LeaseRequest>,
    answers: tonic::Streaming<proto::LeaseResponse>,
}

impl Liar {
    /// A relay: it takes no clients, and the ring stays as it is.
    async fn hello(controls: &Controls) -> Self {
        let node = proto::Node {
            name: "liar".to_owned(),
            role: proto::Role::Relay.into(),
            region: "eu".to_owned(),
            zone: "z".to_owned(),
            capacity: 1,
            admits_per_second: 1,
            weight: 100,
            version: "0".to_owned(),
            format: 2,
            incarnation: 1,
            held: true,
            ..proto::Node::default()
        };
        let (say, said) = mpsc::channel(8);
        let hello = Hello { cluster: "evergate".to_owned(), node: Some(node) };
        say.send(proto::LeaseRequest { what: Some(What::Hello(hello)) }).await.expect("there is room");
        let address = format!("http://{}", controls.address(0));
        let mut client = ControlClient::connect(address).await.expect("it is there");
        let answers = client.lease(ReceiverStream::new(said)).await.expect("it is heard").into_inner();
        let mut liar = Self { say, answers };
        liar.heard().await;
        liar
    }

    async fn beat(&mut self, ring_version: u64, ring_digest: u64) {
        let beat = Beat { ring_version, ring_digest, ..Beat::default() };
        self.say.send(proto::LeaseRequest { what: Some(What::Beat(beat)) }).await.expect("there is room");
        self.heard().await;
    }

    async fn heard(&mut self) {
        self.answers.message().await.expect("no failure").expect("an answer");
    }
}

#[tokio::test]
async fn another_ring_of_the_same_version_is_counted_once_and_told_of() {
    let controls = Controls::start(1).await;
    let edge = Evergate::start(edge(&controls, Options::memory(), "edge-a")).await;
    // From here on it tells its ring, for it has been asked by it.
    knows(&edge, 1).await;
    let mut liar = Liar::hello(&controls).await;
    let status = controls.json(0, &["status"]).expect("it is told");
    let version = status["ring_version"].as_u64().expect("a number");
    let digest = u64::from_str_radix(status["ring_digest"].as_str().expect("text"), 16).expect("a digest");
    let page = call(edge.admin(), Request::get("/metrics")).await;
    assert_eq!(figure(page.text(), "evergate_ring_version"), Some(version as f64));

    // The same, one of another time, and none.
    for (version, digest) in [(version, digest), (version + 1, 7), (0, 0)] {
        liar.beat(version, digest).await;
    }
    assert_eq!(controls.figure(0, COUNTED).await, Some(0.0));
    for _ in 0..3 {
        liar.beat(version, digest ^ 1).await;
    }
    liar.beat(version, digest).await;
    assert_eq!(controls.figure(0, COUNTED).await, Some(1.0), "once, and nobody else");
    let said = controls.output(0);
    assert!(said.contains("a node places clients by another ring") && said.contains("node=liar"), "{said}");
}
