//! What kept cursors cost Redis: `cargo run --release -p evergate-eventlog --example cursor_rate -- [url] [clients]`.
//!
//! Every client moves in every round, as in the busiest of flushes. Prints memory per client and the
//! share of one core that Redis spends if a round is made every five seconds. The database is used
//! as it is: give an empty one.

#![allow(clippy::print_stdout, clippy::unwrap_used, reason = "a measuring tool for developers")]

mod measure;

use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_domain::{
    Claim, ClientId, Cursor, CursorKey, KeyFilter, Retention, StreamName, StreamPolicies, StreamSet,
};
use evergate_eventlog::{
    CursorStore as _, CursorWrite, EventLog as _, Move, RedisLog, RedisOptions, RedisUrl, SystemClock,
    Written,
};

use measure::{info, redis_cpu};

const ROUNDS: u32 = 5;
const FLUSH_EVERY: Duration = Duration::from_secs(5);
const BATCH: usize = 4096;

#[tokio::main(flavor = "multi_thread", worker_threads = 1)]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let url = arguments.next().unwrap_or_else(|| "redis://127.0.0.1:6379".to_owned());
    let clients: usize = arguments.next().map_or(100_000, |clients| clients.parse().unwrap());
    let client = redis::Client::open(url.as_str()).unwrap();
    let connection = client.get_multiplexed_async_connection().await.unwrap();
    let options = RedisOptions::new(RedisUrl::parse(&url).unwrap());
    let policies = Arc::new(StreamPolicies::open(Retention::FOREVER));
    let log = RedisLog::open(options, policies, Arc::new(SystemClock)).await.unwrap();
    let cursors = log.cursors();

    let streams = StreamSet::new(vec![StreamName::new("quote").unwrap()]).unwrap();
    let mut keys: Vec<_> = (0..clients)
        .map(|n| {
            CursorKey::new(&ClientId::new(&format!("client-{n}")).unwrap(), &streams, &[KeyFilter::all()])
        })
        .collect();
    // As an edge gives them.
    keys.sort_unstable_by(|a, b| a.service_and_bucket().cmp(&b.service_and_bucket()));
    let before = info(&connection, "memory", "used_memory").await;
    println!("{clients} clients, each moved in every round");
    for round in 1..=ROUNDS {
        let position =
            Cursor::parse(&streams, &format!("1790000000000-{}", 12_000_000 + round)).unwrap().pack();
        let (cpu, begun) = (redis_cpu(&connection).await, Instant::now());
        for keys in keys.chunks(BATCH) {
            let batch: Vec<_> = keys
                .iter()
                .map(|key| CursorWrite {
                    key: key.clone(),
                    claim: Claim::new(7),
                    position: position.clone(),
                    by: Move::Hint,
                    last: false,
                })
                .collect();
            let written = cursors.write(&batch).await;
            assert!(written.iter().all(|written| matches!(written, Ok(Written::Moved))));
        }
        let (took, cpu) = (begun.elapsed(), (redis_cpu(&connection).await - cpu).as_secs_f64());
        println!(
            "round {round}: {took:.2?}, Redis {:.2} us a cursor, {:.1} % of a core every {FLUSH_EVERY:?}",
            cpu * 1e6 / clients as f64,
            100.0 * cpu / FLUSH_EVERY.as_secs_f64(),
        );
    }
    let each = (info(&connection, "memory", "used_memory").await - before) / clients as f64;
    println!("{each:.1} bytes a client");
    log.close().await;
}
