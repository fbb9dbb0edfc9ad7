//! Every kind of deployment, as an operator would set it up, and the mistakes that are refused.

use std::time::Duration;

use evergate_domain::{Claim, PackedCursor, Retention, UnixMillis};

use super::super::testing::{clock, free_port, until};
use super::cursors::subscription;
use super::*;
use crate::{CursorStore as _, CursorStoreError, CursorWrite, Move, TailItem, TakeOver, Written};

pub(super) const ALL: ReadLimit = ReadLimit { events: 100, bytes: 1 << 20 };
const DIRECTLY: Duration = Duration::from_millis(500);

pub(super) fn stream(n: usize) -> StreamName {
    StreamName::new(&format!("stream-{n}")).expect("valid")
}

fn url(scheme: &str, servers: &[&Server]) -> RedisUrl {
    let at: Vec<_> = servers.iter().map(|server| format!("127.0.0.1:{}", server.port())).collect();
    RedisUrl::parse(&format!("{scheme}{}", at.join(","))).expect("valid")
}

async fn open(url: RedisUrl) -> Result<Arc<RedisLog>, RedisOpenError> {
    let options =
        RedisOptions { connect_timeout: DIRECTLY, response_timeout: DIRECTLY, ..RedisOptions::new(url) };
    let policies = StreamPolicies::open(Retention::FOREVER);
    RedisLog::open(options, Arc::new(policies), clock()).await.map(Arc::new)
}

async fn refused(url: RedisUrl) -> String {
    open(url).await.err().expect("refused").to_string()
}

/// Everything a log does, on several streams.
pub(super) async fn everything_works(log: &RedisLog) {
    for n in 0..12 {
        let name = stream(n);
        let mut tail = log.follow(&name).await.expect("follows");
        let placed =
            log.append(&name, vec![EventDraft::new("x"), EventDraft::new("y")]).await.expect("appends");
        let mut live = 0;
        while live < 2 {
            let TailItem::Events(events) = tail.next().await else { panic!("what was appended comes") };
            live += events.len();
        }
        assert_eq!(log.status(&name).await.expect("stands").tail, placed[1].offset);
        let start = log.locate(&name, Start::Time(UnixMillis::new(0))).await.expect("locates");
        let Page::Events { events, .. } = log.read(&name, start, ALL).await.expect("reads") else { panic!() };
        assert_eq!(events.len(), 2);
    }
    log.trim().await.expect("trims");
    log.take_over().await.expect("takes over");
}

/// The kept cursors have hash tags of their own, so they lie on all servers.
async fn cursors_find_their_places(log: &RedisLog) {
    let cursors = log.cursors();
    let at = |text: &[u8]| PackedCursor::from_bytes(text);
    let clients: Vec<_> = (0..12).map(subscription).collect();
    for (key, _) in &clients {
        let take = TakeOver { claim: Claim::new(1), position: Some(at(b"here")), acknowledges: false };
        cursors.take_over(key, take).await.expect("begins");
    }
    let moves: Vec<_> = clients
        .iter()
        .map(|(key, _)| CursorWrite {
            key: key.clone(),
            claim: Claim::new(1),
            position: at(b"there"),
            by: Move::Hint,
            last: false,
        })
        .collect();
    let written = cursors.write(&moves).await;
    assert!(written.iter().all(|written| matches!(written, Ok(Written::Moved))), "{written:?}");
    for (key, _) in &clients {
        let take = TakeOver { claim: Claim::new(2), position: None, acknowledges: false };
        let kept = cursors.take_over(key, take).await.expect("answers").expect("kept");
        assert_eq!(kept.position, at(b"there"));
    }
}

/// A log on three servers that share the keys.
struct OnThree(tokio::sync::OnceCell<[Server; 3]>);

impl OnThree {
    async fn options(&self) -> RedisOptions {
        let start = || async { [Server::start().await, Server::start().await, Server::start().await] };
        let servers = self.0.get_or_init(start).await;
        RedisOptions::new(url("redis://", &servers.each_ref()))
    }
}

#[async_trait]
impl Subject for OnThree {
    async fn open(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        log(self.options().await, policies, clock).await
    }

    fn durable(&self) -> bool {
        true
    }

    async fn reopen(&self, policies: StreamPolicies, clock: Arc<dyn Clock>) -> Arc<dyn EventLog> {
        let log = log(self.options().await, policies, clock).await;
        log.take_over().await.expect("takes over");
        log
    }
}

mod contract_on_three_servers {
    use super::*;
    conformance::suite!(OnThree(tokio::sync::OnceCell::new()));
}

#[tokio::test]
async fn servers_in_another_order_or_number_are_refused() {
    let [a, b, c] = [Server::start().await, Server::start().await, Server::start().await];
    let log = open(url("redis://", &[&a, &b])).await.expect("opens");
    everything_works(&log).await;
    cursors_find_their_places(&log).await;
    log.close().await;
    let held: [i64; 2] = [a.ask(&["DBSIZE"]).await.expect("asks"), b.ask(&["DBSIZE"]).await.expect("asks")];
    assert!(held.iter().all(|&held| held > 20), "both hold something: {held:?}");
    for servers in [&[&b, &a][..], &[&a], &[&a, &b, &c], &[&c, &a, &b]] {
        let told = refused(url("redis://", servers)).await;
        assert!(told.contains("the log's share") && told.contains("in the order"), "{told}");
    }
    // As a build left it that did not write down which server it was.
    for server in [&a, &b, &c] {
        let _: i64 = server.ask(&["DEL", "evergate:shard"]).await.expect("deletes");
    }
    let told = refused(url("redis://", &[&b, &a])).await;
    assert!(told.contains("would be looked for at"), "{told}");
}

#[tokio::test]
async fn a_server_that_is_away_at_the_start_is_waited_for() {
    let [a, b] = [Server::start().await, Server::start().await];
    open(url("redis://", &[&a, &b])).await.expect("opens").close().await;
    b.kill();
    let log = open(url("redis://", &[&a, &b])).await.expect("opens without it");
    let at = |n| {
        log.shared
            .topology
            .now()
            .node(Keys::of(&stream(n)).slot.hash_slot())
            .map(|it| it.place.address.port())
    };
    let here = (0..).find(|&n| at(n) == Some(a.port())).expect("some are there");
    let there = (0..).find(|&n| at(n) == Some(b.port())).expect("some are there");
    log.append(&stream(here), vec![EventDraft::new("x")]).await.expect("is not concerned");
    let error = log.read(&stream(there), Offset::BEGINNING, ALL).await.expect_err("out of reach");
    assert!(format!("{error:?}").contains(&b.port().to_string()), "{error:?} names the server");
    assert!(log.troubles().iter().any(|told| told.contains(&b.port().to_string())), "{:?}", log.troubles());
    b.run().await;
    until("it is there again", || async {
        log.append(&stream(there), vec![EventDraft::new("x")]).await.is_ok() && log.troubles().is_empty()
    })
    .await;
    log.close().await;
    // Without any, there is nothing to begin with.
    a.kill();
    b.kill();
    assert!(refused(url("redis://", &[&a, &b])).await.starts_with("no Redis answers at "));
}

/// Who is told that a place was not kept must be one whose place lies where nobody answers.
#[tokio::test]
async fn a_server_that_is_down_keeps_no_cursors_and_the_others_do() {
    let [a, b] = [Server::start().await, Server::start().await];
    let log = open(url("redis://", &[&a, &b])).await.expect("opens");
    let cursors = log.cursors();
    let batch: Vec<_> = (0..400)
        .map(|n| CursorWrite {
            key: subscription(n).0,
            claim: Claim::new(1),
            position: PackedCursor::from_bytes(b"here"),
            by: Move::Hint,
            last: false,
        })
        .collect();
    assert!(cursors.write(&batch).await.iter().all(Result::is_ok));
    b.kill();
    for _ in 0..2 {
        let written = cursors.write(&batch).await;
        let kept = written.iter().filter(|written| matches!(written, Ok(Written::Moved))).count();
        assert!((100..300).contains(&kept), "about half lie on each: {kept}");
        let told = written.iter().filter_map(|written| written.as_ref().err());
        for error in told {
            let CursorStoreError::Unavailable(why) = error else { panic!("{error}") };
            assert!(why.to_string().contains(&b.port().to_string()), "{why} names the server");
        }
    }
    b.run().await;
    until("all are kept again", || async { cursors.write(&batch).await.iter().all(Result::is_ok) }).await;
    log.close().await;
}

/// Two nodes, each with half of the hash slots.
async fn cluster() -> [Server; 2] {
    cluster_of(|_| vec![]).await
}

/// Two nodes that are told so much besides, each with half of the hash slots.
pub(super) async fn cluster_of(more: impl Fn(usize) -> Vec<String>) -> [Server; 2] {
    let start = |n| {
        let (bus, more) = (free_port().to_string(), more(n));
        async move {
            let words = ["--appendonly", "no", "--cluster-enabled", "yes", "--cluster-port", &bus];
            let more = more.iter().map(String::as_str);
            Server::start_with(&words.into_iter().chain(more).collect::<Vec<_>>()).await
        }
    };
    let nodes = [start(0).await, start(1).await];
    for (node, range) in nodes.iter().zip([["0", "8191"], ["8192", "16383"]]) {
        let _: String =
            node.ask(&["CLUSTER", "ADDSLOTSRANGE", range[0], range[1]]).await.expect("takes them");
    }
    let set = async |name: &str| -> Option<String> {
        let pair: Vec<String> = nodes[1].ask(&["CONFIG", "GET", name]).await.expect("asks");
        pair.into_iter().nth(1).filter(|value| value != "0")
    };
    // Where the other one listens for nodes is one port more, and what it announces for clients is not asked.
    let port = match set("tls-cluster").await.as_deref() {
        Some("yes") => set("tls-port").await.expect("it has one"),
        Some(_) | None => nodes[1].port().to_string(),
    };
    let bus = set("cluster-port").await.expect("it has one");
    let _: String = nodes[0].ask(&["CLUSTER", "MEET", "127.0.0.1", &port, &bus]).await.expect("meets");
    for node in &nodes {
        until("the cluster is sound", || async {
            let info: String = node.ask(&["CLUSTER", "INFO"]).await.unwrap_or_default();
            info.contains("cluster_state:ok")
        })
        .await;
    }
    nodes
}

#[tokio::test]
async fn a_cluster_needs_no_more_than_the_documented_user() {
    let nodes = cluster().await;
    let page = include_str!("../../../../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER evergate ")).expect("the page has it");
    for node in &nodes {
        let _: String = node.ask(&line.split_whitespace().collect::<Vec<_>>()).await.expect("sets");
    }
    // One node is enough to find the other.
    let log = open(url("redis-cluster://evergate:change-me@", &[&nodes[0]])).await.expect("opens");
    everything_works(&log).await;
    log.close().await;
    let log = open(url("redis-cluster://", &[&nodes[1]])).await.expect("opens");
    cursors_find_their_places(&log).await;
    log.close().await;

    let told = refused(url("redis://", &[&nodes[0]])).await;
    assert!(told.contains("is a node of a cluster; write redis-cluster://"), "{told}");
    let alone = Server::start().await;
    let told = refused(url("redis-cluster://", &[&alone])).await;
    assert!(told.contains("cluster"), "{told}");
}

/// Waits until a Sentinel reached the primary that it calls "main".
pub(super) async fn until_it_watches(sentinel: &Server) {
    until("the Sentinel reaches the primary", || async {
        let told: Vec<String> = sentinel.ask(&["SENTINEL", "MASTER", "main"]).await.expect("tells");
        told.chunks(2).any(|pair| pair[0] == "flags" && pair[1] == "master")
            && told.chunks(2).any(|pair| pair[0] == "info-refresh" && pair[1].len() < 6)
    })
    .await;
}

/// Without the right one, the setting that holds it is named.
#[tokio::test]
async fn sentinels_that_want_a_password_are_told_it() {
    let primary = Server::start().await;
    let monitor = format!("sentinel monitor main 127.0.0.1 {} 1\n", primary.port());
    let sentinel = Server::guarded_sentinel(&monitor, Some("right-word")).await;
    until_it_watches(&sentinel).await;
    let at = format!("127.0.0.1:{}", sentinel.port());
    let open = async |login: Option<(&str, &str)>| {
        let url = RedisUrl::parse(&format!("redis-sentinel://{at}/main")).expect("valid");
        let sentinel_login = login
            .map(|(user, password)| SentinelLogin { user: user.to_owned(), password: password.to_owned() });
        let options = RedisOptions { sentinel_login, ..RedisOptions::new(url) };
        RedisLog::open(options, Arc::new(StreamPolicies::open(Retention::FOREVER)), clock()).await
    };
    for login in [None, Some(("", "wrong-word")), Some(("nobody", "right-word"))] {
        let told = open(login).await.err().expect("refused").to_string();
        assert!(told.starts_with(&format!("no Sentinel answers at {at}: ")), "{told}");
        assert!(told.ends_with("check the addresses, and the login in redis.sentinel_login_file"), "{told}");
        assert!(!told.contains("-word"), "{told}");
    }
    let log = open(Some(("default", "right-word"))).await.expect("opens");
    log.close().await;
    let log = open(Some(("", "right-word"))).await.expect("opens");
    everything_works(&log).await;
    log.close().await;
}

#[tokio::test]
async fn sentinels_that_cannot_tell_are_named() {
    let told = refused(RedisUrl::parse("redis-sentinel://127.0.0.1:1/main").expect("valid")).await;
    assert!(told.starts_with("no Sentinel answers at 127.0.0.1:1: "), "{told}");
    let server = Server::start().await;
    let at = format!("redis-sentinel://127.0.0.1:{}/main", server.port());
    let told = refused(RedisUrl::parse(&at).expect("valid")).await;
    assert!(told.contains("monitor nothing called main"), "{told}");
}
