//! A stream being listened to, with the moment of everything that came.

use std::time::{Duration, Instant};

use evergate_domain::sse::{Decoder, Item, Message};

use super::client::{Asked, Piece};

/// Test events are short, and a stranger's need not be understood.
const EVENT_BYTES_MAX: usize = 8 * 1024 * 1024;

/// A stream that is read.
pub(crate) struct Listening {
    asked: Asked,
    decoder: Decoder,
    items: std::collections::VecDeque<Item>,
    begun: Instant,
    last_byte: Instant,
}

/// What a stream brought.
pub(crate) enum Heard {
    Message(Message),
    Heartbeat,
    /// Bytes that are no event stream.
    Nonsense,
    End,
    Cut(String),
}

impl Listening {
    pub(crate) fn new(asked: Asked) -> Self {
        let now = Instant::now();
        Self {
            asked,
            decoder: Decoder::new(EVENT_BYTES_MAX, ""),
            items: std::collections::VecDeque::new(),
            begun: now,
            last_byte: now,
        }
    }

    pub(crate) fn age(&self) -> Duration {
        self.begun.elapsed()
    }

    pub(crate) fn silent(&self) -> Duration {
        self.last_byte.elapsed()
    }

    /// What comes next; `None` if nothing does until `deadline`. Cancel-safe.
    pub(crate) async fn next(&mut self, deadline: Instant) -> Option<Heard> {
        loop {
            match self.items.pop_front() {
                Some(Item::Message(message)) => return Some(Heard::Message(message)),
                Some(Item::Comment(_)) => return Some(Heard::Heartbeat),
                Some(Item::Retry(_) | Item::Position(_)) => continue,
                None => {}
            }
            match tokio::time::timeout_at(deadline.into(), self.asked.next()).await.ok()? {
                Piece::Bytes(bytes) => {
                    self.last_byte = Instant::now();
                    let mut items = Vec::new();
                    let decoded = self.decoder.feed(&bytes, &mut items);
                    self.items.extend(items);
                    if decoded.is_err() {
                        return Some(Heard::Nonsense);
                    }
                }
                Piece::End => return Some(Heard::End),
                Piece::Cut(why) => return Some(Heard::Cut(why)),
            }
        }
    }

    /// Waits for the event with this data; the moment it came, or `None` if it does not until
    /// `deadline`.
    pub(crate) async fn event(&mut self, data: &str, deadline: Instant) -> Option<Instant> {
        loop {
            match self.next(deadline).await? {
                Heard::Message(message) if message.data == data => return Some(Instant::now()),
                Heard::Message(_) | Heard::Heartbeat => {}
                Heard::Nonsense | Heard::End | Heard::Cut(_) => return None,
            }
        }
    }
}
