//! A connection with a task of its own: while it replays.

use std::io;
use std::pin::pin;
use std::time::Duration;

use bytes::Bytes;
use tokio::net::TcpStream;
use tokio::sync::{Notify, watch};
use tokio::time::{Instant, sleep_until, timeout};

use crate::engine::SURPLUS_MAX;
use crate::engine::chunk;
use crate::engine::handle::{Arrival, Engine, Farewell, Guard, Handover};
use crate::engine::line::{Line, Pushed};
use crate::engine::queue::queued;
use crate::engine::trail::Trail;
use crate::subscriber::{End, Next, Parked, Subscriber};

/// How long beyond its window a client that takes nothing is waited for.
const GRACE: Duration = Duration::from_secs(2);

/// How long a stream that ended is read on for the client's own end.
const LINGER: Duration = Duration::from_secs(1);

pub(super) struct Attended {
    engine: Engine,
    line: Line,
    /// The first frames, until they are written.
    first: Option<Bytes>,
    subscriber: Subscriber,
    guard: Box<dyn Guard>,
    stop: watch::Receiver<Option<Duration>>,
    surplus: usize,
    /// Bytes written so far; wraps.
    sent: u32,
    trail: Option<Trail>,
    look_at: Instant,
    /// Whether no shard took it, so that it stays here.
    stays: bool,
}

/// Why a connection needs no more attention.
enum Done {
    /// It is caught up, and a shard can take it.
    CaughtUp(Parked),
    /// Our side ends it.
    Ends(End),
}

impl Attended {
    pub(super) fn new(engine: Engine, handover: Handover, trail: Option<Trail>) -> Self {
        let Handover { socket, session, first, subscriber, guard } = handover;
        let line = Line::new(socket, session);
        Self { first: Some(first), ..Self::returned(engine, line, subscriber, guard, 0, trail) }
    }

    /// One that a shard gives back.
    pub(super) fn returned(
        engine: Engine,
        line: Line,
        subscriber: Subscriber,
        guard: Box<dyn Guard>,
        sent: u32,
        trail: Option<Trail>,
    ) -> Self {
        let stop = engine.0.hub.stop.subscribe();
        let look_at = Instant::now() + engine.0.hub.common.config.trail_interval;
        Self {
            engine,
            line,
            first: None,
            subscriber,
            guard,
            stop,
            surplus: 0,
            sent,
            trail,
            look_at,
            stays: false,
        }
    }

    pub(super) async fn run(self) {
        let kill = self.engine.0.kill.clone();
        // Pinned first: whatever is handed a future by value has room for it once more.
        let serving = pin!(self.serve());
        // A client that leaves is no news.
        let _: Option<io::Result<()>> = kill.run_until_cancelled(serving).await;
    }

    async fn serve(mut self) -> io::Result<()> {
        if let Some(first) = self.first.take() {
            let first = self.subscriber.begin(&first);
            self.write(&chunk::of(&first)).await?;
        }
        loop {
            match self.attend().await? {
                Done::Ends(end) => {
                    // Who was told why is not told something else at the end.
                    let told = self.subscriber.was_told();
                    let end = if told && end == End::Dismissed { End::Stopped } else { end };
                    let Farewell { bytes, abort } = self.guard.farewell(end, self.subscriber.cursor());
                    let last = self.subscriber.finish(&bytes, abort);
                    return say_farewell(self.line, &last, abort).await;
                }
                Done::CaughtUp(parked) => match self.park(parked).await? {
                    None => return Ok(()),
                    Some(refused) => self = refused,
                },
            }
        }
    }

    async fn attend(&mut self) -> io::Result<Done> {
        let bell = self.guard.bell();
        let bell = bell.as_deref();
        loop {
            match self.subscriber.step().await {
                Some(Next::Bytes(bytes)) => self.write(&chunk::of(&bytes)).await?,
                Some(Next::End(end)) => return Ok(Done::Ends(end)),
                None => {
                    // A shard knows nothing of handshakes that are still to be ended.
                    let stays = self.stays || self.line.is_early();
                    if let Some(parked) = self.subscriber.parked().filter(|_| !stays) {
                        return Ok(Done::CaughtUp(parked));
                    }
                    tokio::select! {
                        biased;
                        () = self.guard.cut().cancelled() => {}
                        () = rung(bell) => {}
                        () = self.subscriber.wait() => {}
                        () = sleep_until(self.look_at), if self.trail.is_some() => {}
                        heard = self.line.hear() => self.took(heard?)?,
                    }
                    // Over TLS there may be something to answer.
                    if self.line.holds_back() {
                        self.write(&[]).await?;
                    }
                }
            }
            // Between frames, as everything here is whole ones.
            if let Some(word) = self.guard.word() {
                let word = self.subscriber.say(&word);
                self.write(&chunk::of(&word)).await?;
            }
            if self.guard.cut().is_cancelled() {
                if self.guard.dismissed() {
                    return Ok(Done::Ends(End::Dismissed));
                }
                return Err(reset(self.line.socket()));
            }
            self.look();
        }
    }

    /// Tells the guard how far the client has come, if it is time.
    fn look(&mut self) {
        let Some(trail) = self.trail.as_mut().filter(|_| self.look_at <= Instant::now()) else { return };
        self.look_at = Instant::now() + self.engine.0.hub.common.config.trail_interval;
        let Ok(queued) = queued(self.line.socket()) else { return };
        if let Some(position) = trail.look(self.subscriber.cursor().pack(), self.sent, queued) {
            self.guard.passed(position);
        }
    }

    /// Writes all of it, unless the connection is cut, takes nothing for too long, or the time to end
    /// has long passed.
    async fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        let Self { line, guard, stop, engine, sent, .. } = self;
        let overdue = async {
            let window = stop.wait_for(Option::is_some).await.map_or(None, |window| *window);
            tokio::time::sleep(window.unwrap_or_default() + GRACE).await;
        };
        let patience = engine.0.hub.common.config.stall;
        let written = async {
            let mut rest = bytes;
            while !rest.is_empty() || line.holds_back() {
                let Ok(pushed) = timeout(patience, line.push(rest)).await else { return Ok(false) };
                let Pushed { taken, sent: on_the_wire } = pushed?;
                rest = &rest[taken..];
                *sent = sent.wrapping_add(wrapped(on_the_wire));
            }
            Ok(true)
        };
        tokio::select! {
            biased;
            written = written => match written {
                Ok(true) => return Ok(()),
                Ok(false) => stalled(1),
                Err(error) => return Err(error),
            },
            () = guard.cut().cancelled() => {}
            () = overdue => return Err(io::ErrorKind::TimedOut.into()),
        }
        Err(reset(line.socket()))
    }

    fn took(&mut self, bytes: usize) -> io::Result<()> {
        self.surplus += bytes;
        if bytes == 0 || self.surplus > usize::from(SURPLUS_MAX) {
            return Err(io::ErrorKind::ConnectionAborted.into());
        }
        Ok(())
    }

    /// Into a shard. Comes back only if no shard takes it.
    async fn park(self, parked: Parked) -> io::Result<Option<Self>> {
        let (sent, trail) = (self.sent, self.trail);
        let (socket, session) = self.line.into_std()?;
        let arrival = Arrival { socket, session, parked, guard: self.guard, sent, trail };
        let Err(refused) = self.engine.park(arrival).await else { return Ok(None) };
        Ok(Some(Self {
            line: Line::of_std(refused.socket, refused.session)?,
            subscriber: self.subscriber,
            guard: refused.guard,
            engine: self.engine,
            first: None,
            stop: self.stop,
            surplus: self.surplus,
            sent: refused.sent,
            trail: refused.trail,
            look_at: self.look_at,
            stays: true,
        }))
    }
}

/// Waits for a bell; for ever, where there is none.
pub(crate) async fn rung(bell: Option<&Notify>) {
    match bell {
        Some(bell) => bell.notified().await,
        None => std::future::pending().await,
    }
}

/// A count of bytes that wraps.
#[expect(clippy::cast_possible_truncation, reason = "that is how it wraps")]
pub(super) const fn wrapped(bytes: usize) -> u32 {
    bytes as u32
}

/// Counts connections that are let go because they took nothing for too long.
pub(crate) fn stalled(connections: u64) {
    metrics::counter!("evergate_connections_ended_total", "reason" => "stalled").increment(connections);
}

/// Makes closing this socket look like a broken network.
fn reset(socket: &TcpStream) -> io::Error {
    // Without it, it is merely closed.
    let _ = socket.set_zero_linger();
    io::ErrorKind::ConnectionReset.into()
}

/// Ends a stream so that the client surely gets the last bytes: ours, our end, then its end.
pub(super) async fn say_farewell(mut line: Line, last: &[u8], abort: bool) -> io::Result<()> {
    let last = async {
        // A chunk of nothing would be the last one.
        if !last.is_empty() {
            line.write_all(&chunk::of(last)).await?;
        }
        if !abort {
            line.write_all(chunk::LAST).await?;
        }
        line.finish(abort).await?;
        while line.hear().await? > 0 {}
        Ok(())
    };
    timeout(LINGER, last).await.unwrap_or(Ok(()))
}
