//! How fast the durable log is on this machine: appends, syncs, groups, reads, starts, memory.
//!
//! ```text
//! cargo run --release -p evergate-eventlog --example disk_rate -- \
//!     dir=/var/tmp/log seconds=10 appenders=8 batch=64 streams=1 bytes=200
//! ```
//! `events=N` appends so many instead of for a time; `rate=N` appends so many a second and not as
//! many as can be; `keep=N` sets retention by count. A directory that holds a log already is added
//! to, so its start can be timed. Prints one line per figure.

#![expect(clippy::print_stdout, reason = "a measuring tool speaks to a terminal")]

use std::collections::HashMap;
use std::path::PathBuf;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use evergate_domain::{
    EventDraft, Offset, ProducerId, ProducerSeq, Retention, Seq, Start, StreamName, StreamPolicies,
};
use evergate_eventlog::{DiskLog, DiskOptions, EventLog, Page, ReadLimit, SystemClock};

type Failure = Box<dyn std::error::Error>;

struct Arguments(HashMap<String, String>);

impl Arguments {
    fn number(&self, name: &str, default: u64) -> Result<u64, Failure> {
        Ok(self.0.get(name).map_or(Ok(default), |text| text.parse())?)
    }
}

fn main() -> Result<(), Failure> {
    let arguments = std::env::args().skip(1);
    let arguments = Arguments(
        arguments.filter_map(|a| a.split_once('=').map(|(k, v)| (k.to_owned(), v.to_owned()))).collect(),
    );
    let meter = Meter::install()?;
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(measure(&arguments, &meter))
}

async fn measure(arguments: &Arguments, meter: &Meter) -> Result<(), Failure> {
    let dir = PathBuf::from(arguments.0.get("dir").ok_or("dir=… is missing")?);
    let streams = arguments.number("streams", 1)?;
    let events = arguments.number("events", u64::MAX)?;
    let seconds = arguments.number("seconds", if events == u64::MAX { 10 } else { 86_400 })?;
    let keep = arguments.0.get("keep").map(|n| n.parse()).transpose()?;
    let policies = StreamPolicies::open(Retention { events: keep, ..Retention::FOREVER });
    let open = || DiskLog::open(&DiskOptions::new(&dir), Arc::new(policies.clone()), Arc::new(SystemClock));

    let begun = Instant::now();
    let log = Arc::new(open()?);
    println!("open            {:?}", begun.elapsed());

    if events > 0 {
        let (appenders, batch) = (arguments.number("appenders", 8)?, arguments.number("batch", 64)?);
        let rate = arguments.number("rate", u64::MAX)?;
        let load = Load {
            batch,
            pause: Duration::from_secs_f64(batch as f64 * appenders as f64 / rate as f64),
            bytes: usize::try_from(arguments.number("bytes", 200)?)?,
            streams,
            end: Instant::now() + Duration::from_secs(seconds),
            left: AtomicU64::new(events),
        };
        load.run(&log, appenders).await?;
        meter.print();
    }
    println!("disk            {} bytes", meter.gauge("evergate_log_disk_bytes"));
    println!("memory          {} kB resident, {} kB at most", memory("VmRSS")?, memory("VmHWM")?);
    if arguments.number("read", 1)? == 1 {
        read(&log, streams).await?;
    }

    let begun = Instant::now();
    log.close().await;
    println!("close           {:?}", begun.elapsed());
    drop(log);
    let begun = Instant::now();
    let log = open()?;
    println!("open again      {:?}", begun.elapsed());
    log.close().await;
    Ok(())
}

struct Load {
    batch: u64,
    /// Between the beginnings of two batches of one appender.
    pause: Duration,
    bytes: usize,
    streams: u64,
    end: Instant,
    left: AtomicU64,
}

impl Load {
    async fn run(self, log: &Arc<DiskLog>, appenders: u64) -> Result<(), Failure> {
        let (load, begun) = (Arc::new(self), Instant::now());
        let mut tasks = tokio::task::JoinSet::new();
        for appender in 0..appenders {
            let (log, load) = (Arc::clone(log), Arc::clone(&load));
            tasks.spawn(async move { load.append(&log, appender).await });
        }
        let (mut appended, mut latencies) = (0, vec![]);
        while let Some(done) = tasks.join_next().await {
            let (count, times) = done?.map_err(|error| format!("append: {error}"))?;
            appended += count;
            latencies.extend(times);
        }
        let rate = appended as f64 / begun.elapsed().as_secs_f64();
        println!("append          {appended} events, {rate:.0} events/s");
        print_times("append latency", &mut latencies);
        Ok(())
    }

    /// One publisher: always one batch under way, its own producer, the streams in turn.
    async fn append(&self, log: &DiskLog, appender: u64) -> Result<(u64, Vec<f64>), Failure2> {
        let run = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        let id = ProducerId::new(&format!("rate-{appender}-{}", run.as_millis())).map_err(other)?;
        let mut data = "x".repeat(self.bytes);
        let (mut appended, mut latencies, mut stream) = (0, vec![], appender);
        let mut due = tokio::time::Instant::now();
        while Instant::now() < self.end {
            let took = self.left.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |left| {
                (left > 0).then(|| left.saturating_sub(self.batch))
            });
            let Ok(left) = took else { break };
            let batch: Vec<_> = (0..self.batch.min(left))
                .map(|n| {
                    data.replace_range(
                        ..16.min(self.bytes),
                        &format!("{:016x}", appended + n)[16 - 16.min(self.bytes)..],
                    );
                    let seq = Seq::new(appended + n + 1).unwrap_or(Seq::ZERO);
                    let producer = Some(ProducerSeq { id: id.clone(), seq });
                    EventDraft { producer, ..EventDraft::new(data.as_str()) }
                })
                .collect();
            let name = StreamName::new(&format!("stream-{}", stream % self.streams)).map_err(other)?;
            stream += 1;
            due += self.pause;
            tokio::time::sleep_until(due).await;
            let (count, begun) = (batch.len() as u64, Instant::now());
            log.append(&name, batch).await.map_err(other)?;
            latencies.push(begun.elapsed().as_secs_f64());
            appended += count;
        }
        Ok((appended, latencies))
    }
}

type Failure2 = Box<dyn std::error::Error + Send + Sync>;

fn other(error: impl std::error::Error + Send + Sync + 'static) -> Failure2 {
    Box::new(error)
}

/// Reads everything of every stream, a page of 256 events at a time.
async fn read(log: &DiskLog, streams: u64) -> Result<(), Failure> {
    let limit = ReadLimit { events: 256, bytes: u64::MAX };
    let (mut events, mut kept, begun, mut pages) = (0, 0, Instant::now(), vec![]);
    for stream in 0..streams {
        let name = StreamName::new(&format!("stream-{stream}"))?;
        let mut cursor: Offset = log.locate(&name, Start::Earliest).await?;
        kept += log.status(&name).await?.bytes;
        loop {
            let page_begun = Instant::now();
            match log.read(&name, cursor, limit).await? {
                Page::Events { events: page, at_end } => {
                    pages.push(page_begun.elapsed().as_secs_f64());
                    events += page.len();
                    cursor = page.last().map_or(cursor, |event| event.offset);
                    if at_end {
                        break;
                    }
                }
                Page::Gap(gap) => cursor = gap.cursor,
                Page::Hold { .. } => return Err("nothing to wait for".into()),
            }
        }
    }
    let rate = events as f64 / begun.elapsed().as_secs_f64();
    println!("read            {events} events, {kept} bytes of payload, {rate:.0} events/s");
    print_times("read page", &mut pages);
    Ok(())
}

fn print_times(what: &str, seconds: &mut [f64]) {
    let ms = |q| quantile(seconds, q) * 1e3;
    let (p50, p99, max) = (ms(0.5), ms(0.99), ms(1.0));
    println!("{what:15} p50 {p50:.3} ms, p99 {p99:.3} ms, max {max:.3} ms, n {}", seconds.len());
}

fn quantile(values: &[f64], q: f64) -> f64 {
    let mut values = values.to_vec();
    values.sort_by(f64::total_cmp);
    let at = ((values.len().max(1) - 1) as f64 * q) as usize;
    values.get(at).copied().unwrap_or(f64::NAN)
}

fn memory(what: &str) -> Result<u64, Failure> {
    let status = std::fs::read_to_string("/proc/self/status")?;
    let line = status.lines().find_map(|line| line.strip_prefix(what)).ok_or("not told")?;
    Ok(line.split_whitespace().nth(1).ok_or("not told")?.parse()?)
}

/// Keeps every value the log records.
#[derive(Clone, Default)]
struct Meter(Arc<Mutex<HashMap<String, Arc<Series>>>>);

#[derive(Default)]
struct Series {
    values: Mutex<Vec<f64>>,
    last: Mutex<f64>,
}

impl Meter {
    fn install() -> Result<Self, Failure> {
        let meter = Self::default();
        metrics::set_global_recorder(meter.clone()).map_err(|error| error.to_string())?;
        Ok(meter)
    }

    fn series(&self, name: &str) -> Arc<Series> {
        Arc::clone(self.0.lock().unwrap_or_else(PoisonError::into_inner).entry(name.to_owned()).or_default())
    }

    fn values(&self, name: &str) -> Vec<f64> {
        self.series(name).values.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }

    fn gauge(&self, name: &str) -> f64 {
        *self.series(name).last.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn print(&self) {
        print_times("sync", &mut self.values("evergate_log_fsync_seconds"));
        let groups = self.values("evergate_log_group_events");
        println!(
            "group           p50 {} events, p99 {} events, n {}",
            quantile(&groups, 0.5),
            quantile(&groups, 0.99),
            groups.len()
        );
    }
}

impl metrics::HistogramFn for Series {
    fn record(&self, value: f64) {
        self.values.lock().unwrap_or_else(PoisonError::into_inner).push(value);
    }
}

impl metrics::GaugeFn for Series {
    fn increment(&self, value: f64) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) += value;
    }

    fn decrement(&self, value: f64) {
        self.increment(-value);
    }

    fn set(&self, value: f64) {
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) = value;
    }
}

impl metrics::Recorder for Meter {
    fn describe_counter(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_gauge(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn describe_histogram(&self, _: metrics::KeyName, _: Option<metrics::Unit>, _: metrics::SharedString) {}

    fn register_counter(&self, _: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Counter {
        metrics::Counter::noop()
    }

    fn register_gauge(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Gauge {
        metrics::Gauge::from_arc(self.series(key.name()))
    }

    fn register_histogram(&self, key: &metrics::Key, _: &metrics::Metadata<'_>) -> metrics::Histogram {
        metrics::Histogram::from_arc(self.series(key.name()))
    }
}
