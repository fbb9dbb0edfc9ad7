//! What is refused before the log is opened, each in one sentence.

use std::time::Duration;

use evergate_domain::Retention;
use redis::cmd;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::super::library::tests::load_version;
use super::super::library::{self, LOADED_KEY, Loaded};
use super::super::testing::clock;
use super::*;

async fn refused(options: RedisOptions) -> String {
    match RedisLog::open(options, Arc::default(), clock()).await {
        Ok(_) => panic!("opened"),
        Err(error) => error.to_string(),
    }
}

fn options(url: &str) -> RedisOptions {
    RedisOptions {
        connect_timeout: Duration::from_millis(500),
        ..RedisOptions::new(RedisUrl::parse(url).expect("valid"))
    }
}

#[tokio::test]
async fn nobody_answers() {
    let told = refused(options("redis://127.0.0.1:1")).await;
    assert!(told.starts_with("no Redis answers at 127.0.0.1:1: "), "{told}");
}

#[tokio::test]
async fn a_wrong_password_and_none() {
    let server = Server::start().await;
    let _: String = server.ask(&["ACL", "SETUSER", "default", "resetpass", ">right"]).await.expect("sets");
    let told = refused(options(&format!("redis://:wrong@127.0.0.1:{}", server.port()))).await;
    assert!(told.contains("refuses the user or password"), "{told}");
    assert!(!told.contains(":wrong@"), "{told}");
    let told = refused(options(&format!("redis://127.0.0.1:{}", server.port()))).await;
    assert!(told.contains("refuses the user or password"), "{told}");
    let log = RedisLog::open(
        options(&format!("redis://:right@127.0.0.1:{}", server.port())),
        Arc::default(),
        clock(),
    );
    log.await.expect("opens").close().await;
}

/// Speaks just enough to say how old it is.
#[tokio::test]
async fn a_redis_that_is_too_old() {
    let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.expect("a port");
    let port = listener.local_addr().expect("bound").port();
    tokio::spawn(async move {
        let (mut socket, _) = listener.accept().await.expect("accepts");
        let mut buffer = [0; 4096];
        while let Ok(read @ 1..) = socket.read(&mut buffer).await {
            let asked = String::from_utf8_lossy(&buffer[..read]).into_owned();
            for command in asked.split('*').skip(1) {
                let answer = if command.contains("INFO\r\n") && !command.contains("SETINFO") {
                    "$20\r\nredis_version:6.2.14\r\n"
                } else {
                    "+OK\r\n"
                };
                socket.write_all(answer.as_bytes()).await.expect("writes");
            }
        }
    });
    let told = refused(options(&format!("redis://127.0.0.1:{port}"))).await;
    assert_eq!(
        told,
        format!("Redis at 127.0.0.1:{port} is version 6.2.14; the log needs 7.0 or later, or any Valkey")
    );
}

#[tokio::test]
async fn a_policy_that_evicts() {
    let server = Server::start_with(&["--maxmemory-policy", "allkeys-lru"]).await;
    let told = refused(RedisOptions::new(server.url())).await;
    assert!(told.contains("maxmemory-policy allkeys-lru") && told.contains("noeviction"), "{told}");
}

#[tokio::test]
async fn a_replica() {
    let primary = Server::start().await;
    let replica = primary.replica().await;
    let told = refused(RedisOptions::new(replica.url())).await;
    assert!(told.contains(&format!("is a replica of 127.0.0.1:{}", primary.port())), "{told}");
}

#[tokio::test]
async fn permissions_that_are_missing() {
    let server = Server::start().await;
    server.log(Level::Home).await.close().await;
    let user = ["ACL", "SETUSER", "edge", "on", ">pass", "~evergate:*", "&evergate*", "+@all"];
    let url = format!("redis://edge:pass@127.0.0.1:{}", server.port());
    for (lacking, named) in [
        (&["-xadd"][..], "XADD"),
        (&["-spublish", "-hset"], "HSET, SPUBLISH"),
        (&["resetkeys"], "keys that begin with \"evergate:\""),
        (&["resetchannels"], "SPUBLISH"),
        (&["-fcall_ro"], "FCALL_RO"),
        (&["-info"], "INFO"),
    ] {
        let words: Vec<&str> = user.iter().chain(lacking).copied().collect();
        let _: String = server.ask(&words).await.expect("sets");
        let told = refused(options(&url)).await;
        assert!(told.starts_with("the Redis user lacks the permission for "), "{told}");
        assert!(told.contains(named), "{told}");
    }
}

/// The user that docs/redis.md gives.
#[tokio::test]
async fn the_documented_acl_suffices() {
    let page = include_str!("../../../../../docs/redis.md");
    let line = page.lines().find(|line| line.starts_with("ACL SETUSER evergate ")).expect("the page has it");
    let server = Server::start().await;
    let _: String = server.ask(&line.split_whitespace().collect::<Vec<_>>()).await.expect("sets");
    let url = format!("redis://evergate:change-me@127.0.0.1:{}", server.port());
    let log = RedisLog::open(options(&url), Arc::default(), clock()).await.expect("opens");
    let name = StreamName::new("quote").expect("valid");
    let mut tail = log.follow(&name).await.expect("follows");
    log.append(&name, vec![EventDraft::new("x")]).await.expect("appends");
    assert!(matches!(tail.next().await, crate::TailItem::Events(_)));
    log.locate(&name, Start::Time(evergate_domain::UnixMillis::new(0))).await.expect("locates");
    log.trim().await.expect("trims");
    let all = ReadLimit { events: 10, bytes: 1000 };
    assert!(matches!(log.read(&name, Offset::BEGINNING, all).await, Ok(Page::Events { .. })));
    log.close().await;
}

/// The files that are shipped.
#[tokio::test]
async fn there_is_no_advice_against_the_recommended_settings() {
    let conf = include_str!("../../../../../deploy/redis/redis.conf");
    let lines = conf.lines().filter(|line| !line.is_empty() && !line.starts_with('#'));
    let words: Vec<String> = lines
        .flat_map(|line| {
            let (name, value) = line.split_once(' ').expect("a setting and its value");
            [format!("--{name}"), value.to_owned()]
        })
        .collect();
    let server = Server::start_with(&words.iter().map(String::as_str).collect::<Vec<_>>()).await;
    let _replica = server.replica().await;
    // It takes no write before it has heard from its replica.
    super::super::testing::until("the replica counts", || async {
        let info: String = server.ask(&["INFO", "replication"]).await.unwrap_or_default();
        info.contains("min_slaves_good_slaves:1")
    })
    .await;
    let options = server.options(Level::Replicated);
    let mut connection = server.connect().await.expect("connects");
    let info: String = server.ask(&["INFO"]).await.expect("tells");
    let advice = super::super::checks::advice_at(&options, &info, &mut connection).await;
    assert_eq!(advice, Vec::<String>::new());
    let log = server.log(Level::Replicated).await;
    let name = StreamName::new("quote").expect("valid");
    log.append(&name, vec![EventDraft::new("x")]).await.expect("appends");
    log.close().await;
}

#[tokio::test]
async fn the_users_that_are_shipped_may_do_what_they_must_and_no_more() {
    let acl = include_str!("../../../../../deploy/redis/users.acl");
    let page = include_str!("../../../../../docs/redis.md");
    let server = Server::start().await;
    server.log(Level::Home).await.close().await;
    for line in acl.lines().filter(|line| line.starts_with("user ")) {
        let words: Vec<&str> = line.split_whitespace().skip(1).collect();
        if words[0] == "evergate" {
            assert!(page.contains(&format!("ACL SETUSER {}\n", words.join(" "))), "the page says the same");
        }
        let command = [&["ACL", "SETUSER"][..], &words].concat();
        let _: String = server.ask(&command).await.expect("sets");
    }
    let url = RedisUrl::parse(&format!("redis://evergate-reader:change-me-too@127.0.0.1:{}", server.port()));
    let options = RedisOptions::new(url.expect("valid"));
    let address = super::super::address::Address::new("127.0.0.1", server.port());
    let mut reader = super::super::link::connect(&options, &address, None).await.expect("connects");
    let key = "evergate:{0}:log:x";
    let read: redis::RedisResult<redis::Value> =
        cmd("XRANGE").arg(key).arg("-").arg("+").query_async(&mut reader).await;
    read.expect("may look");
    let wrote: redis::RedisResult<redis::Value> =
        cmd("XADD").arg(key).arg("1-1").arg("e").arg("x").query_async(&mut reader).await;
    assert_eq!(wrote.expect_err("may not write").code(), Some("NOPERM"));
}

#[tokio::test]
async fn a_name_that_somebody_else_uses() {
    let server = Server::start().await;
    let _: String = server.ask(&["SET", "evergate:{7}:slot", "mine"]).await.expect("sets");
    let told = refused(RedisOptions::new(server.url())).await;
    assert!(
        told.starts_with("the Redis key evergate:{7}:slot holds a string where the log keeps a hash"),
        "{told}"
    );
    let _: i64 = server.ask(&["DEL", "evergate:{7}:slot"]).await.expect("deletes");

    let log = server.log(Level::Home).await;
    let name = StreamName::new("taken").expect("valid");
    let _: String = server.ask(&["SET", &Keys::of(&name).index(), "mine"]).await.expect("sets");
    let error = log.append(&name, vec![EventDraft::new("x")]).await.expect_err("refused");
    let AppendError::Unavailable(why) = error else { panic!("{error}") };
    assert!(why.to_string().contains("does something else use these names?"), "{why}");
    let exists: i64 = server.ask(&["EXISTS", &Keys::of(&name).log()]).await.expect("asks");
    assert_eq!(exists, 0, "nothing was written");
    log.close().await;
}

#[tokio::test]
async fn the_library_is_replaced_only_upward() {
    let server = Server::start().await;
    let mut connection = server.connect().await.expect("connects");
    assert_eq!(load_version(&mut connection, 0).await.expect("loads"), Loaded::Replaced(None));
    assert_eq!(library::ensure(&mut connection, LOADED_KEY).await.expect("loads"), Loaded::Replaced(Some(0)));
    assert_eq!(library::ensure(&mut connection, LOADED_KEY).await.expect("loads"), Loaded::Present);
    assert_eq!(
        load_version(&mut connection, 99).await.expect("loads"),
        Loaded::Replaced(Some(*library::VERSION))
    );
    assert_eq!(library::ensure(&mut connection, LOADED_KEY).await.expect("loads"), Loaded::Newer(99));
    // An older node works with it.
    let log = server.log(Level::Home).await;
    let name = StreamName::new("quote").expect("valid");
    log.append(&name, vec![EventDraft::new("x")]).await.expect("appends");
    log.close().await;
    assert_eq!(library::ensure(&mut connection, LOADED_KEY).await.expect("loads"), Loaded::Newer(99));
}

#[tokio::test]
async fn of_many_nodes_one_loads_the_library() {
    let server = Server::start().await;
    let mut nodes = JoinSet::new();
    for _ in 0..16 {
        let mut connection = server.connect().await.expect("connects");
        nodes.spawn(async move { library::ensure(&mut connection, LOADED_KEY).await });
    }
    let loaded = nodes.join_all().await.into_iter().map(|loaded| loaded.expect("no error"));
    assert_eq!(loaded.filter(|loaded| *loaded != Loaded::Present).count(), 1);
    let mut connection = server.connect().await.expect("connects");
    let there: Option<String> =
        cmd("GET").arg("evergate:library:1").query_async(&mut connection).await.expect("asks");
    assert!(there.is_some());
}

/// What is said at the start is all that a test of a process can see; here it is asked for.
#[tokio::test]
async fn streams_that_may_outgrow_the_memory_are_told() {
    let server = Server::start_with(&["--appendonly", "no", "--maxmemory", "100mb"]).await;
    let place =
        super::super::node::Place::new(super::super::address::Address::new("127.0.0.1", server.port()), None);
    let mib = |n: u64| Retention { events: None, bytes: Some(n << 20), age: None };
    let mut policies = StreamPolicies::open(mib(10));
    policies.named.insert("small.*".parse::<evergate_domain::StreamPattern>().expect("valid"), mib(1));
    policies.named.insert(StreamName::new("named").expect("valid"), mib(20));
    let log = server.log(Level::Home).await;
    let mut connection = server.connect().await.expect("connects");
    let mut told = async |policies: &StreamPolicies| {
        super::super::budget::advice(policies, &place, &mut connection).await.expect("asks")
    };
    for name in ["a", "b", "named", "small.1", "small.2"] {
        log.append(&StreamName::new(name).expect("valid"), vec![EventDraft::new("x")])
            .await
            .expect("appends");
    }
    // 10 + 10 + 20 + 1 + 1, and what Redis takes besides.
    assert_eq!(told(&policies).await, None);
    policies.default = mib(30);
    let advice = told(&policies).await.expect("30 + 30 + 20 + 1 + 1 MiB, and what Redis takes besides");
    assert!(advice.starts_with("the 5 streams that Redis at 127.0.0.1:"), "{advice}");
    assert!(
        advice.contains("may grow to 151 MiB by their retention, and its maxmemory is 100 MiB"),
        "{advice}"
    );
    // One that does not exist yet, but is to.
    policies.default = mib(10);
    policies.named.insert(StreamName::new("other").expect("valid"), Retention::FOREVER);
    let advice = told(&policies).await.expect("nothing bounds it");
    assert!(advice.contains("of the 6 streams") && advice.contains("1 may grow without end"), "{advice}");
    log.close().await;
}
