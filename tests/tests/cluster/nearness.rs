//! Clients that come elsewhere than they belong, and more clients of one address than an edge should have.

use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::{figure, metric};
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::Subscription;
use serde_json::Value;

use crate::places::{edge, route};

/// One more edge than a client is told of.
const EDGES: [&str; 4] = ["edge-a", "edge-b", "edge-c", "edge-d"];

async fn four(controls: &Controls) -> Vec<Evergate> {
    let mut edges = Vec::new();
    for name in EDGES {
        edges.push(Evergate::start(edge(controls, Options::memory(), name)).await);
    }
    wait("one ring of four everywhere", async || {
        let status = controls.json(0, &["status"])?;
        let ring = u64::from_str_radix(status["ring_digest"].as_str()?, 16).ok()? & 0xffff_ffff;
        for edge in &edges {
            let page = call(edge.admin(), Request::get("/metrics")).await;
            if figure(page.text(), "evergate_ring_digest") != Some(ring as f64) {
                return None;
            }
        }
        (status["nodes"] == EDGES.len()).then_some(())
    })
    .await;
    edges
}

fn name(site: &Value) -> String {
    site["edge"].as_str().expect("an edge").to_owned()
}

/// The edge that a client belongs to, and the others that it is told of, the best first.
fn sites(told: &Value) -> Vec<String> {
    let others = told["alternatives"].as_array().expect("a list").iter().map(name);
    std::iter::once(name(told)).chain(others).collect()
}

fn at<'e>(edges: &'e [Evergate], name: &str) -> &'e Evergate {
    &edges[EDGES.iter().position(|edge| *edge == name).expect("one of the four")]
}

async fn open(edge: &Evergate, client: &str) -> Subscription {
    let request = Request::get("/v1/streams/quote/events").header("X-Forwarded-For", client);
    let mut stream = Subscription::request(edge.http(), &request).await;
    stream.opened().await;
    stream
}

#[tokio::test]
async fn whoever_comes_elsewhere_is_served_and_counted() {
    let controls = Controls::start(1).await;
    let edges = four(&controls).await;
    let client = "192.0.2.7";
    let known = sites(&route(&edges[0], client).await);
    assert_eq!(known.len(), 3);
    for edge in EDGES {
        let place = match known.iter().position(|known| known == edge) {
            Some(0) => "own",
            Some(_) => "alternative",
            None => "misplaced",
        };
        let edge = at(&edges, edge);
        let mut stream = open(edge, client).await;
        Publisher::connect(edge.grpc()).await.publish_all("quote", ["served"]).await;
        assert_eq!(stream.data(1).await, ["served"]);
        for label in ["own", "alternative", "misplaced", "other-region"] {
            let counted = metric(edge, "evergate_clients_placed_total", &format!("place=\"{label}\"")).await;
            assert_eq!(counted as usize, usize::from(label == place), "{label} where it is {place}");
        }
    }
}

#[tokio::test]
async fn a_hot_address_spills_over_to_a_second_and_a_third_edge_always_the_same() {
    /// Above the bound of an edge that has them alone, or with another one.
    const EACH: usize = 4;
    let controls = Controls::start(1).await;
    let edges = four(&controls).await;
    let client = "203.0.113.9";
    let known = sites(&route(&edges[0], client).await);
    assert_eq!(known.len(), 3);
    // Whoever is asked, once it has heard how loaded the others are.
    let all_say = async |expected: &String| {
        for edge in &edges {
            wait("the edge that is next", async || {
                let told = sites(&route(edge, client).await);
                assert!(told.iter().all(|edge| known.contains(edge)), "{told:?}, and not {known:?}");
                (told[0] == *expected).then_some(())
            })
            .await;
        }
    };
    for _ in 0..2 {
        let mut streams = Vec::new();
        for own in &known {
            all_say(own).await;
            for _ in 0..EACH {
                streams.push(open(at(&edges, own), client).await);
            }
        }
        // All three have as much, which is no more than a quarter above what each of four may have.
        all_say(&known[0]).await;
        drop(streams);
        for edge in &edges {
            wait("the end of its streams", async || {
                let page = call(edge.admin(), Request::get("/metrics")).await;
                (figure(page.text(), "evergate_streams_open") == Some(0.0)).then_some(())
            })
            .await;
        }
    }
}
