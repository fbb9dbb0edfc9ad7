//! What followed streams cost while nothing happens:
//! `cargo run --release -p evergate-eventlog --example redis_idle -- [url] [streams]`.
//!
//! Prints the CPU that Redis and this process spend per followed stream and second, and how long it
//! took to follow them all. The database is used as it is: give an empty one.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for developers")]

mod measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_domain::{EventDraft, Retention, StreamName, StreamPolicies};
use evergate_eventlog::{EventLog, RedisLog, RedisOptions, RedisUrl, SystemClock};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use measure::{own_cpu, redis_cpu};

const SECONDS: u64 = 20;
const AT_ONCE: usize = 64;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let streams: usize = arguments.next().map_or(10_000, |streams| streams.parse().unwrap());
    let client = redis::Client::open(url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let options = RedisOptions::new(RedisUrl::parse(&url).unwrap());
    let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
    let log = Arc::new(RedisLog::open(options, policies, Arc::new(SystemClock)).await.unwrap());
    idle(&connection, "a log without followers", 1).await;

    let begun = Instant::now();
    let (mut following, mut tails) = (JoinSet::new(), Vec::new());
    for n in 0..streams {
        let (log, name) = (Arc::clone(&log), StreamName::new(&format!("stream-{n}")).unwrap());
        following.spawn(async move {
            log.append(&name, vec![EventDraft::new("x")]).await.unwrap();
            log.follow(&name).await.unwrap()
        });
        if following.len() >= AT_ONCE {
            tails.push(following.join_next().await.unwrap().unwrap());
        }
    }
    tails.extend(following.join_all().await);
    println!("{} streams appended to and followed in {:.1} s", tails.len(), begun.elapsed().as_secs_f64());
    idle(&connection, "all of them idle", streams).await;
    drop(tails);
    log.close().await;
}

async fn idle(connection: &MultiplexedConnection, what: &str, streams: usize) {
    let (redis, here) = (redis_cpu(connection).await, own_cpu());
    tokio::time::sleep(Duration::from_secs(SECONDS)).await;
    let (redis, here) = (redis_cpu(connection).await - redis, own_cpu() - here);
    let share = |cpu: Duration| cpu.as_secs_f64() / SECONDS as f64 * 100.0;
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / SECONDS as f64 / streams as f64;
    println!(
        "{what}: Redis {:.2} % of a core ({:.2} us per stream and second), here {:.2} % ({:.2} us)",
        share(redis),
        each(redis),
        share(here),
        each(here),
    );
}
