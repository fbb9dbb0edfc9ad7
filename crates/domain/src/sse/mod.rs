//! Server-Sent Events on the wire: <https://html.spec.whatwg.org/multipage/server-sent-events.html>.

mod control;
mod decode;
mod encode;

pub use control::{Busy, Goaway, Open, Reauth, cursor, gap, heartbeat};
pub use decode::{DecodeError, Decoder, Item, Message};
pub use encode::{HEARTBEAT, envelope, fields, id, retry_hint};
