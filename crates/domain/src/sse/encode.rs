//! From events to frames. `id:` always comes last: one widely used client takes an id over as soon
//! as it reads the line, and would lose an event that is cut in the middle.

use crate::{Event, StreamName};

/// A comment with ONE newline. A blank line would make one client dispatch an empty event.
pub const HEARTBEAT: &[u8] = b":\n";

/// Writes `event:` (if there is a type) and the `data:` lines: all of a frame but its id, and the
/// same for every subscriber.
///
/// CR, LF and CRLF each end a line of `data`, as the standard has it for the reader, who will see
/// LF for each of them.
pub fn fields(out: &mut Vec<u8>, kind: Option<&str>, data: &str) {
    if let Some(kind) = kind {
        debug_assert!(!kind.contains(['\r', '\n']), "types are checked names");
        out.extend_from_slice(b"event: ");
        out.extend_from_slice(kind.as_bytes());
        out.push(b'\n');
    }
    let mut rest = data.as_bytes();
    loop {
        let end = rest.iter().position(|&b| b == b'\n' || b == b'\r').unwrap_or(rest.len());
        // The one space keeps a space that the data itself begins with.
        out.extend_from_slice(b"data: ");
        out.extend_from_slice(&rest[..end]);
        out.push(b'\n');
        match rest[end..] {
            [] => return,
            [b'\r', b'\n', ..] => rest = &rest[end + 2..],
            [_, ..] => rest = &rest[end + 1..],
        }
    }
}

/// Ends a frame with its `id:` line and the blank line, which is the moment a client takes it.
pub fn id(out: &mut Vec<u8>, write_id: impl FnOnce(&mut Vec<u8>)) {
    out.extend_from_slice(b"id: ");
    write_id(out);
    out.extend_from_slice(b"\n\n");
}

/// A fresh `retry:`: one line and ONE newline, so it dispatches nothing.
pub fn retry_hint(out: &mut Vec<u8>, retry_ms: u64) {
    out.extend_from_slice(format!("retry: {retry_ms}\n").as_bytes());
}

/// The event as one JSON object, `{"stream", "key", "type", "time", "data"}`, for subscribers that
/// cannot tell otherwise what they got. `key` and `type` are null where there is none.
#[must_use]
pub fn envelope(stream: &StreamName, event: &Event) -> String {
    #[derive(serde::Serialize)]
    struct Envelope<'a> {
        stream: &'a str,
        key: Option<&'a str>,
        r#type: Option<&'a str>,
        time: String,
        data: &'a str,
    }
    serde_json::to_string(&Envelope {
        stream: stream.as_str(),
        key: event.key.as_ref().map(crate::Key::as_str),
        r#type: event.kind.as_ref().map(crate::EventType::as_str),
        time: event.time.to_string(),
        data: &event.data,
    })
    .expect("strings always serialise")
}
