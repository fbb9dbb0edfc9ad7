//! The keys that are believed now, and how they stay up to date.
//!
//! One task reads every source, by the clock and when somebody comes with a key that is not known; the
//! others only ever look. What cannot be read is told of once, and what was read before goes on, for
//! as long as it may.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use evergate_access::{KeySet, KeySetError, Origin};
use parking_lot::{Mutex, RwLock};
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};
use tokio_util::sync::CancellationToken;

/// The shortest time between two looks, whoever asks for one.
const PAUSE: Duration = Duration::from_secs(5);

/// How soon a source that could not be read is tried again.
const RETRY: Duration = Duration::from_secs(15);

/// How long one source may take.
const PATIENCE: Duration = Duration::from_secs(5);

/// How long whoever comes with a key that is not known waits for news.
const WAIT: Duration = Duration::from_secs(2);

/// Where keys are.
#[tonic::async_trait]
pub trait KeySource: fmt::Debug + Send + Sync {
    /// For people: the file or the address, without a secret.
    fn name(&self) -> String;

    /// Who else can read it.
    fn origin(&self) -> Origin;

    /// The whole of it as it is now, at most [`evergate_access::KEY_SET_BYTES_MAX`] bytes and one more.
    /// Cancel-safe.
    async fn read(&self) -> Result<Vec<u8>, KeySourceError>;
}

/// Why a source cannot be read; a retry may succeed.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct KeySourceError(pub String);

#[derive(Debug, thiserror::Error)]
enum Unread {
    #[error(transparent)]
    Source(#[from] KeySourceError),
    #[error(transparent)]
    Set(#[from] KeySetError),
    #[error("it took longer than {} s", PATIENCE.as_secs())]
    Late,
}

/// All keys of all sources.
#[derive(Debug)]
pub(crate) struct Keyring {
    sources: Vec<Held>,
    refresh: Duration,
    stale_max: Duration,
    keys: RwLock<Arc<KeySet>>,
    /// Somebody has a key that is not known.
    asked: Notify,
    /// When it was looked last; also tells those who wait.
    looked: watch::Sender<Option<Instant>>,
    /// Whether a source could not be read at the last look.
    short: AtomicBool,
}

#[derive(Debug)]
struct Held {
    source: Arc<dyn KeySource>,
    read: Mutex<Option<(Instant, Arc<KeySet>)>>,
    failing: AtomicBool,
}

impl Keyring {
    pub(super) fn new(sources: &[Arc<dyn KeySource>], refresh: Duration, stale_max: Duration) -> Self {
        let held = |source: &Arc<dyn KeySource>| Held {
            source: Arc::clone(source),
            read: Mutex::default(),
            failing: AtomicBool::new(false),
        };
        Self {
            sources: sources.iter().map(held).collect(),
            refresh,
            stale_max,
            keys: RwLock::default(),
            asked: Notify::new(),
            looked: watch::Sender::new(None),
            // Until it was looked for the first time.
            short: AtomicBool::new(true),
        }
    }

    /// The keys that are believed now.
    pub(super) fn keys(&self) -> Arc<KeySet> {
        Arc::clone(&self.keys.read())
    }

    /// Whether there may be keys that could not be read.
    pub(super) fn is_short(&self) -> bool {
        self.short.load(Ordering::Acquire)
    }

    /// The keys of a later look than those that were `seen`, if there is one: asks for it and waits, unless it came
    /// meanwhile. `None` if there was one just before, or if it takes too long: then what was seen is all there is.
    pub(super) async fn newer(&self, seen: &Arc<KeySet>) -> Option<Arc<KeySet>> {
        let later = || Some(self.keys()).filter(|keys| !Arc::ptr_eq(keys, seen));
        match later() {
            Some(keys) => Some(keys),
            None => {
                self.renewed().await;
                later()
            }
        }
    }

    /// Asks for a look at the sources, and waits for it. False if there was one just now, or if it takes
    /// too long. However many ask, there is one look.
    async fn renewed(&self) -> bool {
        let mut looked = self.looked.subscribe();
        let last = *looked.borrow_and_update();
        if last.is_some_and(|at| at.elapsed() < PAUSE) {
            return false;
        }
        self.asked.notify_one();
        timeout(WAIT, looked.changed()).await.is_ok_and(|changed| changed.is_ok())
    }

    /// Looks at every source, now and then and when it is asked to, until `stop`.
    pub(crate) async fn run(&self, stop: &CancellationToken) {
        let looking = async {
            loop {
                self.look().await;
                let now = Instant::now();
                let next = now + if self.is_short() { RETRY.min(self.refresh) } else { self.refresh };
                tokio::select! {
                    biased;
                    () = async {
                        self.asked.notified().await;
                        sleep_until(now + PAUSE).await;
                    } => {}
                    () = sleep_until(next) => {}
                }
            }
        };
        let _: Option<()> = stop.run_until_cancelled(looking).await;
    }

    /// Reads every source, all at once, and believes what they say from now on.
    pub(crate) async fn look(&self) {
        futures_util::future::join_all(self.sources.iter().map(Held::look)).await;
        let now = Instant::now();
        let mut short = false;
        let sets: Vec<_> = self
            .sources
            .iter()
            .filter_map(|held| {
                short |= held.failing.load(Ordering::Acquire);
                let mut read = held.read.lock();
                if read.as_ref().is_some_and(|(at, _)| now.duration_since(*at) > self.stale_max) {
                    tracing::error!(
                        source = held.source.name(),
                        "its keys are too old and believed no longer"
                    );
                    *read = None;
                }
                read.as_ref().map(|(_, set)| Arc::clone(set))
            })
            .collect();
        let keys = KeySet::joined(sets.iter().map(Arc::as_ref));
        metrics::gauge!("evergate_access_keys").set(keys.len() as f64);
        *self.keys.write() = Arc::new(keys);
        self.short.store(short, Ordering::Release);
        self.looked.send_replace(Some(now));
    }
}

impl Held {
    async fn look(&self) {
        let read = async {
            let bytes = timeout(PATIENCE, self.source.read()).await.map_err(|_| Unread::Late)??;
            Ok::<_, Unread>(KeySet::read(&bytes, self.source.origin())?)
        };
        match read.await {
            Ok(set) => {
                *self.read.lock() = Some((Instant::now(), Arc::new(set)));
                if self.failing.swap(false, Ordering::AcqRel) {
                    tracing::info!(source = self.source.name(), "keys can be read again");
                }
            }
            Err(error) => {
                metrics::counter!("evergate_access_keys_unread_total").increment(1);
                if !self.failing.swap(true, Ordering::AcqRel) {
                    tracing::error!(
                        source = self.source.name(),
                        %error,
                        "keys cannot be read; what was read before goes on"
                    );
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::atomic::AtomicUsize;

    const KEY: &str =
        r#"{"keys":[{"kty":"OKP","crv":"Ed25519","x":"AAECAwQFBgcICQoLDA0ODxAREhMUFRYXGBkaGxwdHh8"}]}"#;

    /// A source that says what it is told to say, and counts.
    #[derive(Debug, Default)]
    struct Told {
        says: Mutex<Option<String>>,
        reads: AtomicUsize,
    }

    #[tonic::async_trait]
    impl KeySource for Told {
        fn name(&self) -> String {
            "told".to_owned()
        }

        fn origin(&self) -> Origin {
            Origin::Public
        }

        async fn read(&self) -> Result<Vec<u8>, KeySourceError> {
            self.reads.fetch_add(1, Ordering::SeqCst);
            let says = self.says.lock().clone();
            says.map(String::into_bytes).ok_or_else(|| KeySourceError("away".to_owned()))
        }
    }

    fn ring(source: &Arc<Told>) -> Keyring {
        let sources = [Arc::clone(source) as Arc<dyn KeySource>];
        Keyring::new(&sources, Duration::from_secs(300), Duration::from_secs(3600))
    }

    #[tokio::test(start_paused = true)]
    async fn keys_outlive_their_source_but_not_for_ever() {
        let source = Arc::new(Told::default());
        let ring = ring(&source);
        assert!(ring.is_short(), "nobody has looked yet");
        *source.says.lock() = Some(KEY.to_owned());
        ring.look().await;
        assert!(ring.keys().len() == 1 && !ring.is_short());
        for says in [None, Some("{}"), Some(r#"{"keys":[]}"#)] {
            *source.says.lock() = says.map(str::to_owned);
            ring.look().await;
            assert!(ring.keys().len() == 1 && ring.is_short(), "{says:?}");
        }
        tokio::time::advance(Duration::from_secs(3601)).await;
        ring.look().await;
        assert!(ring.keys().is_empty() && ring.is_short());
    }

    #[tokio::test(start_paused = true)]
    async fn keys_that_nobody_knows_cause_one_look_at_a_time_however_many_come() {
        let source = Arc::new(Told::default());
        *source.says.lock() = Some(KEY.to_owned());
        let ring = Arc::new(ring(&source));
        let stop = CancellationToken::new();
        let running = tokio::spawn({
            let (ring, stop) = (Arc::clone(&ring), stop.clone());
            async move { ring.run(&stop).await }
        });
        tokio::time::sleep(Duration::from_secs(1)).await;
        assert_eq!(source.reads.load(Ordering::SeqCst), 1);
        assert!(!ring.renewed().await, "it was looked just now");
        tokio::time::sleep(PAUSE).await;
        let asked = futures_util::future::join_all((0..1000).map(|_| ring.renewed())).await;
        assert!(asked.into_iter().all(|renewed| renewed));
        assert_eq!(source.reads.load(Ordering::SeqCst), 2);
        // A minute of nothing but forgeries.
        for _ in 0..600 {
            let _: bool = ring.renewed().await;
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
        let reads = source.reads.load(Ordering::SeqCst);
        assert!((3..=15).contains(&reads), "{reads}");
        stop.cancel();
        running.await.expect("it ended");
    }

    /// Whoever comes before the first look, or just before another one, is judged by what it finds.
    #[tokio::test(start_paused = true)]
    async fn a_look_that_ends_while_somebody_is_judged_counts_for_it() {
        let source = Arc::new(Told::default());
        *source.says.lock() = Some(KEY.to_owned());
        let ring = ring(&source);
        let seen = ring.keys();
        ring.look().await;
        let newer = ring.newer(&seen).await.expect("there was a look");
        assert_eq!(newer.len(), 1);
        assert!(ring.newer(&newer).await.is_none(), "it was looked just now");
    }

    #[tokio::test(start_paused = true)]
    async fn keys_are_read_anew_by_the_clock() {
        let source = Arc::new(Told::default());
        *source.says.lock() = Some(KEY.to_owned());
        let ring = ring(&source);
        let stop = CancellationToken::new();
        let hour = async {
            tokio::time::sleep(Duration::from_secs(3600)).await;
            stop.cancel();
        };
        tokio::join!(ring.run(&stop), hour);
        let reads = source.reads.load(Ordering::SeqCst);
        assert!((12..=13).contains(&reads), "{reads}");
    }
}
