//! Pings and acknowledgements behind a balancer that knows nothing of ids: three edges with one log in
//! Redis, each call at another edge than the one before.

use std::time::{Duration, Instant};

use evergate_proto::edge::v1::edge_client::EdgeClient;
use evergate_proto::edge::v1::{AcknowledgeRequest, PingRequest};
use evergate_tests::PATIENCE;
use evergate_tests::figures::metric;
use evergate_tests::http1::{Request, Response, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::proxy::{Product, Proxy, Upstream};
use evergate_tests::publisher::{Publisher, channel, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{Opened, Subscription};
use serde_json::json;
use tonic::Code;

const NODES: [&str; 3] = ["a", "b", "c"];
/// Each call so often that every edge has it several times.
const CALLS: usize = 9;

/// Three edges that know each other, with one Redis.
struct Cluster {
    edges: [Evergate; 3],
    _redis: RedisServer,
}

impl Cluster {
    async fn start(test: &str) -> Option<Self> {
        let redis = RedisServer::start(test, Keeps::Everything).await?;
        let options = |node| {
            let options = redis.options().set("node", node).set("cursors.flush_interval", "100ms");
            options.set("sse.ping_interval", "1s")
        };
        let [a, b, c] = NODES.map(|node| Evergate::start(options(node)));
        let mut edges = [a.await, b.await, c.await];
        // Where each listens is known only now.
        let addresses = edges.each_ref().map(Evergate::grpc);
        for (own, edge) in edges.iter_mut().enumerate() {
            let others = (0..NODES.len()).filter(|other| *other != own);
            let peers: Vec<_> =
                others.map(|other| format!("{}=http://{}", NODES[other], addresses[other])).collect();
            edge.set("cluster.peers", &peers.join(","));
            edge.kill();
            edge.restart().await;
        }
        Some(Self { edges, _redis: redis })
    }

    /// nginx as documented, but for a third edge, and each in turn instead of the one with the fewest
    /// connections.
    async fn balancer(&self, test: &str) -> Option<Proxy> {
        let behind = [Upstream::of(&self.edges[0]), Upstream::of(&self.edges[1])];
        let second = "server 127.0.0.1:9080 max_fails=1 fail_timeout=1s;";
        let all = format!("{second} server {} max_fails=1 fail_timeout=1s;", self.edges[2].http());
        Proxy::changed(test, Product::Nginx, behind, &[("least_conn;", ""), (second, &all)]).await
    }

    /// Which of the edges has a stream.
    fn owner(connection: &str) -> usize {
        let node = connection.split('~').next();
        NODES.iter().position(|name| Some(*name) == node).expect("it is one of ours")
    }

    async fn publisher(&self) -> Publisher {
        Publisher::connect(self.edges[0].grpc()).await
    }
}

fn ping(connection: &str) -> Request {
    Request::new("POST", &format!("/v1/connections/{connection}/ping"))
}

fn acknowledgement(connection: &str, cursor: &str) -> Request {
    let body = json!({ "connection": connection, "cursor": cursor }).to_string();
    Request::post("/v1/acks", "application/json", body)
}

/// The same call at every edge.
async fn everywhere(cluster: &Cluster, request: &Request) -> Vec<Response> {
    let mut answers = Vec::new();
    for edge in &cluster.edges {
        answers.push(call(edge.http(), request.clone()).await);
    }
    answers
}

async fn open(edge: &Evergate, target: &str) -> (Subscription, Opened) {
    let mut stream = Subscription::open(edge.http(), target).await;
    let opened = stream.opened().await;
    (stream, opened)
}

#[tokio::test]
async fn a_client_need_not_know_which_edge_has_its_stream() {
    const TEST: &str = "a_client_need_not_know_which_edge_has_its_stream";
    let Some(cluster) = Cluster::start(TEST).await else { return };
    let Some(balancer) = cluster.balancer(TEST).await else { return };
    let publisher = cluster.publisher().await;
    // A stream at each edge in turn: where the balancer would put them is its own affair, and all of
    // them at one edge would leave that one nothing to pass on.
    for (n, owner) in cluster.edges.iter().enumerate() {
        // Held by a lease, which only the pings that are passed on keep.
        let target = format!("/v1/streams/s/events?client_id=client-{n}&acks=1&lease=1");
        let (mut stream, opened) = open(owner, &target).await;
        let until = Instant::now() + Duration::from_secs(5);
        while Instant::now() < until {
            let offset = publisher.publish("s", event("tick")).await;
            assert_eq!(stream.data(1).await, ["tick"]);
            assert_eq!(balancer.call(ping(&opened.connection)).await.status(), 204);
            let acknowledged = acknowledgement(&opened.connection, &offset.to_string());
            assert_eq!(balancer.call(acknowledged).await.status(), 204);
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        // All know whose it is, and that it is gone.
        for answer in everywhere(&cluster, &ping(&opened.connection)).await {
            assert_eq!(answer.status(), 204);
        }
        let (frames, _) = stream.end().await;
        assert_eq!(frames.last().expect("last words").json()["reason"], "lease-expired");
        drop(stream);
        for edge in &cluster.edges {
            let until = Instant::now() + PATIENCE;
            loop {
                let answer = call(edge.http(), ping(&opened.connection)).await;
                if answer.status() == 404 {
                    break;
                }
                assert!(answer.status() == 204 && Instant::now() < until, "{answer:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
    for edge in &cluster.edges {
        let passed_on = metric(edge, "evergate_calls_passed_on_total", "").await;
        assert!(passed_on >= 1.0, "every edge was asked for streams that it has not");
    }
}

#[tokio::test]
async fn a_mistake_is_told_the_same_at_every_edge() {
    let Some(cluster) = Cluster::start("a_mistake_is_told_the_same_at_every_edge").await else { return };
    let (_named, named) = open(&cluster.edges[1], "/v1/streams/s/events?client_id=alice").await;
    let (_nameless, nameless) = open(&cluster.edges[1], "/v1/streams/s/events").await;
    for (request, field) in [
        (acknowledgement(&nameless.connection, "1-1"), "connection"),
        (acknowledgement(&named.connection, "$"), "cursor"),
        (acknowledgement(&named.connection, ""), "cursor"),
        (acknowledgement(&named.connection, &"1".repeat(3_000)), "cursor"),
    ] {
        let answers = everywhere(&cluster, &request).await;
        for answer in &answers {
            answer.problem_with(400, field);
            assert_eq!(answer.text(), answers[0].text(), "in the same words");
        }
    }
    let wrong_secret = format!("{}0", &named.connection[..named.connection.len() - 1]);
    let wrong_secret = if wrong_secret == named.connection { wrong_secret + "0" } else { wrong_secret };
    for connection in [wrong_secret.as_str(), "nobody", "d~0~0~1~0000000000000000", "b", "b~", "~"] {
        for request in [ping(connection), acknowledgement(connection, "1-1")] {
            for answer in everywhere(&cluster, &request).await {
                answer.problem(404);
            }
        }
    }
}

/// What an edge is asked by another one it answers for itself: two lists of peers that contradict each
/// other cannot send a call round in circles.
#[tokio::test]
async fn a_call_is_passed_on_once_and_not_again() {
    let Some(cluster) = Cluster::start("a_call_is_passed_on_once_and_not_again").await else { return };
    let (_stream, opened) = open(&cluster.edges[1], "/v1/streams/s/events?client_id=alice").await;
    let connection = &opened.connection;
    for (asked, edge) in cluster.edges.iter().enumerate() {
        let mut client = EdgeClient::new(channel(edge.grpc()).await.expect("it listens"));
        let ping = client.ping(PingRequest { connection: connection.clone() }).await;
        let acknowledge =
            AcknowledgeRequest { connection: connection.clone(), cursor: opened.cursor.clone() };
        let acknowledge = client.acknowledge(acknowledge).await;
        if asked == Cluster::owner(connection) {
            ping.expect("it is its own");
            acknowledge.expect("it is its own");
        } else {
            for refused in [ping.expect_err("another's"), acknowledge.expect_err("another's")] {
                assert_eq!(refused.code(), Code::FailedPrecondition, "{refused:?}");
            }
        }
        let gone = format!("{}~0~0~1~0000000000000000", NODES[asked]);
        let refused = client.ping(PingRequest { connection: gone }).await.expect_err("nobody's");
        assert_eq!(refused.code(), Code::NotFound, "{refused:?}");
        assert_eq!(metric(edge, "evergate_calls_passed_on_total", "").await, 0.0, "{}", NODES[asked]);
    }
}

/// A peer under a wrong name does not know the stream, but has no say in it.
#[tokio::test]
async fn a_wrong_list_of_peers_ends_no_stream() {
    let mut here = Evergate::start(Options::memory().set("node", "a")).await;
    let other = Evergate::start(Options::memory().set("node", "c")).await;
    here.set("cluster.peers", &format!("b=http://{}", other.grpc()));
    here.kill();
    here.restart().await;
    for _ in 0..3 {
        call(here.http(), ping("b~0~0~1~0000000000000000")).await.problem(503);
    }
    let told = here.output();
    let warnings: Vec<_> = told.lines().filter(|line| line.contains("belongs to node b, not to c")).collect();
    assert_eq!(warnings.len(), 1, "said once, and why: {told}");
}

#[tokio::test]
async fn an_owner_that_is_away_is_not_an_owner_that_says_no() {
    const TEST: &str = "an_owner_that_is_away_is_not_an_owner_that_says_no";
    let Some(mut cluster) = Cluster::start(TEST).await else { return };
    let Some(balancer) = cluster.balancer(TEST).await else { return };
    let mut stream = balancer.subscribe(&Request::get("/v1/streams/s/events?client_id=alice&acks=1")).await;
    let opened = stream.opened().await;
    let offset = cluster.publisher().await.publish("s", event("1")).await;
    assert_eq!(stream.data(1).await, ["1"]);
    let calls = [ping(&opened.connection), acknowledgement(&opened.connection, &offset.to_string())];
    for call in calls.iter().cycle().take(CALLS) {
        assert_eq!(balancer.call(call.clone()).await.status(), 204);
    }

    let owner = Cluster::owner(&opened.connection);
    cluster.edges[owner].kill();
    for call in calls.iter().cycle().take(CALLS) {
        let began = Instant::now();
        let answer = balancer.call(call.clone()).await;
        answer.problem(503);
        let pause: u64 = answer.head.must("retry-after").parse().expect("seconds");
        assert!((1..=60).contains(&pause), "{answer:?}");
        assert!(began.elapsed() < Duration::from_secs(10), "{:?}", began.elapsed());
    }
    // Of a node that nobody knows it is not worth asking again.
    balancer.call(ping("d~0~0~1~0000000000000000")).await.problem(404);

    cluster.edges[owner].restart().await;
    for (asked, edge) in cluster.edges.iter().enumerate() {
        for request in &calls {
            let until = Instant::now() + PATIENCE;
            loop {
                let answer = call(edge.http(), request.clone()).await;
                if answer.status() == 404 {
                    break;
                }
                assert_ne!(asked, owner, "it knows its own streams at once");
                answer.problem(503);
                assert!(Instant::now() < until, "{} never reached the owner again", NODES[asked]);
                tokio::time::sleep(Duration::from_millis(50)).await;
            }
        }
    }
}

/// A place over two streams, acknowledged through any edge, is found exactly at any other.
#[tokio::test]
async fn a_client_of_two_streams_moves_between_the_edges_exactly() {
    const TEST: &str = "a_client_of_two_streams_moves_between_the_edges_exactly";
    let Some(cluster) = Cluster::start(TEST).await else { return };
    let target = "/v1/events?stream=s&stream=t&client_id=alice&acks=1&envelope=0";
    let edge = |n: usize| &cluster.edges[n % NODES.len()];
    let publisher = cluster.publisher().await;
    let mut kept: Option<(String, Vec<String>)> = None;
    for round in 0..2 * NODES.len() {
        // It brings nothing, and goes on after what it acknowledged in both streams.
        let (mut here, opened) = open(edge(round), target).await;
        if let Some((cursor, unacknowledged)) = kept {
            assert_eq!((opened.resume.as_str(), opened.cursor), ("stored", cursor), "round {round}");
            assert_eq!(sorted(here.data(unacknowledged.len()).await), unacknowledged, "round {round}");
        }
        let seen = alternate(&publisher, &mut here, &format!("{round} before")).await;

        // It brings its own word, from the middle of what it has seen.
        let middle = &seen[1].1;
        let mut there = Subscription::resume(edge(round + 1).http(), target, middle).await;
        let opened = there.opened().await;
        assert_eq!((opened.resume.as_str(), &opened.cursor), ("exact", middle), "round {round}");
        let rest = seen[2..].iter().map(|(data, _)| data.clone()).collect();
        assert_eq!(sorted(there.data(2).await), sorted(rest), "round {round}");

        // It acknowledges half of what follows, at an edge that has not its stream.
        let seen = alternate(&publisher, &mut there, &format!("{round} after")).await;
        let (cursor, owner) = (seen[1].1.clone(), edge(round + 1));
        let before = metric(owner, "evergate_cursor_writes_total", "").await;
        let answer = call(edge(round + 2).http(), acknowledgement(&opened.connection, &cursor)).await;
        assert_eq!(answer.status(), 204);
        let until = Instant::now() + PATIENCE;
        while metric(owner, "evergate_cursor_writes_total", "").await <= before {
            assert!(Instant::now() < until, "the acknowledgement was never written down");
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        kept = Some((cursor, sorted(seen[2..].iter().map(|(data, _)| data.clone()).collect())));
    }
}

/// Publishes to both streams in turn, each when the one before has come. Says what came, and its id.
async fn alternate(publisher: &Publisher, stream: &mut Subscription, name: &str) -> Vec<(String, String)> {
    let mut seen = Vec::new();
    for (n, to) in ["s", "t", "s", "t"].into_iter().enumerate() {
        let data = format!("{name}, {n} in {to}");
        publisher.publish(to, event(data.as_str())).await;
        let frame = stream.event().await;
        assert_eq!(frame.data, data);
        seen.push((data, frame.must_id().to_owned()));
    }
    seen
}

fn sorted(mut texts: Vec<String>) -> Vec<String> {
    texts.sort();
    texts
}
