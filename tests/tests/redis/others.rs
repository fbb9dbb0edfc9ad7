//! Servers of other makes and ages than the one of the system.

use std::path::Path;

use evergate_tests::clients::other_servers;
use evergate_tests::ledger::Totals;
use evergate_tests::process::Evergate;
use evergate_tests::redis::{Keeps, RedisServer};

use crate::work::{Gateway, Gateways, Way, Work};

const ROUND_MIN: usize = 200;

/// Two gateways over a primary with a replica: the replica goes and comes, and the primary dies and
/// comes back with all it answered for.
async fn serves(name: &str, program: &Path) -> Totals {
    let mut redis = RedisServer::start_program(program, Keeps::Everything, &[]).await;
    let to = redis.port().to_string();
    let follow = ["--replicaof", "127.0.0.1", &to];
    let mut replica = RedisServer::start_program(program, Keeps::Nothing, &follow).await;
    replica.until_in_step().await;
    let options = || {
        let options = redis.options().set("sse.heartbeat", "1s");
        options.configured("[streams.\"alph*\"]\nlevel = \"REPLICATED\"\n")
    };
    let servers = [Evergate::start(options()).await, Evergate::start(options()).await];
    let [a, b] = servers.each_ref().map(Gateway::of);
    let publishers =
        [(Way::Grpc, a), (Way::Grpc, b), (Way::Http, a), (Way::Http, b)].map(|(way, at)| (way, vec![at]));
    let mut work = Work::begin(Gateways::Immortal, &publishers, &[vec![a], vec![b]]);
    work.more(ROUND_MIN).await;
    replica.kill();
    replica.restart().await;
    work.more(ROUND_MIN).await;
    redis.kill();
    redis.restart().await;
    work.more(ROUND_MIN).await;
    let totals = work.judge(3 * ROUND_MIN).await;
    for subscriber in &work.subscribers {
        assert_eq!(subscriber.connections(), 1, "{name}: live streams stay open");
    }
    totals
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_later_redis_serves() {
    let Some(servers) = other_servers("a_later_redis_serves") else { return };
    println!("redis-8.2: {:?}", serves("redis-8.2", &servers["redis-8.2"]).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn valkey_serves() {
    let Some(servers) = other_servers("valkey_serves") else { return };
    for name in ["valkey-8.1", "valkey-9.1"] {
        println!("{name}: {:?}", serves(name, &servers[name]).await);
    }
}

#[tokio::test]
async fn a_redis_that_is_too_old_is_refused_in_one_sentence() {
    let Some(servers) = other_servers("a_redis_that_is_too_old_is_refused") else { return };
    let redis = RedisServer::start_program(&servers["redis-6.2"], Keeps::Nothing, &[]).await;
    let refused = Evergate::refusal(redis.options()).await;
    let told = format!(
        "Redis at 127.0.0.1:{} is version 6.2.5; the log needs 7.0 or later, or any Valkey",
        redis.port()
    );
    assert!(refused.contains(&told), "{refused}");
}
