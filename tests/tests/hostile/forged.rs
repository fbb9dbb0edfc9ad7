//! Tokens, origins and tickets that somebody made up, took from elsewhere or uses twice.

use evergate_tests::http1::{Connection, Request, Response, call};
use evergate_tests::issuer::{Issuer, now};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::signer::{Signer, base64, key_set};
use evergate_tests::subscription::Subscription;
use ring::hmac;
use serde_json::{Value, json};

use crate::{EVENTS, during};

const ORIGIN: &str = "https://app.example.com";
const ROUNDS: usize = 20;

/// A server that asks for tokens; the witness, which has none, may read and write its own stream.
async fn guarded() -> (Signer, tempfile::TempDir, Evergate) {
    let signer = Signer::es256("key");
    let folder = tempfile::tempdir().expect("a folder");
    let keys = folder.path().join("keys.json");
    std::fs::write(&keys, key_set(&[&signer])).expect("the folder is ours");
    let options = Options::memory()
        .set("access.mode", "tokens")
        .set("access.keys", &format!("file:{}", keys.display()))
        .set("access.leeway", "0s")
        .set("access.query_token", "true")
        .set("access.cookie", "__Host-evergate")
        .set("access.anonymous_subscribe", "witness")
        .set("access.anonymous_publish", "witness")
        .set("http.cors_origins", ORIGIN);
    (signer, folder, Evergate::start(options).await)
}

fn claims() -> Value {
    json!({ "sub": "mallory", "exp": now() + 600, "evergate": { "subscribe": ["*"], "publish": ["*"] } })
}

fn by_secret(header: &Value, secret: &[u8]) -> String {
    let signed = format!("{}.{}", base64(header.to_string()), base64(claims().to_string()));
    let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, secret), signed.as_bytes());
    format!("{signed}.{}", base64(signature))
}

/// Everything that was ever taken for a token by somebody.
fn forgeries(signer: &Signer) -> Vec<(&'static str, String)> {
    let forger = Signer::es256("key");
    let good = signer.token("alice", 600, &json!({ "subscribe": ["s"] }));
    let (signed, signature) = good.rsplit_once('.').expect("three parts");
    let named = |more: Value| {
        let mut header = json!({ "alg": "ES256", "kid": "key" });
        header.as_object_mut().expect("an object").extend(more.as_object().expect("an object").clone());
        header
    };
    let unsigned = |alg: &str| {
        let header = json!({ "alg": alg, "kid": "key" });
        format!("{}.{}.", base64(header.to_string()), base64(claims().to_string()))
    };
    let mut all = vec![
        ("nothing is signed", unsigned("none")),
        ("nothing is signed, said otherwise", unsigned("nOnE")),
        ("the signature is left out", unsigned("ES256")),
        ("a signature of nothing", format!("{signed}.{}", base64([0; 64]))),
        (
            "what is public as a secret",
            by_secret(&json!({ "alg": "HS256", "kid": "key" }), signer.jwk().to_string().as_bytes()),
        ),
        (
            "the coordinates as a secret",
            by_secret(&json!({ "alg": "HS256" }), signer.jwk()["x"].to_string().as_bytes()),
        ),
        ("no secret at all", by_secret(&json!({ "alg": "HS256", "kid": "/dev/null" }), b"")),
        ("another's key", forger.token("alice", 600, &json!({ "subscribe": ["*"] }))),
        ("its own key comes along", forger.sign(&named(json!({ "jwk": forger.jwk() })), &claims())),
        (
            "its key is elsewhere",
            forger.sign(&named(json!({ "jku": "https://evil.example/keys" })), &claims()),
        ),
        (
            "its certificate is elsewhere",
            forger.sign(&named(json!({ "x5u": "https://evil.example/c" })), &claims()),
        ),
        ("its certificate comes along", forger.sign(&named(json!({ "x5c": ["AAAA"] })), &claims())),
        ("a key that is a path", signer.sign(&named(json!({ "kid": "../../etc/passwd" })), &claims())),
        ("a key that is a query", signer.sign(&named(json!({ "kid": "' OR 1=1 --" })), &claims())),
        ("what it must not overlook", signer.sign(&named(json!({ "crit": ["exp"] })), &claims())),
        ("it has expired", signer.sign(&named(json!({})), &json!({ "sub": "alice", "exp": now() - 1 }))),
        (
            "it is not good yet",
            signer.sign(&named(json!({})), &json!({ "sub": "a", "exp": now() + 60, "nbf": now() + 50 })),
        ),
        ("it never ends", signer.sign(&named(json!({})), &json!({ "sub": "alice" }))),
        ("it is nobody's", signer.sign(&named(json!({})), &json!({ "exp": now() + 60 }))),
        (
            "it is for somebody else",
            signer.sign(&named(json!({})), &json!({ "sub": "a", "exp": now() + 60, "aud": "other" })),
        ),
        (
            "another's claims",
            format!(
                "{}.{}.{signature}",
                signed.split_once('.').expect("two").0,
                base64(claims().to_string())
            ),
        ),
        ("half of it", good[..good.len() / 2].to_owned()),
        ("a part too many", format!("{good}.{signature}")),
        (
            "another's altogether",
            Issuer::new("elsewhere").token("alice", 600, &json!({ "subscribe": ["*"] })),
        ),
    ];
    all.push(("much too long", format!("{signed}.{}", "A".repeat(9_000))));
    all
}

/// The client is at fault, and the server says so and nothing else.
fn refused(answer: &Response, what: &str) {
    assert!((400..500).contains(&answer.status()), "{what}: {answer:?}");
    assert!(!answer.body.windows(6).any(|part| part == b"event:"), "{what}: {answer:?}");
}

#[tokio::test]
async fn no_forgery_is_a_token_wherever_it_is_put() {
    let (signer, _folder, server) = guarded().await;
    let forgeries = forgeries(&signer);
    during(&server, async {
        for (what, token) in &forgeries {
            let bearer = format!("Bearer {token}");
            for request in [
                Request::get(EVENTS).header("Authorization", &bearer),
                Request::get(EVENTS).header("Cookie", format!("__Host-evergate={token}")),
                Request::get(&format!("{EVENTS}?access_token={token}")),
                Request::post(EVENTS, "text/plain", "forged").header("Authorization", &bearer),
                Request::new("POST", "/v1/tickets").header("Authorization", &bearer),
                // Nobody is asked for a token here; whoever shows one is judged by it.
                Request::get("/v1/streams/witness/events").header("Authorization", &bearer),
            ] {
                refused(&call(server.http(), request).await, what);
            }
        }
        // One after the other without end, over a connection that stays.
        let mut connection = Connection::open(server.http()).await;
        for _ in 0..ROUNDS {
            for (what, token) in &forgeries {
                let post = Request::post(EVENTS, "text/plain", "forged");
                let post = post.header("Authorization", format!("Bearer {token}"));
                match connection.try_call(&post).await {
                    Ok(answer) => refused(&answer, what),
                    Err(_) => connection = Connection::open(server.http()).await,
                }
            }
        }
    })
    .await;
    // The true one is taken, and nothing of all that was written.
    let token = signer.token("alice", 600, &json!({ "subscribe": ["s"], "publish": ["s"] }));
    let with = |request: Request| request.header("Authorization", format!("Bearer {token}"));
    let target = format!("{EVENTS}?from=earliest");
    let mut stream = Subscription::request(server.http(), &with(Request::get(&target))).await;
    stream.opened().await;
    let good = call(server.http(), with(Request::post(EVENTS, "text/plain", "true"))).await;
    assert_eq!(good.status(), 200);
    assert_eq!(stream.data(1).await, ["true"]);
}

#[tokio::test]
async fn no_page_of_somebody_else_gets_anything() {
    let (signer, _folder, server) = guarded().await;
    let token = signer.token("alice", 600, &json!({ "subscribe": ["s"], "publish": ["s"] }));
    let cookie = format!("__Host-evergate={token}");
    let origins = [
        "https://evil.example",
        "null",
        "http://app.example.com",
        "https://app.example.com.evil.example",
        "https://app.example.com:444",
        "https://APP.example.com",
        "https://evil.example/https://app.example.com",
        "https://app.example.com, https://evil.example",
        "file://",
        "https://xapp.example.com",
    ];
    during(&server, async {
        for origin in origins {
            let from = |request: Request| request.header("Cookie", &cookie).header("Origin", origin);
            for request in [
                from(Request::get(EVENTS)).header("Sec-Fetch-Site", "cross-site"),
                from(Request::get(EVENTS)),
                from(Request::post(EVENTS, "text/plain", "forged")),
                from(Request::new("POST", "/v1/tickets")),
                Request::new("OPTIONS", EVENTS)
                    .header("Origin", origin)
                    .header("Access-Control-Request-Method", "POST")
                    .header("Access-Control-Request-Private-Network", "true"),
            ] {
                let answer = call(server.http(), request).await;
                refused(&answer, origin);
                for allowed in [
                    "access-control-allow-origin",
                    "access-control-allow-credentials",
                    "access-control-allow-private-network",
                ] {
                    assert_eq!(answer.head.header(allowed), None, "{origin}: {answer:?}");
                }
                assert!(answer.head.lists("vary", "origin"), "{origin}: {answer:?}");
            }
        }
        // A form or an image sends no `Origin` with a GET, but the browser says whose page it is.
        for site in ["cross-site", "same-site"] {
            let sent = Request::get(EVENTS).header("Cookie", &cookie).header("Sec-Fetch-Site", site);
            refused(&call(server.http(), sent).await, site);
        }
    })
    .await;
    let page =
        Request::get(&format!("{EVENTS}?from=earliest")).header("Cookie", &cookie).header("Origin", ORIGIN);
    let mut stream = Subscription::request(server.http(), &page).await;
    stream.opened().await;
    let post = Request::post(EVENTS, "text/plain", "true").header("Authorization", format!("Bearer {token}"));
    assert_eq!(call(server.http(), post).await.status(), 200);
    assert_eq!(stream.data(1).await, ["true"], "nothing was written by anybody else");
}

#[tokio::test]
async fn a_ticket_is_good_once_however_many_come_with_it() {
    let (signer, _folder, server) = guarded().await;
    let token = signer.token("alice", 600, &json!({ "subscribe": ["s"] }));
    during(&server, async {
        for _ in 0..ROUNDS {
            let asked =
                Request::new("POST", "/v1/tickets").header("Authorization", format!("Bearer {token}"));
            let given = call(server.http(), asked).await;
            assert_eq!(given.status(), 201, "{given:?}");
            let ticket = given.json()["ticket"].as_str().expect("a ticket").to_owned();
            let target = format!("{EVENTS}?ticket={ticket}");
            // All at once: each has its connection before the first asks.
            let mut crowd = Vec::new();
            for _ in 0..20 {
                crowd.push(Connection::open(server.http()).await);
            }
            for connection in &mut crowd {
                connection.send_bytes(&Request::get(&target).encode()).await;
            }
            let (mut opened, mut denied) = (0, 0);
            for mut connection in crowd {
                match connection.read_head().await.status {
                    200 => opened += 1,
                    401 => denied += 1,
                    other => panic!("{other}"),
                }
            }
            assert_eq!((opened, denied), (1, 19));
            let guessed = format!("{}{}", &ticket[..ticket.len() - 4], "0000");
            refused(
                &call(server.http(), Request::get(&format!("{EVENTS}?ticket={guessed}"))).await,
                "guessed",
            );
        }
    })
    .await;
}
