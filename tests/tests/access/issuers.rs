//! Keys that an issuer publishes at an address, and tokens signed by what it keeps for itself.

use std::time::{Duration, Instant};

use evergate_tests::authority::Authority;
use evergate_tests::figures::metric;
use evergate_tests::http1::{Request, call};
use evergate_tests::key_server::{KeyServer, answer};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::signer::{Signer, base64, key_set};
use evergate_tests::subscription::Subscription;
use serde_json::{Value, json};

use crate::{EVENTS, bearer};

/// For what comes with the next look at the keys, which is every ten seconds.
const PATIENCE: Duration = Duration::from_secs(60);

/// A set that is larger than this is not read.
const KEY_SET_BYTES_MAX: usize = 256 << 10;

fn grants() -> Value {
    json!({ "subscribe": ["quote"] })
}

/// How somebody with this token is answered.
async fn status(server: &Evergate, token: &str) -> u16 {
    call(server.http(), bearer(Request::new("HEAD", EVENTS), token)).await.status()
}

async fn until_status(server: &Evergate, token: &str, wanted: u16) {
    let began = Instant::now();
    loop {
        let status = status(server, token).await;
        if status == wanted {
            return;
        }
        assert!(began.elapsed() < PATIENCE, "{status} and not {wanted}: {}", server.output());
        tokio::time::sleep(Duration::from_millis(200)).await;
    }
}

#[tokio::test]
async fn what_an_issuer_publishes_vouches_for_its_tokens_and_for_no_others() {
    let authority = Authority::new();
    let signers = [Signer::rs256("r"), Signer::es256("e"), Signer::eddsa("d")];
    let issuer = KeyServer::start(&authority, &key_set(&signers.each_ref())).await;
    let server = Evergate::start(issuer.guard(&authority, Options::memory())).await;
    for signer in &signers {
        let token = signer.token("alice", 600, &grants());
        until_status(&server, &token, 200).await;
        let mut stream = Subscription::request(server.http(), &bearer(Request::get(EVENTS), &token)).await;
        stream.opened().await;
    }
    // Another key under the same name.
    for forger in [Signer::es256("e"), Signer::eddsa("d")] {
        let forged = forger.token("alice", 600, &grants());
        call(server.http(), bearer(Request::get(EVENTS), &forged)).await.problem(401);
    }
    // What everybody can read is no secret to sign with.
    let header = json!({ "alg": "HS256", "kid": "r" });
    let signed = format!(
        "{}.{}",
        base64(header.to_string()),
        base64(json!({ "sub": "alice", "exp": 4_000_000_000_u64, "evergate": grants() }).to_string())
    );
    for secret in [signers[0].jwk().to_string(), signers[0].jwk()["n"].as_str().expect("text").to_owned()] {
        let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, secret.as_bytes());
        let forged = format!("{signed}.{}", base64(ring::hmac::sign(&key, signed.as_bytes())));
        call(server.http(), bearer(Request::get(EVENTS), &forged)).await.problem(401);
    }
}

#[tokio::test]
async fn an_issuer_changes_its_keys_and_may_be_away_meanwhile() {
    let authority = Authority::new();
    let (old, new, newest) = (Signer::es256("old"), Signer::eddsa("new"), Signer::es256("newest"));
    let issuer = KeyServer::start(&authority, &key_set(&[&old])).await;
    let server = Evergate::start(issuer.guard(&authority, Options::memory())).await;
    let tokens = [&old, &new, &newest].map(|signer| signer.token("alice", 3600, &grants()));
    let [by_old, by_new, by_newest] = &tokens;
    until_status(&server, by_old, 200).await;
    assert_eq!(status(&server, by_new).await, 401);

    // Both for a while, as a good issuer does; then the new one alone.
    issuer.publish(&key_set(&[&old, &new]));
    until_status(&server, by_new, 200).await;
    assert_eq!(status(&server, by_old).await, 200);
    issuer.publish(&key_set(&[&new]));
    until_status(&server, by_old, 401).await;
    let mut stream = Subscription::request(server.http(), &bearer(Request::get(EVENTS), by_new)).await;
    stream.opened().await;

    issuer.answer(Some(answer("503 Service Unavailable", &[], "")));
    server.writes("it answers 503").await;
    issuer.asked_again().await;
    // Whoever is known is still, live streams go on, and nobody else is let in.
    assert_eq!(status(&server, by_new).await, 200);
    assert_ne!(status(&server, by_newest).await, 200);
    let by_publisher = new.token("publisher", 600, &json!({ "publish": ["quote"] }));
    let post = bearer(Request::post(EVENTS, "text/plain", "still"), &by_publisher);
    assert_eq!(call(server.http(), post).await.status(), 200);
    assert_eq!(stream.data(1).await, ["still"]);
    assert!(metric(&server, "evergate_access_keys_unread_total", "").await >= 1.0);

    issuer.publish(&key_set(&[&new, &newest]));
    until_status(&server, by_newest, 200).await;
    server.writes("keys can be read again").await;
}

/// However a source answers that does not answer with keys: it is told, nobody is let in by it, and who asks without a
/// token is served as ever.
#[tokio::test]
async fn what_is_no_set_of_keys_is_told_and_nobody_is_let_in_by_it() {
    let authority = Authority::new();
    let (evil, good) = (Signer::es256("evil"), Signer::es256("good"));
    let elsewhere = KeyServer::start(&authority, &key_set(&[&evil])).await;
    let evils = key_set(&[&evil]);
    let with_secret = json!({ "keys": [
        evil.jwk(),
        { "kty": "oct", "kid": "s", "alg": "HS256", "k": base64([7; 64]) },
    ] });
    let padded = format!("{evils}{}", " ".repeat(KEY_SET_BYTES_MAX));
    let (found, there) = ("302 Found", elsewhere.url());
    let redirect = [("Location", there.as_str())];
    for (what, bytes, told) in [
        ("a redirect", Some(answer(found, &redirect, &evils)), "it answers 302 Found"),
        ("an error", Some(answer("500 Internal Server Error", &[], &evils)), "it answers 500"),
        ("nothing new", Some(answer("304 Not Modified", &[], "")), "it answers 304"),
        ("too much", Some(answer("200 OK", &[], &padded)), "breaks off or is too long"),
        ("a secret", Some(answer("200 OK", &[], &with_secret.to_string())), "key 2"),
        ("a page", Some(answer("200 OK", &[], "<html>")), "no JSON Web Key Set"),
        ("no HTTP", Some(b"SSH-2.0-OpenSSH_9.2\r\n".to_vec()), "no answer"),
        ("nothing", None, "it took longer than 5 s"),
    ] {
        let issuer = KeyServer::start(&authority, "").await;
        issuer.answer(bytes);
        let options = issuer.guard(&authority, Options::memory());
        let options =
            options.set("access.anonymous_subscribe", "open").set("access.anonymous_publish", "open");
        let server = Evergate::start(options).await;
        server.writes(told).await;
        assert_ne!(status(&server, &evil.token("alice", 600, &grants())).await, 200, "{what}");
        let mut open = Subscription::open(server.http(), "/v1/streams/open/events").await;
        open.opened().await;
        Publisher::connect(server.grpc()).await.publish("open", event(what)).await;
        assert_eq!(open.data(1).await, [what]);
        if what == "a redirect" {
            assert_eq!(elsewhere.asked(), 0, "a redirect is not followed");
        }
        // The way back is the same for all of them.
        if matches!(what, "a redirect" | "nothing") {
            issuer.publish(&key_set(&[&good]));
            until_status(&server, &good.token("alice", 600, &grants()), 200).await;
        }
    }
}

/// An issuer that cannot prove its name is not believed, whatever it says.
#[tokio::test]
async fn an_issuer_that_is_somebody_else_is_not_believed() {
    let (authority, stranger) = (Authority::new(), Authority::new());
    let signer = Signer::es256("e");
    let issuer = KeyServer::start(&stranger, &key_set(&[&signer])).await;
    let server = Evergate::start(issuer.guard(&authority, Options::memory())).await;
    server.writes("keys cannot be read").await;
    assert_ne!(status(&server, &signer.token("alice", 600, &grants())).await, 200);
    assert_eq!(issuer.asked(), 0, "nothing was said to it");
}
