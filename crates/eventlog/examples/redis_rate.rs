//! What a Redis log costs: `cargo run --release -p evergate-eventlog --example redis_rate -- [url] [replicated]`.
//!
//! Prints the rate, and the CPU that Redis and this process spend per event, of plain pipelined XADD
//! and of the log, with the same bytes in the same run. The database is used as it is: give an empty one.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for developers")]

mod measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_domain::{
    EventDraft, Level, ProducerId, ProducerSeq, Retention, Seq, StreamLevels, StreamName, StreamPolicies,
};
use evergate_eventlog::{EventLog, RedisLog, RedisOptions, RedisUrl, SystemClock};
use redis::aio::MultiplexedConnection;
use tokio::task::JoinSet;

use measure::{own_cpu, redis_cpu};

const EVENTS: u64 = 256_000;
const PAYLOAD_BYTES: usize = 200;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let replicated = arguments.next().is_some_and(|level| level == "replicated");
    let client = redis::Client::open(url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();

    println!("{EVENTS} events of {PAYLOAD_BYTES} bytes; CPU in microseconds per event");
    println!("{:<44} {:>9} {:>9} {:>9}", "", "events/s", "Redis", "here");
    for batch in [64, 1] {
        let plain = || plain(connection.clone(), batch);
        measure(&format!("plain XADD, pipelines of {batch}"), &connection, plain).await;
    }
    let levels: &[Level] = if replicated { &[Level::Home, Level::Replicated] } else { &[Level::Home] };
    for &level in levels {
        let at = RedisUrl::parse(&url).unwrap();
        let options = RedisOptions { levels: StreamLevels::all(level), ..RedisOptions::new(at) };
        let policies =
            Arc::new(StreamPolicies::open(Retention { events: Some(100_000), ..Retention::FOREVER }));
        let log = Arc::new(RedisLog::open(options, policies, Arc::new(SystemClock)).await.unwrap());
        for (batch, publishers, streams, what) in [
            (64, 1, 1, "1 stream, 1 publisher, batches of 64"),
            (64, 8, 8, "8 streams, 8 publishers, batches of 64"),
            (64, 8, 1, "1 stream, 8 publishers, batches of 64"),
            (1, 64, 1, "1 stream, 64 publishers, one by one"),
            (1, 64, 64, "64 streams, 64 publishers, one by one"),
        ] {
            let name = format!("{} {what}", level.as_str());
            measure(&name, &connection, || publish(Arc::clone(&log), level, batch, publishers, streams))
                .await;
        }
        log.close().await;
    }
}

async fn measure<F: Future<Output = ()>>(
    what: &str,
    connection: &MultiplexedConnection,
    work: impl FnOnce() -> F,
) {
    let (redis, here, begun) = (redis_cpu(connection).await, own_cpu(), Instant::now());
    work().await;
    let took = begun.elapsed();
    let each = |cpu: Duration| cpu.as_secs_f64() * 1e6 / EVENTS as f64;
    let (redis, here) = (redis_cpu(connection).await - redis, own_cpu() - here);
    let rate = EVENTS as f64 / took.as_secs_f64();
    println!("{what:<44} {rate:>9.0} {:>9.2} {:>9.2}", each(redis), each(here));
}

async fn plain(mut connection: MultiplexedConnection, batch: u64) {
    let payload = format!("\t\t\n\n\n{}", "x".repeat(PAYLOAD_BYTES));
    let (mut sent, mut tasks) = (0, JoinSet::new());
    while sent < EVENTS {
        let mut pipe = redis::pipe();
        for _ in 0..batch {
            pipe.cmd("XADD").arg("plain").arg("MAXLEN").arg("~").arg(100_000).arg("*");
            pipe.arg("t").arg("1700000000000").arg("e").arg(&payload).ignore();
        }
        sent += batch;
        let mut one = connection.clone();
        tasks.spawn(async move { pipe.query_async::<()>(&mut one).await.unwrap() });
        if tasks.len() >= if batch == 1 { 64 } else { 4 } {
            tasks.join_next().await.unwrap().unwrap();
        }
    }
    tasks.join_all().await;
    let _: () = redis::cmd("DEL").arg("plain").query_async(&mut connection).await.unwrap();
}

async fn publish(log: Arc<RedisLog>, level: Level, batch: u64, publishers: u64, streams: u64) {
    let run = fastrand::u32(..);
    let mut tasks = JoinSet::new();
    for publisher in 0..publishers {
        let log = Arc::clone(&log);
        let name = format!("{}-{batch}-{streams}-{run}-{}", level.as_str(), publisher % streams);
        let name = StreamName::new(&name).unwrap();
        let id = ProducerId::new(&format!("p{publisher}")).unwrap();
        tasks.spawn(async move {
            let mut seq = Seq::ZERO;
            for _ in 0..EVENTS / publishers / batch {
                let events = (0..batch).map(|_| {
                    seq = seq.plus(1);
                    let producer = Some(ProducerSeq { id: id.clone(), seq });
                    EventDraft { producer, ..EventDraft::new("x".repeat(PAYLOAD_BYTES)) }
                });
                log.append(&name, events.collect()).await.unwrap();
            }
        });
    }
    tasks.join_all().await;
}
