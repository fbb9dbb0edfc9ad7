//! What a careful client does with a stream that may be cut at any time: a state machine.
//!
//! ```text
//!              wait over               200, event stream
//!   Waiting ───────────────► Connecting ───────────────► Streaming
//!      ▲                         │                           │
//!      └──── cut, 5xx, silence, ─┴──── cut, silence, ────────┘
//!            busy                      busy, goaway
//! ```
//!
//! From every state a lasting answer, the count reached or the user leads to `Finished`. It knows
//! no socket and reads no clock; time comes in with every input, chance as a seed.

use std::time::{Duration, Instant};

use bytes::Bytes;
use evergate_domain::sse::{DecodeError, Decoder, Item, Message};
use serde::Deserialize;

/// What all names of Evergate's own events begin with.
const CONTROL_PREFIX: &str = "evergate.";
/// How long a server may take to accept a connection and answer.
const CONNECT_MAX: Duration = Duration::from_secs(10);
/// The wait before any server has said another.
const RETRY_DEFAULT: Duration = Duration::from_secs(1);
/// Even if a server asks for less: a client must not spin.
const RETRY_MIN: Duration = Duration::from_millis(100);
/// Even if a server asks for more.
const RETRY_MAX: Duration = Duration::from_secs(3600);
/// What doubling leads to at the most; a server may still ask for more.
const BACK_OFF_MAX: Duration = Duration::from_secs(30);

/// How to follow.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Settings {
    /// Where to resume at first.
    pub last_event_id: Option<String>,
    /// Finish after this many events.
    pub count_max: Option<u64>,
    /// Silence after which the connection is taken for dead.
    pub idle: Duration,
    /// The longest event that is read.
    pub event_bytes_max: usize,
}

/// What happened outside.
#[derive(Debug)]
pub(crate) enum Input {
    Answered(Answer),
    Bytes(Bytes),
    /// The connection is over, or was never made.
    Cut(Cut),
    Tick,
    Interrupt,
}

/// The head of a response.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Answer {
    /// 200 and an event stream; its bytes follow.
    Stream,
    /// Anything else, read to its end.
    Other { status: u16, content_type: String, detail: Option<String>, retry_after: Option<Duration> },
}

/// How a connection ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Cut {
    /// By the server, in good order.
    Ended,
    /// By a fault, in words.
    Failed(String),
}

/// What is to be done.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Effect {
    Connect {
        last_event_id: Option<String>,
    },
    Disconnect,
    /// An event, or a control event.
    Show(Message),
    Notice(Notice),
    /// Nothing more will come.
    Finish(Outcome),
}

/// What the user is told beside the events.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Notice {
    Opened(Open),
    Gap(Gap),
    Goaway {
        reason: String,
    },
    /// The connection is over; the next attempt follows after `wait`.
    Reconnecting {
        why: String,
        wait: Duration,
    },
}

/// The data of `evergate.open`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Open {
    pub resume: String,
    pub connection: String,
    pub trace_id: String,
}

/// The data of `evergate.gap`.
#[derive(Debug, Clone, PartialEq, Eq, Default, Deserialize)]
#[serde(default)]
pub(crate) struct Gap {
    pub stream: String,
    pub requested: String,
    pub resumed_at: String,
    pub reason: String,
    pub lost: Option<u64>,
}

/// The data of `evergate.busy` and `evergate.goaway`.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct Reason {
    reason: String,
}

/// How it all ended.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Outcome {
    /// As many events as were wanted.
    Counted,
    Interrupted,
    /// The server asked never to come back.
    NoMore,
    /// The server refuses, and will again.
    Refused {
        status: u16,
        detail: Option<String>,
    },
    /// The answer was fine but is no event stream.
    NotAStream {
        content_type: String,
    },
    /// The server, or something on the way, breaks the format.
    Malformed(DecodeError),
}

#[derive(Debug)]
pub(crate) struct Session {
    settings: Settings,
    random: fastrand::Rng,
    state: State,
    /// The last id seen, which the next connection resumes from.
    last_event_id: Option<String>,
    /// The wait the server asked for last.
    retry: Duration,
    /// Attempts that came to nothing, in a row.
    failures: u32,
    shown: u64,
    effects: Vec<Effect>,
}

#[derive(Debug)]
enum State {
    Waiting { until: Instant },
    Connecting { until: Instant },
    Streaming(Box<Streaming>),
    Finished,
}

#[derive(Debug)]
struct Streaming {
    decoder: Decoder,
    silent_at: Instant,
    /// Whether the server has begun to serve: only then was the attempt a success.
    opened: bool,
    /// Why the server turned us away, if it did.
    busy: Option<String>,
}

impl Session {
    /// Begins with an attempt to connect.
    pub(crate) fn new(settings: Settings, seed: u64, now: Instant) -> Self {
        let mut session = Self {
            last_event_id: settings.last_event_id.clone(),
            settings,
            random: fastrand::Rng::with_seed(seed),
            state: State::Finished,
            retry: RETRY_DEFAULT,
            failures: 0,
            shown: 0,
            effects: Vec::new(),
        };
        session.connect(now);
        session
    }

    /// Advances by one input. Never waits, never fails, reads no clock.
    pub(crate) fn step(&mut self, now: Instant, input: Input) {
        match (input, &mut self.state) {
            (_, State::Finished) => {}
            (Input::Interrupt, _) => self.finish(Outcome::Interrupted),
            (Input::Answered(answer), State::Connecting { .. }) => self.answered(now, answer),
            (Input::Bytes(bytes), State::Streaming(_)) => self.bytes(now, &bytes),
            (Input::Cut(cut), State::Connecting { .. }) => {
                let why = match cut {
                    Cut::Ended => "the server closed the connection without an answer".to_owned(),
                    Cut::Failed(why) => why,
                };
                self.back_off(now, why, Duration::ZERO);
            }
            (Input::Cut(cut), State::Streaming(_)) => self.cut(now, cut),
            (Input::Tick, State::Waiting { until }) if *until <= now => self.connect(now),
            (Input::Tick, State::Connecting { until }) if *until <= now => {
                self.effects.push(Effect::Disconnect);
                let why = format!("no answer within {} s", CONNECT_MAX.as_secs());
                self.back_off(now, why, Duration::ZERO);
            }
            (Input::Tick, State::Streaming(streaming)) if streaming.silent_at <= now => {
                self.effects.push(Effect::Disconnect);
                let why =
                    format!("nothing came for {} s, not even a heartbeat", self.settings.idle.as_secs());
                self.cut(now, Cut::Failed(why));
            }
            // Too early a tick, or the last word of a connection that was given up meanwhile.
            (Input::Tick | Input::Answered(_) | Input::Bytes(_) | Input::Cut(_), _) => {}
        }
    }

    /// Moves what is to be done into `effects`, in order.
    pub(crate) fn take_effects(&mut self, effects: &mut Vec<Effect>) {
        effects.append(&mut self.effects);
    }

    /// When to send the next [`Input::Tick`].
    pub(crate) fn wake_at(&self, now: Instant) -> Instant {
        match &self.state {
            State::Waiting { until } | State::Connecting { until } => *until,
            State::Streaming(streaming) => streaming.silent_at,
            State::Finished => now,
        }
    }

    fn connect(&mut self, now: Instant) {
        self.state = State::Connecting { until: now + CONNECT_MAX };
        self.effects.push(Effect::Connect { last_event_id: self.last_event_id.clone() });
    }

    fn answered(&mut self, now: Instant, answer: Answer) {
        match answer {
            Answer::Stream => {
                let last_event_id = self.last_event_id.as_deref().unwrap_or_default();
                self.state = State::Streaming(Box::new(Streaming {
                    decoder: Decoder::new(self.settings.event_bytes_max, last_event_id),
                    silent_at: now + self.settings.idle,
                    opened: false,
                    busy: None,
                }));
            }
            Answer::Other { status: 204, .. } => self.finish(Outcome::NoMore),
            Answer::Other { status: 200, content_type, .. } => {
                self.finish(Outcome::NotAStream { content_type });
            }
            Answer::Other { status, detail, retry_after, .. } => {
                if status == 408 || status == 429 || status >= 500 {
                    let why = match detail {
                        Some(detail) => format!("{status}: {detail}"),
                        None => format!("the server answered {status}"),
                    };
                    self.back_off(now, why, retry_after.unwrap_or_default());
                } else {
                    self.finish(Outcome::Refused { status, detail });
                }
            }
        }
    }

    fn bytes(&mut self, now: Instant, bytes: &[u8]) {
        let State::Streaming(streaming) = &mut self.state else {
            return;
        };
        streaming.silent_at = now + self.settings.idle;
        let mut items = Vec::new();
        let fed = streaming.decoder.feed(bytes, &mut items);
        for item in items {
            self.item(item);
            if matches!(self.state, State::Finished) {
                return;
            }
        }
        // Only after what came whole before the fault.
        if let Err(error) = fed {
            self.finish(Outcome::Malformed(error));
        }
    }

    fn item(&mut self, item: Item) {
        match item {
            Item::Comment(_) => {}
            Item::Retry(millis) => {
                self.retry = Duration::from_millis(millis).clamp(RETRY_MIN, RETRY_MAX);
            }
            Item::Position(id) => self.moved(&id),
            Item::Message(message) => {
                self.moved(&message.last_event_id);
                if message.kind.starts_with(CONTROL_PREFIX) {
                    self.control(&message);
                    self.effects.push(Effect::Show(message));
                    return;
                }
                self.opened();
                self.effects.push(Effect::Show(message));
                self.shown += 1;
                if self.settings.count_max == Some(self.shown) {
                    self.finish(Outcome::Counted);
                }
            }
        }
    }

    fn control(&mut self, message: &Message) {
        match message.kind.as_str() {
            "evergate.busy" => {
                let Reason { reason } = read(&message.data);
                if let State::Streaming(streaming) = &mut self.state {
                    streaming.busy = Some(reason);
                }
                return; // To be turned away is no success.
            }
            "evergate.open" => self.effects.push(Effect::Notice(Notice::Opened(read(&message.data)))),
            "evergate.gap" => self.effects.push(Effect::Notice(Notice::Gap(read(&message.data)))),
            "evergate.goaway" => {
                let Reason { reason } = read(&message.data);
                self.effects.push(Effect::Notice(Notice::Goaway { reason }));
            }
            // `cursor` has moved the position already; `heartbeat` only proves life; later ones
            // may come that this client need not understand.
            _ => {}
        }
        self.opened();
    }

    fn moved(&mut self, id: &str) {
        if !id.is_empty() {
            self.last_event_id = Some(id.to_owned());
        }
    }

    fn opened(&mut self) {
        if let State::Streaming(streaming) = &mut self.state {
            streaming.opened = true;
            self.failures = 0;
        }
    }

    fn cut(&mut self, now: Instant, cut: Cut) {
        let State::Streaming(streaming) = &mut self.state else {
            return;
        };
        let (opened, busy) = (streaming.opened, streaming.busy.take());
        let why = match (busy.as_deref(), cut) {
            (Some(reason), _) => format!("the server is busy ({reason})"),
            (None, Cut::Ended) => "the stream ended".to_owned(),
            (None, Cut::Failed(why)) => why,
        };
        if opened || busy.is_some() {
            // The server drew this client's wait by lot already.
            self.failures = 0;
            self.wait(now, why, self.retry);
        } else {
            self.back_off(now, why, Duration::ZERO);
        }
    }

    /// Waits longer with every failure, never less than the server asked for, and each time by a
    /// length of its own, so that clients that failed together do not come back together.
    fn back_off(&mut self, now: Instant, why: String, at_least: Duration) {
        let doubled = self.retry.saturating_mul(1 << self.failures.min(10)).min(BACK_OFF_MAX);
        self.failures += 1;
        let least = doubled.max(self.retry).max(at_least).min(RETRY_MAX);
        let extra = least.mul_f64(0.5 * self.random.f64());
        self.wait(now, why, least + extra);
    }

    fn wait(&mut self, now: Instant, why: String, wait: Duration) {
        self.effects.push(Effect::Notice(Notice::Reconnecting { why, wait }));
        self.state = State::Waiting { until: now + wait };
    }

    fn finish(&mut self, outcome: Outcome) {
        self.state = State::Finished;
        self.effects.push(Effect::Finish(outcome));
    }
}

/// Reads a control event's data. What cannot be read stays empty: a notice with a hole in it is
/// better than none.
fn read<T: for<'a> Deserialize<'a> + Default>(data: &str) -> T {
    serde_json::from_str(data).unwrap_or_default()
}

#[cfg(test)]
mod tests;
