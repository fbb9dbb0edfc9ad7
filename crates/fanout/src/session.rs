//! What one subscriber is sent: pure, and told everything.

use std::sync::Arc;

use evergate_domain::{Cursor, Gap, Offset, sse};

use crate::frame::Frame;
use crate::output::Output;
use crate::profile::Profile;
use crate::subscriber::HeartbeatKind;

/// The position of one subscriber in its streams, and the rules for what it gets.
///
/// The session moves over every event of its streams, wanted or not, so its cursor is always true.
/// The client's copy of it, the last id it was sent, may lie behind; the session knows, and sends
/// `evergate.cursor` before that grows into a long scan or a false gap.
#[derive(Debug)]
pub(crate) struct Session {
    profile: Arc<Profile>,
    cursor: Cursor,
    /// Events passed over since the client was last sent an id.
    unseen: u32,
    unseen_max: u32,
}

impl Session {
    /// A session at `cursor`, whose client was last sent an id `unseen` events ago.
    ///
    /// # Panics
    /// If the profile has not exactly one filter per stream.
    pub(crate) fn new(profile: Arc<Profile>, cursor: Cursor, unseen: u32, unseen_max: u32) -> Self {
        assert_eq!(profile.filters.len(), profile.streams.names().len(), "one filter per stream");
        Self { profile, cursor, unseen, unseen_max }
    }

    /// What it asked for.
    pub(crate) fn profile(&self) -> &Arc<Profile> {
        &self.profile
    }

    /// The whole position.
    pub(crate) fn cursor(&self) -> &Cursor {
        &self.cursor
    }

    pub(crate) fn into_cursor(self) -> Cursor {
        self.cursor
    }

    /// Events passed over since the client was last sent an id.
    pub(crate) fn unseen(&self) -> u32 {
        self.unseen
    }

    pub(crate) fn offset(&self, stream: usize) -> Offset {
        self.cursor.offsets()[stream]
    }

    /// Whether an event is one of those asked for.
    pub(crate) fn wants(&self, stream: usize, frame: &Frame) -> bool {
        self.profile.filters[stream].matches(frame.event().key.as_ref())
    }

    /// Moves over frames that directly follow the cursor and writes those that are wanted.
    ///
    /// # Panics
    /// If the first does not follow the cursor: that would be a silent loss or a repetition.
    pub(crate) fn run(&mut self, stream: usize, frames: &[Arc<Frame>], out: &mut Output) {
        for frame in frames {
            assert_eq!(
                frame.offset().seq,
                self.offset(stream).seq.plus(1),
                "a subscriber's events are dense"
            );
            if self.wants(stream, frame) {
                self.show(stream, frame, out);
            } else {
                self.pass(stream, frame.offset(), 1);
                if self.unseen >= self.unseen_max {
                    self.tell_position(out);
                }
            }
        }
    }

    /// Writes an event and moves to it.
    pub(crate) fn show(&mut self, stream: usize, frame: &Frame, out: &mut Output) {
        self.cursor.set(stream, frame.offset());
        self.unseen = 0;
        let names = self.profile.streams.names();
        if names.len() == 1 {
            out.whole(frame, &names[stream], self.profile.framing);
        } else {
            let mut id = Vec::with_capacity(128);
            sse::id(&mut id, |out| self.cursor.write_to(out));
            out.with_id(frame, &names[stream], self.profile.framing, &id);
        }
    }

    /// Moves over this many events without a word. None of them is wanted, or they are told of already.
    pub(crate) fn pass(&mut self, stream: usize, to: Offset, events: u32) {
        self.cursor.set(stream, to);
        self.unseen = self.unseen.saturating_add(events);
    }

    /// Tells of a gap and moves over it, in one frame.
    pub(crate) fn gap(&mut self, stream: usize, gap: &Gap, out: &mut Output) {
        self.cursor.set(stream, gap.cursor);
        self.unseen = 0;
        let mut frame = Vec::new();
        let name = self.profile.streams.names()[stream].as_str();
        sse::gap(&mut frame, name, gap, &self.cursor.to_string());
        out.private(&frame);
    }

    /// A sign of life after a time of silence, and the position, if the client's is behind. Before them, when
    /// it is to come back if its edge is lost, if there is news of it.
    pub(crate) fn beat(&mut self, retry_ms: Option<u64>, out: &mut Output) {
        if let Some(retry_ms) = retry_ms {
            let mut line = Vec::new();
            sse::retry_hint(&mut line, retry_ms);
            out.private(&line);
        }
        if self.unseen > 0 {
            self.tell_position(out);
        }
        match self.profile.heartbeat.1 {
            HeartbeatKind::Comment => out.private(sse::HEARTBEAT),
            HeartbeatKind::Event => {
                let mut frame = Vec::new();
                sse::heartbeat(&mut frame);
                out.private(&frame);
            }
        }
    }

    /// The position as a frame of its own, for a client whose copy of it lies behind.
    pub(crate) fn tell_position(&mut self, out: &mut Output) {
        self.unseen = 0;
        let mut frame = Vec::new();
        sse::cursor(&mut frame, &self.cursor.to_string());
        out.private(&frame);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::time::Duration;

    use evergate_domain::{EventDraft, Key, KeyFilter, KeyPattern, StreamName, StreamSet, UnixMillis};

    use crate::frame::Framing;
    use crate::gzip::Encoding;

    fn set(names: &[&str]) -> StreamSet {
        StreamSet::new(names.iter().map(|n| StreamName::new(n).expect("valid")).collect()).expect("valid")
    }

    fn frame(offset: &str, key: Option<&str>) -> Arc<Frame> {
        let draft = EventDraft { key: key.map(|k| Key::new(k).expect("valid")), ..EventDraft::new(offset) };
        Arc::new(Frame::new(Arc::new(draft.placed(offset.parse().expect("valid"), UnixMillis::new(0)))))
    }

    fn text(out: &mut Output) -> String {
        String::from_utf8(out.take().to_vec()).expect("UTF-8")
    }

    fn session(names: &[&str], filter: &str, cursor: &str) -> Session {
        let streams = set(names);
        let filters = names
            .iter()
            .map(|_| match filter {
                "" => KeyFilter::all(),
                pattern => [KeyPattern::parse(pattern).expect("valid")].into_iter().collect(),
            })
            .collect();
        let offsets = names.iter().map(|_| cursor.parse().expect("valid")).collect();
        let cursor = Cursor::new(&streams, offsets);
        let heartbeat = (Duration::from_secs(15), HeartbeatKind::Comment);
        let (framing, encoding) = (Framing::Plain, Encoding::Identity);
        let profile = Profile { streams, filters, framing, encoding, heartbeat };
        Session::new(Arc::new(profile), cursor, 0, 3)
    }

    #[test]
    fn a_run_is_laid_together_and_a_single_frame_shared() {
        let mut session = session(&["s"], "", "1-0");
        let mut out = Output::default();
        let one = frame("1-1", None);
        session.run(0, &[Arc::clone(&one)], &mut out);
        let sent = out.take();
        assert_eq!(&sent[..], b"data: 1-1\nid: 1-1\n\n");
        let shared = one.encoded(&session.profile.streams.names()[0], Framing::Plain).whole().as_ptr();
        assert_eq!(sent.as_ptr(), shared, "copied");
        session.run(0, &[frame("1-2", None), frame("2-3", None)], &mut out);
        assert_eq!(text(&mut out), "data: 1-2\nid: 1-2\n\ndata: 2-3\nid: 2-3\n\n");
    }

    #[test]
    fn a_quiet_filter_still_moves_on() {
        let mut session = session(&["s"], "A", "1-0");
        let mut out = Output::default();
        session.run(0, &[frame("1-1", Some("B")), frame("1-2", None)], &mut out);
        assert!(out.is_empty());
        session.beat(None, &mut out);
        assert_eq!(text(&mut out), "event: evergate.cursor\ndata: {}\nid: 1-2\n\n:\n");
        session.beat(None, &mut out);
        assert_eq!(text(&mut out), ":\n", "nothing new to tell");
        session.beat(Some(4_321), &mut out);
        assert_eq!(text(&mut out), "retry: 4321\n:\n");
        let others: Vec<_> = (3..=8).map(|n| frame(&format!("1-{n}"), Some("B"))).collect();
        session.run(0, &others, &mut out);
        assert_eq!(
            text(&mut out),
            "event: evergate.cursor\ndata: {}\nid: 1-5\n\nevent: evergate.cursor\ndata: {}\nid: 1-8\n\n",
            "a long scan tells its position without waiting for the heartbeat"
        );
    }

    #[test]
    fn over_several_streams_every_id_is_the_whole_position() {
        let mut session = session(&["a", "b"], "", "1-0");
        let mut out = Output::default();
        session.run(1, &[frame("1-1", None)], &mut out);
        session.run(0, &[frame("1-1", None)], &mut out);
        let mut items = Vec::new();
        sse::Decoder::new(1 << 16, "").feed(&out.take(), &mut items).expect("valid");
        let ids: Vec<_> = items
            .iter()
            .map(|item| {
                let sse::Item::Message(message) = item else { panic!("{item:?}") };
                Cursor::parse(&session.profile.streams, &message.last_event_id).expect("ours")
            })
            .map(|cursor| cursor.offsets().iter().map(ToString::to_string).collect::<Vec<_>>().join(" "))
            .collect();
        assert_eq!(ids, ["1-0 1-1", "1-1 1-1"]);
    }

    #[test]
    #[should_panic(expected = "a subscriber's events are dense")]
    fn a_silent_hole_is_never_sent() {
        session(&["s"], "", "1-0").run(0, &[frame("1-2", None)], &mut Output::default());
    }
}
