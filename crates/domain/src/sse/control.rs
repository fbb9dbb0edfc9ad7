//! Evergate's own frames, under the reserved prefix `evergate.`.
//!
//! A control frame carries an id only where it is the cursor's true position.

use super::encode::{fields, id, retry_hint};
use crate::{Gap, ResumeKind};

/// The first frame of a stream.
#[derive(Debug)]
pub struct Open<'a> {
    /// Names this connection.
    pub connection: &'a str,
    /// How its beginning came about.
    pub resume: ResumeKind,
    /// The position it starts from; with [`ResumeKind::Gap`], the one the client asked for.
    pub cursor: &'a str,
    /// The trace of the request, for people who cannot read headers.
    pub trace_id: &'a str,
    /// How often the client must ping, in milliseconds, if it asked for a lease.
    pub ping_ms: Option<u64>,
    /// How long to wait before coming back, in milliseconds.
    pub retry_ms: u64,
}

impl Open<'_> {
    /// Writes `retry:`, then `evergate.open` with the start cursor as its id.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        retry_hint(out, self.retry_ms);
        let mut data = serde_json::json!({
            "connection": self.connection,
            "resume": self.resume.as_str(),
            "cursor": self.cursor,
            "trace_id": self.trace_id,
        });
        if let Some(ping_ms) = self.ping_ms {
            data["ping_ms"] = ping_ms.into();
        }
        control(out, "evergate.open", &data);
        id(out, |out| out.extend_from_slice(self.cursor.as_bytes()));
    }
}

/// A refusal that does not kill a browser's `EventSource`.
#[derive(Debug)]
pub struct Busy<'a> {
    /// Why, in a word or a few.
    pub reason: &'a str,
    /// The position the client asked for. Read to the letter, the standard makes a client forget its
    /// last id with the first event of a new connection that has none.
    pub cursor: Option<&'a str>,
    /// When to come back, in milliseconds.
    pub retry_ms: u64,
}

impl Busy<'_> {
    /// Writes `retry:`, then `evergate.busy` with the client's own position, if it has one.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        retry_hint(out, self.retry_ms);
        control(
            out,
            "evergate.busy",
            &serde_json::json!({ "reason": self.reason, "retry_ms": self.retry_ms }),
        );
        match self.cursor {
            Some(cursor) => id(out, |out| out.extend_from_slice(cursor.as_bytes())),
            None => out.push(b'\n'),
        }
    }
}

/// The stream is about to end, and the client should open another.
#[derive(Debug)]
pub struct Goaway<'a> {
    /// Why.
    pub reason: &'a str,
    /// When to come back, in milliseconds.
    pub retry_ms: u64,
}

impl Goaway<'_> {
    /// Writes `retry:`, then `evergate.goaway` without an id.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        retry_hint(out, self.retry_ms);
        control(
            out,
            "evergate.goaway",
            &serde_json::json!({ "reason": self.reason, "retry_ms": self.retry_ms }),
        );
        out.push(b'\n');
    }
}

/// The client's token runs out, and the stream with it, unless a fresh one comes.
#[derive(Debug)]
pub struct Reauth<'a> {
    /// The connection to which the fresh token is to be posted.
    pub connection: &'a str,
    /// Until the stream ends, in milliseconds.
    pub expires_in_ms: u64,
}

impl Reauth<'_> {
    /// Writes `evergate.reauth` without an id.
    pub fn write_to(&self, out: &mut Vec<u8>) {
        let data = serde_json::json!({ "connection": self.connection, "expires_in_ms": self.expires_in_ms });
        control(out, "evergate.reauth", &data);
        out.push(b'\n');
    }
}

/// Writes `evergate.gap`. `cursor` is the whole subscription's, already moved over the gap: notice
/// and jump are one frame, so a client has read both or neither.
pub fn gap(out: &mut Vec<u8>, stream: &str, gap: &Gap, cursor: &str) {
    control(
        out,
        "evergate.gap",
        &serde_json::json!({
            "stream": stream,
            "requested": gap.requested,
            "first_missing": gap.first_missing,
            "resumed_at": gap.resumed_at,
            "reason": gap.reason.as_str(),
            "lost": gap.lost,
        }),
    );
    id(out, |out| out.extend_from_slice(cursor.as_bytes()));
}

/// Writes `evergate.cursor`: nothing matched, but the position moved on.
pub fn cursor(out: &mut Vec<u8>, cursor: &str) {
    control(out, "evergate.cursor", &serde_json::json!({}));
    id(out, |out| out.extend_from_slice(cursor.as_bytes()));
}

/// Writes `evergate.heartbeat`, for clients whose watchdog cannot see comments.
pub fn heartbeat(out: &mut Vec<u8>) {
    control(out, "evergate.heartbeat", &serde_json::json!({}));
    out.push(b'\n');
}

fn control(out: &mut Vec<u8>, kind: &str, data: &serde_json::Value) {
    fields(out, Some(kind), &data.to_string());
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{GapReason, Offset};

    fn text(write: impl FnOnce(&mut Vec<u8>)) -> String {
        let mut out = Vec::new();
        write(&mut out);
        String::from_utf8(out).expect("UTF-8")
    }

    #[test]
    fn reauth_says_where_and_until_when() {
        assert_eq!(
            text(|out| Reauth { connection: "n~1", expires_in_ms: 90_000 }.write_to(out)),
            "event: evergate.reauth\ndata: {\"connection\":\"n~1\",\"expires_in_ms\":90000}\n\n"
        );
    }

    #[test]
    fn open_is_one_frame_with_retry_first_and_id_last() {
        let mut open = Open {
            connection: "c1",
            resume: ResumeKind::Exact,
            cursor: "1-2",
            trace_id: "ab",
            ping_ms: None,
            retry_ms: 1500,
        };
        assert_eq!(
            text(|out| open.write_to(out)),
            "retry: 1500\nevent: evergate.open\ndata: {\"connection\":\"c1\",\"cursor\":\"1-2\",\"resume\":\"exact\",\"trace_id\":\"ab\"}\nid: 1-2\n\n"
        );
        open.ping_ms = Some(30_000);
        assert!(text(|out| open.write_to(out)).contains("\"ping_ms\":30000"));
    }

    #[test]
    fn a_gap_carries_the_position_it_jumps_to() {
        let offset = |text: &str| text.parse::<Offset>().expect("valid");
        let notice = Gap {
            requested: offset("1-2"),
            first_missing: Some(offset("1-3")),
            cursor: offset("1-9"),
            resumed_at: offset("1-10"),
            reason: GapReason::Trimmed,
            lost: Some(7),
        };
        assert_eq!(
            text(|out| gap(out, "quote", &notice, "1-9")),
            "event: evergate.gap\ndata: {\"first_missing\":\"1-3\",\"lost\":7,\"reason\":\"trimmed\",\"requested\":\"1-2\",\"resumed_at\":\"1-10\",\"stream\":\"quote\"}\nid: 1-9\n\n"
        );
    }

    #[test]
    fn busy_and_goaway_leave_the_client_where_it_is() {
        let busy = |cursor| text(|out| Busy { reason: "full", cursor, retry_ms: 2000 }.write_to(out));
        let frame = "retry: 2000\nevent: evergate.busy\ndata: {\"reason\":\"full\",\"retry_ms\":2000}\n";
        assert_eq!(busy(None), format!("{frame}\n"));
        assert_eq!(busy(Some("1-2")), format!("{frame}id: 1-2\n\n"));
        let goaway = Goaway { reason: "shutdown", retry_ms: 2000 };
        assert!(!text(|out| goaway.write_to(out)).contains("id:"));
    }
}
