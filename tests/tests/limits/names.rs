//! Names that are made up take room in the store; an address has only so much of it.

use evergate_tests::http1::Request;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;

use crate::events_of;

const BURST: u64 = 5;

fn limited(options: Options) -> Options {
    // So slow that no second adds to a budget while the test runs.
    options
        .set("http.trusted_proxies", "127.0.0.0/8")
        .set("limits.newcomers_per_second", "1")
        .set("limits.newcomers_burst", &BURST.to_string())
}

fn named(name: &str, from: &str) -> Request {
    Request::get(&format!("{}?client_id={name}", events_of("s"))).header("X-Forwarded-For", from)
}

/// Comes with names that nobody has used until one is turned away; says how many were served.
async fn make_up(server: &Evergate, from: &str, own: Option<&str>) -> u64 {
    for n in 0..BURST * 100 {
        let mut request = named(&format!("made-up-{}-{n}", own.is_some()), from);
        if let Some(id) = own {
            request = request.header("Last-Event-ID", id);
        }
        let frame = Subscription::request(server.http(), &request).await.frame().await;
        match frame.event.as_deref() {
            Some("evergate.open") => {}
            Some("evergate.busy") => {
                assert_eq!(frame.json()["reason"], "too many new clients from this address");
                return n;
            }
            other => panic!("{other:?}"),
        }
    }
    panic!("nobody was turned away");
}

/// Gives the number of places that there are to be.
async fn is_bounded(server: &Evergate) -> u64 {
    let (bad, good) = ("192.0.2.1", "192.0.2.2");
    let mut known = Subscription::request(server.http(), &named("known", bad)).await;
    assert_eq!(known.opened().await.resume, "live");
    drop(known);
    let mut served = make_up(server, bad, None).await;
    assert!(served >= BURST - 1, "{served}");
    // What is kept already is served from there all the same, and everybody from elsewhere.
    let mut known = Subscription::request(server.http(), &named("known", bad)).await;
    assert_eq!(known.opened().await.resume, "stored");
    Subscription::request(server.http(), &named("new", good)).await.opened().await;
    let nameless = Request::get(&events_of("s")).header("X-Forwarded-For", bad);
    Subscription::request(server.http(), &nameless).await.opened().await;
    // A position of its own makes nobody known.
    served += make_up(server, bad, Some("0-0")).await;
    served + 2
}

#[tokio::test]
async fn made_up_names_are_bounded_by_their_address() {
    is_bounded(&Evergate::start(limited(Options::memory())).await).await;
}

#[tokio::test]
async fn made_up_names_do_not_fill_redis() {
    let test = "made_up_names_do_not_fill_redis";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let server = Evergate::start(limited(redis.options())).await;
    let expected = is_bounded(&server).await;
    let mut places = 0;
    for key in redis.ask_list(&["KEYS", "stream:offsets:*"]).await.expect("it answers") {
        places += redis.must(&["HLEN", &key]).await.trim().parse::<u64>().expect("a number");
        let ttl = redis.must(&["TTL", &key]).await.trim().parse::<i64>().expect("a number");
        assert!((1..=3 * 86_400).contains(&ttl), "{key} goes by itself: {ttl}");
    }
    assert_eq!(places, expected, "whoever is turned away takes no room");
}
