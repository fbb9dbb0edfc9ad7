//! A connection that is always being kept: made, watched, and made anew when it breaks.
//!
//! Nothing is ever re-sent in here. Whoever used a connection that broke is told so by its error,
//! and decides; the supervisor only sees to it that there is a next one.
//!
//! ```text
//!   connecting ── ok ──▶ up (generation n) ── broken(n) ──▶ connecting (n+1)
//!        ▲  failed           │
//!        └── pause, doubled up to a second, with jitter
//! ```

use std::sync::Arc;
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{AsyncConnectionConfig, Client, Cmd, ProtocolVersion, RedisResult, Value, cmd};
use tokio::sync::{oneshot, watch};

use super::error::breaks;
use super::{RedisOptions, library};

/// A peer that acknowledges nothing for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
const PAUSE_MAX: Duration = Duration::from_secs(1);
/// Commands between the callers and the socket. When it is full, callers wait.
const PIPELINE: usize = 1024;
const WRITE_BUFFER: usize = 256 << 10;

/// What a push connection does with what comes.
pub(super) type OnPush = Arc<dyn Fn(redis::PushInfo) + Send + Sync>;

/// One connection, for as long as it lasts.
#[derive(Clone)]
pub(super) struct Connected {
    /// Counts the connections of a link.
    pub(super) generation: u64,
    pub(super) connection: MultiplexedConnection,
    /// Confirms by a replica what was written over this very connection.
    pub(super) barrier: Arc<Barrier>,
}

/// The users' side of a link.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Connected>>,
    broken: Arc<watch::Sender<u64>>,
}

impl Link {
    /// A link, and the supervisor that keeps its connection, which the caller owns.
    pub(super) fn new(
        name: &'static str,
        options: Arc<RedisOptions>,
        on_push: Option<OnPush>,
    ) -> (Self, Supervisor) {
        let (sender, current) = watch::channel(None);
        let broken = Arc::new(watch::Sender::new(0));
        let link = Self { current, broken: Arc::clone(&broken) };
        (link, Supervisor { name, options, on_push, current: sender, broken })
    }

    /// The connection, as soon as there is one. Cancel-safe.
    pub(super) async fn connected(&self) -> Option<Connected> {
        let mut current = self.current.clone();
        current.wait_for(Option::is_some).await.ok()?.clone()
    }

    /// The connection, if there is one right now.
    pub(super) fn now(&self) -> Option<Connected> {
        self.current.borrow().clone()
    }

    /// Waits until there is another connection than this generation's. Cancel-safe.
    pub(super) async fn next(&self, generation: u64) -> Option<Connected> {
        let mut current = self.current.clone();
        let newer = |it: &Option<Connected>| it.as_ref().is_some_and(|it| it.generation > generation);
        current.wait_for(newer).await.ok()?.clone()
    }

    /// Notes an error; a connection that it shows to be useless is given up.
    pub(super) fn failed(&self, generation: u64, error: &redis::RedisError) {
        if breaks(error) {
            self.give_up(generation);
        }
    }

    /// Gives a connection up.
    pub(super) fn give_up(&self, generation: u64) {
        self.broken.send_if_modified(|broken| {
            let news = generation > *broken;
            *broken = generation.max(*broken);
            news
        });
    }
}

/// Keeps a link's connection. Ends when it is dropped or nobody uses the link any more.
pub(super) struct Supervisor {
    name: &'static str,
    options: Arc<RedisOptions>,
    on_push: Option<OnPush>,
    current: watch::Sender<Option<Connected>>,
    broken: Arc<watch::Sender<u64>>,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let mut generation = 0;
        let mut pause = PAUSE_MIN;
        let mut told = false;
        let mut broken = self.broken.subscribe();
        loop {
            generation += 1;
            match self.connect(generation).await {
                Ok(connection) => {
                    if told || generation > 1 {
                        tracing::info!(
                            link = self.name,
                            at = self.options.url.at(),
                            "connected to Redis again"
                        );
                    }
                    metrics::counter!("evergate_redis_connects_total", "link" => self.name).increment(1);
                    metrics::gauge!("evergate_redis_connected", "link" => self.name).set(1.0);
                    (pause, told) = (PAUSE_MIN, false);
                    let barrier = Arc::new(Barrier::default());
                    self.current.send_replace(Some(Connected { generation, connection, barrier }));
                    if broken.wait_for(|&broken| broken >= generation).await.is_err() {
                        return;
                    }
                    self.current.send_replace(None);
                    metrics::gauge!("evergate_redis_connected", "link" => self.name).set(0.0);
                }
                Err(error) => {
                    if !told {
                        tracing::warn!(link = self.name, at = self.options.url.at(), %error, "Redis cannot be reached; trying on");
                    }
                    told = true;
                }
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn connect(&self, generation: u64) -> RedisResult<MultiplexedConnection> {
        let on_push = self.on_push.clone().map(|on_push| {
            let broken = Arc::clone(&self.broken);
            Arc::new(move |push: redis::PushInfo| {
                if push.kind == redis::PushKind::Disconnection {
                    broken.send_if_modified(|broken| std::mem::replace(broken, generation) != generation);
                }
                on_push(push);
            }) as OnPush
        });
        let mut connection = connect(&self.options, on_push).await?;
        if library::ensure(&mut connection).await? != library::Loaded::Present {
            tracing::info!(link = self.name, "the function library was loaded or is newer than this build's");
        }
        Ok(connection)
    }
}

/// Sends one command. What Redis answers with an error is one here too.
pub(super) async fn send(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    match connection.send_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// One connection with the settings that all of them have.
pub(super) async fn connect(
    options: &RedisOptions,
    on_push: Option<OnPush>,
) -> RedisResult<MultiplexedConnection> {
    let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(USER_TIMEOUT);
    let info = options.url.info().set_tcp_settings(tcp);
    let mut settings = info.redis_settings().clone().set_lib_name("evergate", env!("CARGO_PKG_VERSION"));
    let mut config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(options.connect_timeout))
        .set_response_timeout(Some(options.response_timeout))
        .set_pipeline_buffer_size(PIPELINE)
        .set_write_backpressure_boundary(WRITE_BUFFER);
    if let Some(on_push) = on_push {
        settings = settings.set_protocol(ProtocolVersion::RESP3);
        config = config.set_push_sender(move |push| {
            on_push(push);
            Ok::<_, std::convert::Infallible>(())
        });
    }
    let client = Client::open(info.set_redis_settings(settings))?;
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// From half of it to one and a half.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

/// Asks whether a replica has what was written over one connection. One question covers everybody
/// who came before it was put: group commit.
#[derive(Default)]
pub(super) struct Barrier(parking_lot::Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asking: bool,
    callers: Vec<oneshot::Sender<Result<bool, redis::RedisError>>>,
}

impl Barrier {
    /// Whether a replica confirmed everything whose answer came over this connection before this
    /// call. False is "unknown", never "no".
    pub(super) async fn confirm(&self, on: &Connected, within: Duration) -> Result<bool, redis::RedisError> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.0.lock();
            waiting.callers.push(answer);
            !std::mem::replace(&mut waiting.asking, true)
        };
        if first {
            self.ask(on.connection.clone(), within).await;
        }
        answered.await.unwrap_or(Ok(false))
    }

    async fn ask(&self, mut connection: MultiplexedConnection, within: Duration) {
        loop {
            let callers = {
                let mut waiting = self.0.lock();
                if waiting.callers.is_empty() {
                    waiting.asking = false;
                    return;
                }
                std::mem::take(&mut waiting.callers)
            };
            metrics::histogram!("evergate_redis_confirm_batches").record(callers.len() as f64);
            let millis = u64::try_from(within.as_millis()).unwrap_or(u64::MAX);
            let confirmed = send(&mut connection, cmd("WAIT").arg(1).arg(millis)).await;
            let confirmed = confirmed.map(|count| matches!(count, Value::Int(1..)));
            for caller in callers {
                // A caller that is gone does not want to know.
                let _ = caller.send(confirmed.clone());
            }
        }
    }
}
