//! A gateway is killed under thousands of subscribers, who all go to the other one at once.

use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::frame::Item;
use evergate_tests::http1::Request;
use evergate_tests::ledger::{Ledger, Traffic, Verdict};
use evergate_tests::left_out::say;
use evergate_tests::offset::offset;
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{Next, Subscription};
use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
use tokio::sync::watch;
use tokio::task::JoinSet;

/// At each of the two gateways.
const SUBSCRIBERS: usize = 3_000;
const STREAM: &str = "s";
const EVENTS: &str = "/v1/streams/s/events";
const RETRY_MAX: Duration = Duration::from_millis(1500);
const PUBLISH_EVERY: Duration = Duration::from_millis(250);
/// Before the kill, and after everybody is back.
const EVENTS_BESIDE: usize = 8;
/// Longer than a storm takes on a machine that does ten other things.
const STORM_MAX: Duration = Duration::from_secs(90);

/// A subscriber as a browser is one: cut, it waits as long as it was told and comes back with its id.
struct Client {
    name: String,
    ledger: Arc<Mutex<Ledger>>,
    /// Where it goes first, and ever after.
    at: [std::net::SocketAddr; 2],
    target: watch::Receiver<Option<evergate_tests::offset::Offset>>,
}

impl Client {
    /// Reads until it has everything up to the target. Returns when it was cut and when it was back.
    async fn run(mut self, opened: Arc<tokio::sync::Semaphore>) -> Option<(Instant, Instant)> {
        let (mut id, mut retry, mut cut, mut back) = (None::<String>, Duration::ZERO, None, None);
        for address in [self.at[0]].into_iter().chain(std::iter::repeat(self.at[1])) {
            let mut request = Request::get(EVENTS);
            if let Some(id) = &id {
                request = request.header("Last-Event-ID", id);
            }
            if let Ok(mut stream) = Subscription::try_request(address, &request).await {
                loop {
                    let next = tokio::select! {
                        next = stream.next_within(STORM_MAX) => next.expect("heartbeats come"),
                        _ = self.target.changed() => {
                            if self.has_all(id.as_deref()) {
                                return cut.zip(back);
                            }
                            continue;
                        }
                    };
                    let frame = match next {
                        Next::Item(Item::Frame(frame)) => frame,
                        Next::Item(Item::Comment(_)) => continue,
                        Next::End(_) => break,
                    };
                    if let Some(told) = frame.retry {
                        retry = Duration::from_millis(told);
                    }
                    match frame.event.as_deref() {
                        Some("evergate.open") => {
                            if cut.is_some() {
                                assert_eq!(frame.json()["resume"], "exact", "{}", self.name);
                                back = Some(Instant::now());
                            } else {
                                let mut ledger = self.ledger.lock().expect("nobody panicked with it");
                                ledger.subscribed(&self.name, STREAM, offset(frame.must_id()));
                            }
                            opened.add_permits(1);
                        }
                        Some("evergate.busy") => {}
                        Some(other) => panic!("{}: {other}", self.name),
                        None => {
                            let mut ledger = self.ledger.lock().expect("nobody panicked with it");
                            ledger.received(&self.name, STREAM, frame.offset(), &frame.data);
                        }
                    }
                    if let Some(new) = &frame.id {
                        id = Some(new.clone());
                    }
                    if self.has_all(id.as_deref()) {
                        return cut.zip(back);
                    }
                }
            }
            cut.get_or_insert_with(Instant::now);
            tokio::time::sleep(retry).await;
        }
        unreachable!("it goes on for ever")
    }

    fn has_all(&self, id: Option<&str>) -> bool {
        let target = *self.target.borrow();
        target.is_some_and(|target| id.is_some_and(|id| offset(id) >= target))
    }
}

/// How many subscribers a gateway can have within this process's descriptors.
fn subscribers() -> usize {
    let maximum = getrlimit(Resource::Nofile).maximum;
    setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }).expect("up to the hard limit");
    let fit = maximum.map_or(SUBSCRIBERS, |limit| usize::try_from(limit).unwrap_or(usize::MAX) / 2 - 250);
    if fit < SUBSCRIBERS {
        say(&format!("only {fit} of {SUBSCRIBERS} subscribers at each gateway: too few descriptors\n"));
    }
    fit.min(SUBSCRIBERS)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everybody_moves_to_the_survivor_and_misses_nothing() {
    let test = "everybody_moves_to_the_survivor_and_misses_nothing";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else {
        return;
    };
    let options = || {
        redis
            .options()
            .set("sse.retry_min", "100ms")
            .set("sse.retry_max", &format!("{}ms", RETRY_MAX.as_millis()))
    };
    let mut victim = Evergate::start(options()).await;
    let survivor = Evergate::start(options()).await;
    let subscribers = subscribers();
    let ledger = Arc::<Mutex<Ledger>>::default();
    let (say_target, target) = watch::channel(None);
    let opened = Arc::new(tokio::sync::Semaphore::new(0));
    let mut clients = JoinSet::new();
    for n in 0..subscribers {
        for (server, there) in [("victim", victim.http()), ("survivor", survivor.http())] {
            let name = format!("{server}-{n}");
            let at = [there, survivor.http()];
            let client = Client { name, ledger: ledger.clone(), at, target: target.clone() };
            clients.spawn(client.run(opened.clone()));
        }
        if n % 100 == 99 {
            all_open(&opened, 200).await;
        }
    }
    all_open(&opened, u32::try_from(2 * (subscribers % 100)).expect("few")).await;

    let publisher = Publisher::connect(survivor.grpc()).await;
    let mut published = 0;
    let mut publish = async || {
        published += 1;
        let text = format!("event {published}");
        ledger.lock().expect("nobody panicked with it").attempted(STREAM, &text);
        let at = publisher.publish(STREAM, event(&text)).await;
        ledger.lock().expect("nobody panicked with it").acknowledged(STREAM, at, &text);
        tokio::time::sleep(PUBLISH_EVERY).await;
        at
    };
    for _ in 0..EVENTS_BESIDE {
        publish().await;
    }
    victim.kill();
    let killed = Instant::now();
    while opened.available_permits() < subscribers {
        assert!(killed.elapsed() < STORM_MAX, "only {} are back", opened.available_permits());
        publish().await;
    }
    for _ in 1..EVENTS_BESIDE {
        publish().await;
    }
    let last = publish().await;
    say_target.send_replace(Some(last));
    let mut away = Vec::new();
    let all = async {
        while let Some(client) = clients.join_next().await {
            away.extend(client.expect("a client found nothing wrong").map(|(cut, back)| back - cut));
        }
    };
    // What was lost never comes: then the ledger says which it was.
    let _ = tokio::time::timeout(STORM_MAX, all).await;
    let ledger = ledger.lock().expect("nobody panicked with it");
    let at_least = Traffic { acknowledged: 2 * EVENTS_BESIDE, received: 4 * EVENTS_BESIDE * subscribers };
    let verdict = ledger.judge(at_least);
    assert!(matches!(verdict, Verdict::Sound(_)), "{verdict:?}");
    assert_eq!(away.len(), subscribers, "everybody at the victim was cut once and came back");
    away.sort_unstable();
    println!(
        "{subscribers} of {} moved: half in {:?}, 99 of 100 in {:?}, all in {:?}; {:?}",
        2 * subscribers,
        away[away.len() / 2],
        away[away.len() * 99 / 100],
        away[away.len() - 1],
        ledger.totals(),
    );
}

/// Waits until so many more streams are open.
async fn all_open(opened: &tokio::sync::Semaphore, streams: u32) {
    let open = tokio::time::timeout(STORM_MAX, opened.acquire_many(streams)).await;
    open.expect("streams open in time").expect("never closed").forget();
}
