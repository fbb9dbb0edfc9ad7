//! `evergate bench`: puts a load on a gateway, and tells how late events arrived, whether all did, and what
//! they cost.
//!
//! Every subscriber checks what it gets for holes, repetitions and order. An event's time counts from the
//! moment it was due, so a gateway that holds a publisher up shows as late, and not as a slower load.

mod args;
mod histogram;
mod process;
mod publisher;
mod report;
mod subscriber;
mod tally;
mod wire;

use std::io::Write as _;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep};

use crate::cli::Exit;
use crate::open_files;

pub(crate) use args::BenchArgs;
use args::{Format, Plan};
use report::{Delivered, Published, Report, Spread, Subscribers, each, per_second};
use tally::Tally;

/// Subscribers that are being opened at once.
const OPENING_MAX: usize = 64;
/// How long the rest is waited for when the last event was published, or the last subscriber begun.
const PATIENCE: Duration = Duration::from_secs(10);
/// How often it is looked.
const LOOK_EVERY: Duration = Duration::from_millis(10);
/// How long the gateway is left alone before its memory is read and the load begins.
const REST: Duration = Duration::from_millis(500);

/// Exit 0 if everybody was let in and got every event once and in order.
pub(crate) async fn run(args: BenchArgs) -> Exit {
    let output = args.output();
    let plan = match args.plan(fastrand::u32(..)) {
        Ok(plan) => plan,
        Err(error) => return failed(&error, Exit::Usage),
    };
    let wanted = plan.subscribers as usize + plan.publishers as usize;
    let allowed = open_files::raise(wanted, 0);
    if allowed < wanted {
        return failed(&format!("this process may open {allowed} connections, not {wanted}"), Exit::Usage);
    }
    let report = match measure(Arc::new(plan)).await {
        Ok(report) => report,
        Err(error) => return failed(&error, Exit::Usage),
    };
    let text = match output {
        Format::Text => report.text(),
        Format::Json => match serde_json::to_string(&report) {
            Ok(json) => json + "\n",
            Err(error) => return failed(&error.to_string(), Exit::Failed),
        },
    };
    // Nobody may be reading.
    let _ = std::io::stdout().lock().write_all(text.as_bytes());
    if report.sound { Exit::Ok } else { Exit::Failed }
}

/// The error is a sentence for the user.
async fn measure(plan: Arc<Plan>) -> Result<Report, String> {
    let tally = Arc::new(Tally::new());
    let memory_before = process::memory(&plan.pids)?;
    let mut subscribers = JoinSet::new();
    let opening = Instant::now();
    subscribe(&plan, &tally, &mut subscribers).await;
    let took = opening.elapsed();
    sleep(REST).await;
    let opened = tally.opened.load(Ordering::Relaxed);
    let grown = process::memory(&plan.pids)?.saturating_sub(memory_before);

    let (server_before, own_before) = (process::cpu(&plan.pids)?, process::cpu(&[std::process::id()])?);
    let bytes_before = tally.bytes.load(Ordering::Relaxed);
    let begun = Instant::now();
    let (published, error) = publish(&plan, &tally).await;
    let publishing = begun.elapsed();
    let (events, expected) = (published.iter().sum(), plan.deliveries(&published));
    let received = settled(&tally.received, expected).await;
    let delivering = begun.elapsed();
    if error.is_some() {
        // Others may just be finding out.
        sleep(REST).await;
    }
    // It may have gone meanwhile.
    let server_cpu = process::cpu(&plan.pids).ok().filter(|_| !plan.pids.is_empty());
    let own_cpu = process::cpu(&[std::process::id()])?;

    let count = |count: &AtomicU64| count.load(Ordering::Relaxed);
    let (lost_connections, repeated, gaps) =
        (count(&tally.lost_connections), count(&tally.repeated), count(&tally.gaps));
    let bytes = count(&tally.bytes) - bytes_before;
    subscribers.shutdown().await;
    let all_opened = opened == u64::from(plan.subscribers) && lost_connections == 0;
    Ok(Report {
        sound: all_opened && error.is_none() && received == expected && repeated == 0 && gaps == 0,
        error,
        subscribers: Subscribers {
            wanted: plan.subscribers,
            opened,
            lost: lost_connections,
            opened_per_second: per_second(opened, took),
            memory_bytes_each: (!plan.pids.is_empty()).then(|| each(as_figure(grown), opened)),
        },
        published: Published {
            events,
            per_second: per_second(events, publishing),
            acknowledged: Spread::of(&tally.acknowledged),
        },
        delivered: Delivered {
            expected,
            received,
            lost: expected.saturating_sub(received),
            repeated,
            gaps,
            per_second: per_second(received, delivering),
            bytes_each: each(as_figure(bytes), received),
            server_cpu_micros_each: server_cpu
                .map(|cpu| each(cpu.saturating_sub(server_before).as_secs_f64() * 1e6, received)),
        },
        latency: Spread::of(&tally.latency),
        own_cpu_seconds: own_cpu.saturating_sub(own_before).as_secs_f64(),
    })
}

/// Opens all subscribers, a few at a time, and waits until each is open or lost.
async fn subscribe(plan: &Arc<Plan>, tally: &Arc<Tally>, subscribers: &mut JoinSet<()>) {
    let opening = Arc::new(Semaphore::new(OPENING_MAX));
    for n in 0..u64::from(plan.subscribers) {
        let Ok(permit) = Arc::clone(&opening).acquire_owned().await else { return };
        subscribers.spawn(subscriber::follow(Arc::clone(plan), plan.stream_of(n), Arc::clone(tally), permit));
    }
    let until = Instant::now() + PATIENCE;
    while opening.available_permits() < OPENING_MAX && Instant::now() < until {
        sleep(LOOK_EVERY).await;
    }
}

/// Publishes everything. Gives how many events of each stream were acknowledged, and why not all.
async fn publish(plan: &Arc<Plan>, tally: &Arc<Tally>) -> (Vec<u64>, Option<String>) {
    let start = Instant::now();
    let mut publishers = JoinSet::new();
    for n in 0..plan.publishers {
        publishers.spawn(publisher::publish(Arc::clone(plan), n, Arc::clone(tally), start));
    }
    let (mut published, mut error) = (vec![0; plan.streams.len()], None);
    while let Some(done) = publishers.join_next().await {
        match done {
            Ok((of_one, failed)) => {
                published.iter_mut().zip(of_one).for_each(|(all, of_one)| *all += of_one);
                error = error.or(failed.map(|error| error.to_string()));
            }
            Err(panic) => error = Some(panic.to_string()),
        }
    }
    (published, error)
}

/// Waits until everything has come, or nothing more does.
async fn settled(received: &AtomicU64, expected: u64) -> u64 {
    let (mut before, mut since) = (0, Instant::now());
    loop {
        let now = received.load(Ordering::Relaxed);
        if now != before {
            (before, since) = (now, Instant::now());
        }
        if now >= expected || since.elapsed() > PATIENCE {
            return now;
        }
        sleep(LOOK_EVERY).await;
    }
}

#[expect(clippy::cast_precision_loss, reason = "a figure for people, not a count")]
fn as_figure(bytes: u64) -> f64 {
    bytes as f64
}

fn failed(why: &str, exit: Exit) -> Exit {
    // With standard error closed there is nobody to tell.
    let _ = writeln!(std::io::stderr().lock(), "evergate bench: {why}");
    exit
}
