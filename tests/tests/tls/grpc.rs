//! gRPC over TLS: publishers that prove themselves, and nodes that do.

use std::time::Duration;

use evergate_proto::edge::v1::PingRequest;
use evergate_proto::edge::v1::edge_client::EdgeClient;
use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, Signed, text};
use evergate_tests::http1::{Connection, Request};
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::program::Program;
use evergate_tests::publisher::{Publisher, event, produced};
use evergate_tests::subscription::Subscription;
use tonic::Code;

use crate::{EVENTS, HERE};

/// gRPC over TLS with this certificate.
fn grpc_over_tls(options: Options, shown: &Signed) -> Options {
    options
        .set("grpc.tls", "on")
        .set("tls.certificate_files", text(&shown.certificate))
        .set("tls.key_files", text(&shown.key))
}

#[tokio::test]
async fn a_producer_is_used_only_by_whom_it_is_bound_to() {
    let (authority, publishers) = (Authority::new(), Authority::new());
    let shown = authority.sign("edge", &HERE);
    let options = grpc_over_tls(Options::memory(), &shown)
        .set("http.tls", "on")
        .set("http.client_certificates", "optional")
        .set("http.client_ca_file", text(&publishers.file()))
        .set("grpc.client_certificates", "optional")
        .set("grpc.client_ca_file", text(&publishers.file()))
        .set("publish.producers", "spiffe://example.com/pricing/*=pricing-*,billing.example.com=billing");
    let server = Evergate::start(options).await;
    let pricing = publishers.sign("pricing", &["spiffe://example.com/pricing/eu"]);
    let billing = publishers.sign("billing", &["billing.example.com"]);
    let by = async |identity: Option<&Signed>| {
        Publisher::over(authority.channel(server.grpc(), identity).await.expect("connected"))
    };
    let (pricing_by, billing_by, nobody_by) =
        (by(Some(&pricing)).await, by(Some(&billing)).await, by(None).await);
    for (publisher, producer, taken) in [
        (&pricing_by, "pricing-7", true),
        (&pricing_by, "billing", false),
        (&billing_by, "billing", true),
        (&billing_by, "billing-2", false),
        (&billing_by, "pricing-7", false),
        (&nobody_by, "billing", false),
    ] {
        let result = publisher.try_publish("s", produced(producer, 9, "x")).await;
        match result {
            Ok(_) => assert!(taken, "{producer} was used by somebody else"),
            Err(status) => {
                assert_eq!(status.code(), Code::PermissionDenied, "{producer}: {status:?}");
                assert!(!taken && status.message().contains(producer), "{status:?}");
            }
        }
    }
    assert!(nobody_by.try_publish("s", event("nobody's")).await.is_ok(), "no producer, no claim");

    // The same over HTTP.
    let body = r#"{"data":"x","producer":{"id":"billing","seq":10}}"#;
    let request = Request::post(EVENTS, "application/json", body);
    let post = async |identity: Option<&Signed>| {
        let wire = authority.connect(server.http(), &["http/1.1"], identity).await.expect("agreed");
        Connection::over(wire).call(&request).await
    };
    assert_eq!(post(Some(&billing)).await.status(), 200);
    post(Some(&pricing)).await.problem_with(403, "producer.id");
    post(None).await.problem_with(403, "producer.id");
}

#[tokio::test]
async fn who_has_to_prove_itself_and_cannot_publishes_nothing() {
    let (authority, publishers) = (Authority::new(), Authority::new());
    let options = grpc_over_tls(Options::memory(), &authority.sign("edge", &HERE))
        .set("grpc.client_certificates", "required")
        .set("grpc.client_ca_file", text(&publishers.file()));
    let server = Evergate::start(options).await;
    let known = publishers.sign("known", &["known.example"]);
    let stranger = authority.sign("stranger", &["known.example"]);
    let publish = async |identity: Option<&Signed>| {
        // Over TLS 1.3 a client learns only with its first call that it was refused.
        let channel = authority.channel(server.grpc(), identity).await.map_err(|error| error.to_string())?;
        Publisher::over(channel).try_publish("s", event("x")).await.map_err(|status| status.to_string())
    };
    assert!(publish(Some(&known)).await.is_ok());
    assert!(publish(Some(&stranger)).await.is_err() && publish(None).await.is_err());
    let plainly = async {
        let publisher = Publisher::try_connect(server.grpc()).await.map_err(|error| error.to_string())?;
        publisher.try_publish("s", event("x")).await.map_err(|status| status.to_string())
    };
    assert!(plainly.await.is_err(), "without TLS");
}

#[tokio::test]
async fn calls_between_edges_are_for_nodes_of_the_cluster() {
    let (authority, cluster) = (Authority::new(), Authority::new());
    let shown = authority.sign("edge", &HERE);
    let (node_a, node_b) = (cluster.sign("a", &HERE), cluster.sign("b", &HERE));
    let edge = |name: &str, node: &Signed| {
        // What the gRPC listener shows to other nodes has to be the node's own.
        grpc_over_tls(Options::memory(), node).set("cluster.ca_file", text(&cluster.file())).set("node", name)
    };
    let owner = Evergate::start(edge("a", &node_a)).await;
    let peers = format!("a=https://localhost:{}", owner.grpc().port());
    let other = Evergate::start(edge("b", &node_b).set("cluster.peers", &peers)).await;
    // An edge that proves to be somebody, but nobody of the cluster.
    let alien = Evergate::start(
        edge("c", &node_b)
            .set("cluster.peers", &peers)
            .set("cluster.certificate_file", text(&shown.certificate))
            .set("cluster.key_file", text(&shown.key)),
    )
    .await;

    let mut stream = Subscription::open(owner.http(), &format!("{EVENTS}?lease=1")).await;
    let connection = stream.opened().await.connection;
    let ping = Request::new("POST", &format!("/v1/connections/{connection}/ping"));
    let through = async |edge: &Evergate| Connection::open(edge.http()).await.call(&ping).await.status();
    assert_eq!(through(&owner).await, 204);
    assert_eq!(through(&other).await, 204, "passed on over TLS");
    assert_eq!(through(&alien).await, 503, "refused by the owner");

    // A publisher's connection is taken, and may not speak as a node.
    let ask = async |authority: &Authority, identity: Option<&Signed>| {
        let channel = authority.channel(owner.grpc(), identity).await.expect("connected");
        let mut client = EdgeClient::new(channel);
        let call = client.ping(PingRequest { connection: connection.clone() });
        tokio::time::timeout(PATIENCE, call).await.expect("answered")
    };
    assert_eq!(ask(&cluster, None).await.expect_err("nobody").code(), Code::FailedPrecondition);
    assert!(ask(&cluster, Some(&node_b)).await.is_ok());
}

#[tokio::test]
async fn the_commands_speak_tls() {
    let (authority, publishers) = (Authority::new(), Authority::new());
    let options = grpc_over_tls(Options::memory(), &authority.sign("edge", &HERE))
        .set("http.tls", "on")
        .set("sse.heartbeat", "1s")
        .set("grpc.client_certificates", "required")
        .set("grpc.client_ca_file", text(&publishers.file()));
    let server = Evergate::start(options).await;
    let known = publishers.sign("known", &["known.example"]);
    let ca = authority.file();
    let http = format!("https://localhost:{}", server.http().port());
    let grpc = format!("https://localhost:{}", server.grpc().port());

    let tail = ["tail", "s", "--server", &http, "--ca", text(&ca), "--output", "raw", "--count", "1"];
    let mut tail = Program::start(binary(), &[&tail[..], &["--from", "earliest"]].concat(), &[]);
    let publish = ["publish", "--stream", "s", "--server", &grpc, "--ca", text(&ca)];
    let proof = ["--cert", text(&known.certificate), "--cert-key", text(&known.key), "hello"];
    Program::start(binary(), &[&publish[..], &proof].concat(), &[]).finish().await;
    assert_eq!(tail.line().await, "hello");
    tail.finish().await;

    let unproven = [&publish[..], &["--give-up", "1", "hello"]].concat();
    assert!(!Program::start(binary(), &unproven, &[]).ended().await.success(), "without a certificate");
    let doctor = ["doctor", &http, "--ca", text(&ca), "--idle", "3"];
    let mut doctor = Program::start(binary(), &doctor, &[]);
    let mut told = String::new();
    while let Some(line) = doctor.try_line().await {
        told += &(line + "\n");
    }
    assert!(doctor.ended().await.success(), "{told}");
    assert!(told.lines().any(|line| line.contains("HTTP/2") && line.ends_with(" offered")), "{told}");
    // Nobody is believed whom nobody vouches for.
    let unknown = ["tail", "s", "--server", &http, "--count", "1"];
    let mut unknown = Program::start(binary(), &unknown, &[]);
    assert!(
        tokio::time::timeout(Duration::from_secs(2), unknown.try_line()).await.is_err(),
        "it goes on trying"
    );
}
