//! The files: what is wrong with them is said at the start, and changed ones take effect without a stream
//! being dropped.

use std::collections::BTreeMap;
use std::fs;
use std::time::{Duration, SystemTime};

use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, over_tls, text};
use evergate_tests::http1::{Connection, Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::Subscription;
use rustix::process::Signal;

use crate::{EVENTS, HERE, metric, server};

/// The certificate that a client is shown now, as DER.
async fn shown_now(authority: &Authority, server: &Evergate) -> Vec<u8> {
    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    wire.get_ref().1.peer_certificates().expect("shown")[0].to_vec()
}

async fn until(what: &str, mut so: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !so().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    assert!(tokio::time::timeout(PATIENCE, waiting).await.is_ok(), "never: {what}");
}

#[tokio::test]
async fn a_renewed_certificate_is_shown_to_those_who_come_and_drops_nobody() {
    // Nobody looks by itself within the test: what is seen is by SIGHUP.
    let (authority, shown, server) = server(Options::disk().set("tls.reload_interval", "1h")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let wire = authority.connect(server.http(), &["http/1.1"], None).await.expect("agreed");
    let mut connection = Connection::over(wire);
    connection.send(&Request::get(EVENTS)).await;
    let mut stream = Subscription::over(connection).await.expect("answered");
    stream.opened().await;
    let old = shown_now(&authority, &server).await;

    // Half of a pair: what was there goes on, and it is said.
    let new = authority.sign("new", &HERE);
    fs::copy(&new.certificate, &shown.certificate).expect("the folder is ours");
    server.signal(Signal::HUP);
    server.writes("does not belong to").await;
    server.writes("what was read before goes on").await;
    assert_eq!(shown_now(&authority, &server).await, old);

    new.replace(&shown);
    server.signal(Signal::HUP);
    until("the new one is shown", async || shown_now(&authority, &server).await != old).await;
    publisher.publish_all("s", ["still", "there"]).await;
    assert_eq!(stream.data(2).await, ["still", "there"]);
}

#[tokio::test]
async fn changed_files_are_noticed_without_being_told() {
    let (authority, shown, server) = server(Options::memory().set("tls.reload_interval", "100ms")).await;
    let old = shown_now(&authority, &server).await;
    authority.sign("new", &HERE).replace(&shown);
    until("the new one is shown", async || shown_now(&authority, &server).await != old).await;
}

#[tokio::test]
async fn files_that_make_no_tls_are_named_at_the_start() {
    let authority = Authority::new();
    let (a, b) = (authority.sign("a", &HERE), authority.sign("b", &HERE));
    let empty = authority.path("empty.pem");
    fs::write(&empty, "").expect("the folder is ours");
    let (missing, empty) = (authority.path("missing.key"), text(&empty));
    let refused = async |changes: &[(&str, &str)]| {
        let mut settings = BTreeMap::from([
            ("http.tls", "on"),
            ("tls.certificate_files", text(&a.certificate)),
            ("tls.key_files", text(&a.key)),
        ]);
        settings.extend(changes.iter().copied());
        let options =
            settings.iter().fold(Options::memory(), |options, (key, value)| options.set(key, value));
        Evergate::refusal(options).await
    };
    for (changes, expected) in [
        (&[("tls.key_files", text(&missing))][..], "cannot read ".to_owned() + text(&missing)),
        (
            &[("tls.key_files", text(&b.key))],
            format!("the key {} does not belong to the certificate {}", text(&b.key), text(&a.certificate)),
        ),
        (&[("tls.certificate_files", empty)], format!("{empty}: holds no certificate in PEM")),
        (
            &[("http.client_certificates", "required"), ("http.client_ca_file", empty)],
            format!("{empty}: holds no certificate in PEM"),
        ),
        (
            &[("tls.ticket_secrets_file", empty)],
            format!("{empty}: holds no secret; `openssl rand -hex 32` makes one"),
        ),
    ] {
        let told = refused(changes).await;
        assert!(told.contains(&expected), "{expected:?} is not told: {told}");
        assert!(told.contains("no TLS for HTTP"), "{told}");
    }
}

#[tokio::test]
async fn the_end_of_a_certificate_is_seen_coming() {
    let authority = Authority::new();
    let late = authority.sign_until("late", &HERE, 2020);
    let server = Evergate::start(over_tls(Options::memory(), &late)).await;
    let sentence = format!("the certificate {} has expired, and clients refuse it", text(&late.certificate));
    server.writes(&sentence).await;
    let ready = call(server.admin(), Request::get("/readyz")).await;
    assert_eq!(ready.status(), 200, "what all edges have at once must not empty the balancer");
    let ready = ready.json();
    assert_eq!(ready["troubles"], serde_json::json!([sentence]));
    let days = ready["certificates_days_left"][text(&late.certificate)].as_i64().expect("told");
    assert!(days < -1_000, "{ready}");
    let which = format!("certificate=\"{}\"", text(&late.certificate));
    let not_after = metric(&server, "evergate_tls_certificate_not_after_seconds", &[&which]).await;
    assert!((not_after - 1_577_836_800.0).abs() < 1.0, "the beginning of 2020, not {not_after}");
    let since = SystemTime::now().duration_since(SystemTime::UNIX_EPOCH).expect("after 1970");
    assert!(not_after < since.as_secs_f64());
}
