//! A connection that is always being kept: made, watched, and made anew when it breaks.
//!
//! Nothing is ever re-sent in here. Whoever used a connection that broke is told so by its error,
//! and decides; the supervisor only sees to it that there is a next one.
//!
//! ```text
//!   connecting ── ok ──▶ up (generation n) ── broken(n) ──▶ connecting (n+1)
//!        ▲  failed           │
//!        └── pause, doubled up to half a second, with jitter
//! ```

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use redis::aio::MultiplexedConnection;
use redis::io::tcp::TcpSettings;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ConnectionInfo, Pipeline, ProtocolVersion, RedisError, RedisResult,
    TlsCertificates, Value, cmd,
};
use tokio::sync::{oneshot, watch};

use super::RedisOptions;
use super::address::Address;
use super::error::breaks;
use super::node::{Place, Purpose};
use super::times::Asked;
use crate::BackendError;

/// A peer that acknowledges nothing for this long is gone.
const USER_TIMEOUT: Duration = Duration::from_secs(5);
const PAUSE_MIN: Duration = Duration::from_millis(20);
/// Whoever waits for Redis to answer again waits for it, and half of it more, at the most.
const PAUSE_MAX: Duration = Duration::from_millis(500);
/// How often a connection is asked whether it still is one: what nothing goes over says nothing by itself.
const LOOK_INTERVAL: Duration = Duration::from_secs(1);
/// Commands between the callers and the socket. When it is full, callers wait.
const PIPELINE: usize = 1024;
const WRITE_BUFFER: usize = 256 << 10;

/// Counts all connections of this process, so that one number names one.
static GENERATION: AtomicU64 = AtomicU64::new(1);

/// What a push connection, named by its number, does with what comes.
pub(super) type OnPush = Arc<dyn Fn(u64, redis::PushInfo) + Send + Sync>;

/// One connection, for as long as it lasts.
#[derive(Clone)]
pub(super) struct Connected {
    /// Names the connection: later ones have higher numbers, whichever server they lead to.
    pub(super) generation: u64,
    /// Where it leads.
    pub(super) place: Arc<Place>,
    /// Whether every command must be preceded by `ASKING`: this server is about to take the keys over.
    pub(super) asking: bool,
    connection: MultiplexedConnection,
    /// Confirms by replicas what was written over this very connection.
    barrier: Arc<Barrier>,
    broken: Arc<watch::Sender<u64>>,
}

impl Connected {
    /// Sends one command. What Redis answers with an error is one here too.
    pub(super) async fn send(&self, command: &Cmd) -> RedisResult<Value> {
        if !self.asking {
            let mut connection = self.connection.clone();
            let asked = Asked::new(Some(command));
            let answer = self.or_retired(send(&mut connection, command)).await;
            asked.answered(&answer);
            return answer;
        }
        let mut pipe = Pipeline::new();
        pipe.add_command(command.clone());
        let answer = self.send_all(&pipe, 1).await?.pop();
        match answer {
            Some(Value::ServerError(error)) => Err(error.into()),
            Some(value) => Ok(value),
            None => Err(RedisError::from((redis::ErrorKind::UnexpectedReturnType, "no answer"))),
        }
    }

    /// Sends several commands in a row; errors stand among the answers.
    pub(super) async fn send_all(&self, pipe: &Pipeline, answers: usize) -> RedisResult<Vec<Value>> {
        let mut connection = self.connection.clone();
        if !self.asking {
            let asked = Asked::new(pipe.cmd_iter().next());
            let answer = self.or_retired(connection.send_packed_commands(pipe, 0, answers)).await;
            asked.answered_all(&answer);
            return answer;
        }
        let mut asking = Pipeline::new();
        for command in pipe.cmd_iter() {
            asking.cmd("ASKING").add_command(command.clone());
        }
        let all = self.or_retired(connection.send_packed_commands(&asking, 0, 2 * answers)).await?;
        Ok(all.into_iter().skip(1).step_by(2).collect())
    }

    /// Whether enough replicas confirmed everything whose answer came over this connection before
    /// this call. False is "unknown", never "no".
    pub(super) async fn confirm(&self, options: &RedisOptions) -> RedisResult<bool> {
        self.or_retired(self.barrier.confirm(self, options)).await
    }

    /// Notes an error; a connection that it shows to be useless is given up.
    pub(super) fn failed(&self, error: &RedisError) {
        if breaks(error) {
            self.give_up();
        }
    }

    /// The error, and which server it came from.
    pub(super) fn blamed(&self, error: &RedisError) -> BackendError {
        BackendError::message(format!("Redis at {}: {error}", self.place.address))
    }

    /// Gives the connection up.
    pub(super) fn give_up(&self) {
        give_up(&self.broken, self.generation);
    }

    /// An answer, unless the server ceases to be a primary before it comes.
    async fn or_retired<T>(&self, answer: impl Future<Output = RedisResult<T>>) -> RedisResult<T> {
        tokio::select! {
            biased;
            answer = answer => answer,
            () = self.place.retired() => {
                let why = format!("{} is not the primary any more", self.place.address);
                Err(std::io::Error::new(std::io::ErrorKind::ConnectionAborted, why).into())
            }
        }
    }
}

fn give_up(broken: &watch::Sender<u64>, generation: u64) {
    broken.send_if_modified(|broken| {
        let news = generation > *broken;
        *broken = generation.max(*broken);
        news
    });
}

/// The users' side of a link.
#[derive(Clone)]
pub(super) struct Link {
    current: watch::Receiver<Option<Connected>>,
}

impl Link {
    /// A link, and the supervisor that keeps its connection, which the caller owns.
    pub(super) fn new(
        purpose: Purpose,
        place: Arc<Place>,
        options: Arc<RedisOptions>,
        on_push: Option<OnPush>,
    ) -> (Self, Supervisor) {
        let (sender, current) = watch::channel(None);
        let broken = Arc::new(watch::Sender::new(0));
        (Self { current }, Supervisor { purpose, place, options, on_push, current: sender, broken })
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
}

/// Keeps a link's connection. Ends when it is dropped or nobody uses the link any more.
pub(super) struct Supervisor {
    purpose: Purpose,
    place: Arc<Place>,
    options: Arc<RedisOptions>,
    on_push: Option<OnPush>,
    current: watch::Sender<Option<Connected>>,
    broken: Arc<watch::Sender<u64>>,
}

impl Supervisor {
    pub(super) async fn run(self) {
        let link = self.purpose.as_str();
        let shard = self.place.address.to_string();
        let gauge = metrics::gauge!("evergate_redis_connected", "link" => link, "shard" => shard.clone());
        let _gone = Unset(gauge.clone());
        let (mut pause, mut told, mut first) = (PAUSE_MIN, false, true);
        let mut broken = self.broken.subscribe();
        loop {
            let generation = GENERATION.fetch_add(1, Ordering::Relaxed);
            match self.connect(generation).await {
                Ok(connection) => {
                    if told || !first {
                        tracing::info!(link, shard, "connected to Redis again");
                    }
                    metrics::counter!("evergate_redis_connects_total", "link" => link, "shard" => shard.clone())
                        .increment(1);
                    gauge.set(1.0);
                    self.place.note(self.purpose, None);
                    (pause, told, first) = (PAUSE_MIN, false, false);
                    let connected = Connected {
                        generation,
                        place: Arc::clone(&self.place),
                        asking: false,
                        connection,
                        barrier: Arc::default(),
                        broken: Arc::clone(&self.broken),
                    };
                    self.current.send_replace(Some(connected.clone()));
                    tokio::select! {
                        ended = broken.wait_for(|&broken| broken >= generation) => if ended.is_err() {
                            return;
                        },
                        () = look_at(&connected, self.on_push.is_some()) => {}
                    }
                    self.current.send_replace(None);
                    gauge.set(0.0);
                    self.place.note(self.purpose, Some("the connection broke".to_owned()));
                }
                Err(why) => {
                    gauge.set(0.0);
                    if !told {
                        tracing::warn!(link, shard, why, "Redis cannot be reached; trying on");
                    }
                    told = true;
                    self.place.note(self.purpose, Some(why));
                }
            }
            tokio::time::sleep(jittered(pause)).await;
            pause = (pause * 2).min(PAUSE_MAX);
        }
    }

    async fn connect(&self, generation: u64) -> Result<MultiplexedConnection, String> {
        let on_push = self.on_push.clone().map(|on_push| {
            let broken = Arc::clone(&self.broken);
            Box::new(move |push: redis::PushInfo| {
                if push.kind == redis::PushKind::Disconnection {
                    give_up(&broken, generation);
                }
                on_push(generation, push);
            }) as PushSink
        });
        let connection = connect(&self.options, &self.place.address, on_push).await;
        let mut connection = connection.map_err(|error| error.to_string())?;
        self.place.prepare(self.purpose, &self.options, &mut connection).await?;
        Ok(connection)
    }
}

/// Ends when a connection does not answer. One that listens has to answer in time: what it does not hear
/// nobody misses, while on the others an answer that is late still comes.
async fn look_at(connected: &Connected, listens: bool) {
    loop {
        tokio::time::sleep(LOOK_INTERVAL).await;
        if let Err(error) = send(&mut connected.connection.clone(), &cmd("PING")).await
            && (listens || breaks(&error))
        {
            tracing::debug!(%error, "a connection to Redis does not answer");
            connected.give_up();
            return;
        }
    }
}

/// A server that is no primary any more is neither reached nor out of reach: no comparison with
/// "not a number" is true.
struct Unset(metrics::Gauge);

impl Drop for Unset {
    fn drop(&mut self) {
        self.0.set(f64::NAN);
    }
}

/// Sends one command. What Redis answers with an error is one here too.
pub(super) async fn send(connection: &mut MultiplexedConnection, command: &Cmd) -> RedisResult<Value> {
    match connection.send_packed_command(command).await? {
        Value::ServerError(error) => Err(error.into()),
        value => Ok(value),
    }
}

/// What one push connection does with what comes.
pub(super) type PushSink = Box<dyn Fn(redis::PushInfo) + Send + Sync>;

/// A connection to one of the servers that keep the log.
pub(super) async fn connect(
    options: &RedisOptions,
    address: &Address,
    on_push: Option<PushSink>,
) -> RedisResult<MultiplexedConnection> {
    dial(options, options.url.info(address), on_push).await
}

/// A connection to a Sentinel, which has users and a database of its own.
pub(super) async fn connect_sentinel(
    options: &RedisOptions,
    address: &Address,
) -> RedisResult<MultiplexedConnection> {
    let mut settings = redis::RedisConnectionInfo::default();
    if let Some(login) = &options.sentinel_login {
        settings = settings.set_password(&login.password);
        if !login.user.is_empty() {
            settings = settings.set_username(&login.user);
        }
    }
    dial(options, options.url.info(address).set_redis_settings(settings), None).await
}

/// One connection with the settings that all of them have.
async fn dial(
    options: &RedisOptions,
    info: ConnectionInfo,
    on_push: Option<PushSink>,
) -> RedisResult<MultiplexedConnection> {
    let tcp = TcpSettings::default().set_nodelay(true).set_user_timeout(USER_TIMEOUT);
    let info = info.set_tcp_settings(tcp);
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
    let info = info.set_redis_settings(settings);
    let client = if options.url.tls() {
        Client::build_with_tls(info, TlsCertificates { client_tls: None, root_cert: options.ca.clone() })?
    } else {
        Client::open(info)?
    };
    client.get_multiplexed_async_connection_with_config(&config).await
}

/// From half of it to one and a half.
pub(super) fn jittered(pause: Duration) -> Duration {
    pause.mul_f64(0.5 + fastrand::f64())
}

/// Asks whether the replicas have what was written over one connection. One question covers everybody
/// who came before it was put: group commit.
#[derive(Default)]
struct Barrier(parking_lot::Mutex<Waiting>);

#[derive(Default)]
struct Waiting {
    asking: bool,
    callers: Vec<oneshot::Sender<RedisResult<bool>>>,
}

impl Barrier {
    async fn confirm(&self, on: &Connected, options: &RedisOptions) -> RedisResult<bool> {
        let (answer, answered) = oneshot::channel();
        let first = {
            let mut waiting = self.0.lock();
            waiting.callers.push(answer);
            !std::mem::replace(&mut waiting.asking, true)
        };
        if first {
            self.ask(on.connection.clone(), options).await;
        }
        answered.await.unwrap_or(Ok(false))
    }

    async fn ask(&self, mut connection: MultiplexedConnection, options: &RedisOptions) {
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
            let millis = u64::try_from(options.confirm_timeout.as_millis()).unwrap_or(u64::MAX);
            let wanted = options.confirmations.get();
            let mut wait = cmd("WAIT");
            wait.arg(wanted).arg(millis);
            let asked = Asked::new(Some(&wait));
            let confirmed = send(&mut connection, &wait).await;
            asked.answered(&confirmed);
            let confirmed =
                confirmed.map(|count| matches!(count, Value::Int(count) if count >= i64::from(wanted)));
            for caller in callers {
                // A caller that is gone does not want to know.
                let _ = caller.send(confirmed.clone());
            }
        }
    }
}
