//! CPU time, as the examples that measure Redis need it.

#![allow(
    dead_code,
    clippy::unwrap_used,
    reason = "for several measuring tools, none of which needs all of it"
)]

use std::time::Duration;

use redis::aio::MultiplexedConnection;

/// A figure of Redis' own: the number behind `name` in a section of `INFO`.
pub(crate) async fn info(connection: &MultiplexedConnection, section: &str, name: &str) -> f64 {
    let info: String = redis::cmd("INFO").arg(section).query_async(&mut connection.clone()).await.unwrap();
    let figure = info.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(':')).unwrap();
    figure.trim().parse().unwrap()
}

/// What Redis has spent so far.
pub(crate) async fn redis_cpu(connection: &MultiplexedConnection) -> Duration {
    let spent = |name| info(connection, "cpu", name);
    Duration::from_secs_f64(spent("used_cpu_sys").await + spent("used_cpu_user").await)
}

/// What this process has spent so far, in steps of a hundredth of a second.
pub(crate) fn own_cpu() -> Duration {
    let stat = std::fs::read_to_string("/proc/self/stat").unwrap();
    let fields: Vec<&str> = stat.rsplit_once(')').unwrap().1.split_whitespace().collect();
    let ticks: u64 = fields[11].parse::<u64>().unwrap() + fields[12].parse::<u64>().unwrap();
    Duration::from_millis(ticks * 10)
}
