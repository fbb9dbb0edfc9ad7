//! What a slow reader is sent instead of what it missed, where its stream's policy is not to catch up.

use std::collections::HashMap;
use std::sync::Arc;

use evergate_domain::{Gap, GapReason, Key, Offset, SlowReader};

use crate::engine::run::RUN_BYTES;
use crate::figures::gap_told;
use crate::frame::Frame;
use crate::output::Output;
use crate::ring::{Ring, Taken};
use crate::session::Session;

/// What a cursor has missed, as far as the ring has it.
pub(crate) struct Missed {
    cursor: Offset,
    /// The position directly before the frames: the cursor, or where the ring begins now.
    from: Offset,
    frames: Vec<Arc<Frame>>,
}

impl Missed {
    /// `None` if only the log can tell whether the cursor is one of the stream's history.
    pub(crate) fn of(ring: &Ring, cursor: Offset) -> Option<Self> {
        let from = if ring.holds(cursor) { cursor } else { ring.base() };
        // Of the same epoch as a position of the history, and not behind it, is of the history too.
        if from.epoch != cursor.epoch || from.seq < cursor.seq {
            return None;
        }
        let frames = match ring.after(from.seq, usize::MAX) {
            Taken::Frames(frames) => frames,
            Taken::AtHead => Vec::new(),
            Taken::Behind => return None,
        };
        Some(Self { cursor, from, frames })
    }

    /// Moves a session that stands at the cursor on by the policy, and writes what is to be shown and
    /// told. Whether that is all, or only as much as goes at once.
    pub(crate) fn skip(
        &self,
        policy: SlowReader,
        stream: usize,
        session: &mut Session,
        out: &mut Output,
    ) -> bool {
        match policy {
            SlowReader::Conflate => self.conflate(stream, session, out),
            SlowReader::CatchUp | SlowReader::Gap | SlowReader::Disconnect => {
                let to = self.head();
                if to != self.cursor {
                    let gap = self.gap(GapReason::Slow, self.cursor, to, to.next());
                    session.gap(stream, &gap, out);
                }
                true
            }
        }
    }

    fn head(&self) -> Offset {
        self.frames.last().map_or(self.from, |frame| frame.offset())
    }

    /// The latest event of each key, in the order of the stream. Each hole between them that holds
    /// something wanted is told of, so a client accounts for every event wherever it is cut.
    fn conflate(&self, stream: usize, session: &mut Session, out: &mut Output) -> bool {
        let mut latest: HashMap<Option<&Key>, Offset> = HashMap::new();
        for frame in self.frames.iter().filter(|frame| session.wants(stream, frame)) {
            latest.insert(frame.event().key.as_ref(), frame.offset());
        }
        // What lay before the ring is not known any more, so it counts as wanted.
        let mut dropped = self.from != self.cursor;
        let (mut told, mut before, mut unseen) = (self.cursor, self.from, 0);
        for frame in &self.frames {
            let offset = frame.offset();
            if !session.wants(stream, frame) {
                unseen += 1;
            } else if latest.get(&frame.event().key.as_ref()) == Some(&offset) {
                if std::mem::take(&mut dropped) {
                    session.gap(stream, &self.gap(GapReason::Policy, told, before, offset), out);
                }
                session.show(stream, frame, out);
                (told, unseen) = (offset, 0);
                if out.len() >= RUN_BYTES {
                    return false;
                }
            } else {
                dropped = true;
            }
            before = offset;
        }
        let to = self.head();
        if dropped {
            session.gap(stream, &self.gap(GapReason::Policy, told, to, to.next()), out);
        } else {
            session.pass(stream, to, unseen);
        }
        true
    }

    /// The notice of a jump.
    fn gap(&self, reason: GapReason, requested: Offset, cursor: Offset, resumed_at: Offset) -> Gap {
        let next = requested.next();
        let same = |frame: &Arc<Frame>| Some(frame.offset()).filter(|offset| offset.seq == next.seq);
        // An epoch may begin there.
        let first_missing = Some(self.frames.iter().find_map(same).unwrap_or(next));
        let lost = Some(cursor.seq.get() - requested.seq.get());
        let gap = Gap { requested, first_missing, cursor, resumed_at, reason, lost };
        gap_told(&gap);
        gap
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use evergate_domain::{
        Cursor, EventDraft, KeyFilter, KeyPattern, StreamName, StreamSet, UnixMillis, sse,
    };

    use super::*;
    use crate::frame::Framing;
    use crate::gzip::Encoding;
    use crate::profile::Profile;
    use crate::subscriber::HeartbeatKind;

    /// Where a skip leads to.
    #[derive(Debug, PartialEq, Eq)]
    struct Skipped {
        to: Offset,
        /// Events passed over since the last one that was shown or told of.
        unseen: u32,
        at_head: bool,
    }

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    /// A ring from just after `base`, with events given as offset and key.
    fn ring(base: &str, events: &[(&str, &str)]) -> Ring {
        let mut ring = Ring::new(offset(base), 5_000, u64::MAX);
        for (at, key) in events {
            let draft = EventDraft { key: Some(Key::new(key).expect("valid")), ..EventDraft::new(*at) };
            ring.push(Arc::new(Frame::new(Arc::new(draft.placed(offset(at), UnixMillis::new(0))))));
        }
        ring
    }

    fn session(names: &[&str], pattern: &str, cursor: &str) -> Session {
        let filter: KeyFilter = match pattern {
            "" => KeyFilter::all(),
            pattern => [KeyPattern::parse(pattern).expect("valid")].into_iter().collect(),
        };
        let names: Vec<_> = names.iter().map(|name| StreamName::new(name).expect("valid")).collect();
        let cursor = vec![offset(cursor); names.len()];
        let profile = Profile {
            filters: vec![filter; names.len()].into(),
            streams: StreamSet::new(names).expect("some"),
            framing: Framing::Plain,
            encoding: Encoding::Identity,
            heartbeat: (Duration::from_secs(15), HeartbeatKind::Comment),
        };
        let cursor = Cursor::new(&profile.streams, cursor);
        Session::new(Arc::new(profile), cursor, 0, u32::MAX)
    }

    /// What a client at `cursor` is told: `id` for an event, `first..id resumed lost` for a notice.
    fn skip(ring: &Ring, policy: SlowReader, pattern: &str, cursor: &str) -> Option<(Vec<String>, Skipped)> {
        let (mut out, mut session) = (Output::default(), session(&["s"], pattern, cursor));
        let at_head = Missed::of(ring, offset(cursor))?.skip(policy, 0, &mut session, &mut out);
        let skipped = Skipped { to: session.offset(0), unseen: session.unseen(), at_head };
        let mut items = Vec::new();
        sse::Decoder::new(1 << 20, cursor).feed(&out.take(), &mut items).expect("valid");
        let told = items.into_iter().map(|item| {
            let sse::Item::Message(message) = item else { panic!("{item:?}") };
            if message.kind != "evergate.gap" {
                return message.last_event_id;
            }
            let gap: serde_json::Value = serde_json::from_str(&message.data).expect("JSON");
            let text = |field: &str| gap[field].as_str().expect(field).to_owned();
            format!(
                "{}..{} {} {}",
                text("first_missing"),
                message.last_event_id,
                text("resumed_at"),
                gap["lost"]
            )
        });
        Some((told.collect(), skipped))
    }

    #[test]
    fn conflation_shows_the_latest_of_each_key_and_tells_of_every_hole() {
        let ring = ring(
            "1-2",
            &[("1-3", "a"), ("1-4", "b"), ("4-5", "a"), ("4-6", "c"), ("4-7", "b"), ("4-8", "b")],
        );
        let conflated =
            |pattern, cursor| skip(&ring, SlowReader::Conflate, pattern, cursor).expect("of the history");
        let at_head = |to, unseen| Skipped { to: offset(to), unseen, at_head: true };
        let all = ["1-3..1-4 4-5 2", "4-5", "4-6", "4-7..4-7 4-8 1", "4-8"].map(str::to_owned);
        assert_eq!(conflated("", "1-2"), (all.to_vec(), at_head("4-8", 0)));
        // What lay before the ring is told of as well, from where the client stands.
        let beyond = ["1-1..1-4 4-5 4", "4-5", "4-6", "4-7..4-7 4-8 1", "4-8"].map(str::to_owned);
        assert_eq!(conflated("", "1-0"), (beyond.to_vec(), at_head("4-8", 0)));
        // Holes without anything wanted are only passed over.
        assert_eq!(conflated("c", "1-2"), (vec!["4-6".to_owned()], at_head("4-8", 2)));
        assert_eq!(conflated("z", "1-2"), (vec![], at_head("4-8", 6)));
        // Nobody knows what was wanted of what is gone.
        assert_eq!(conflated("z", "1-0"), (vec!["1-1..4-8 4-9 8".to_owned()], at_head("4-8", 0)));
    }

    #[test]
    fn a_gap_leads_to_the_live_end() {
        let ring = ring("1-2", &[("1-3", "a"), ("4-4", "b")]);
        let told = |cursor| skip(&ring, SlowReader::Gap, "", cursor).map(|(told, _)| told);
        assert_eq!(told("1-3"), Some(vec!["4-4..4-4 4-5 1".to_owned()]));
        assert_eq!(told("1-0"), Some(vec!["1-1..4-4 4-5 4".to_owned()]));
        assert_eq!(told("4-4"), Some(vec![]));
    }

    #[test]
    fn a_position_that_may_be_of_another_history_is_for_the_log_to_judge() {
        let ring = ring("4-2", &[("4-3", "a")]);
        for foreign in ["1-1", "1-2", "4-4", "5-3", "0-0"] {
            assert_eq!(skip(&ring, SlowReader::Conflate, "", foreign), None, "{foreign}");
        }
    }

    #[test]
    fn a_large_catch_is_handed_out_in_parts() {
        let names: Vec<(String, String)> = (1..=2_000).map(|n| (format!("1-{n}"), format!("k{n}"))).collect();
        let events: Vec<(&str, &str)> = names.iter().map(|(at, key)| (at.as_str(), key.as_str())).collect();
        let ring = ring("1-0", &events);
        let (mut cursor, mut told, mut parts) = ("1-0".to_owned(), Vec::new(), 0);
        loop {
            let (more, skipped) = skip(&ring, SlowReader::Conflate, "", &cursor).expect("of the history");
            told.extend(more);
            cursor = skipped.to.to_string();
            parts += 1;
            if skipped.at_head {
                break;
            }
        }
        assert_eq!(told, names.into_iter().map(|(at, _)| at).collect::<Vec<_>>());
        assert!(parts > 2, "{parts}");
    }

    #[test]
    fn among_several_streams_one_is_moved_on_and_every_id_is_the_whole_position() {
        let ring = ring("1-2", &[("1-3", "a"), ("1-4", "b"), ("1-5", "a")]);
        let (mut out, mut session) = (Output::default(), session(&["left", "right"], "", "1-2"));
        let missed = Missed::of(&ring, session.offset(1)).expect("of the history");
        assert!(missed.skip(SlowReader::Conflate, 1, &mut session, &mut out));
        let mut items = Vec::new();
        sse::Decoder::new(1 << 20, "").feed(&out.take(), &mut items).expect("valid");
        let told: Vec<_> = items
            .into_iter()
            .map(|item| {
                let sse::Item::Message(message) = item else { panic!("{item:?}") };
                let at = Cursor::parse(&session.profile().streams, &message.last_event_id).expect("ours");
                (message.kind, at.offsets().to_vec())
            })
            .collect();
        let at = |seq: &str| vec![offset("1-2"), offset(seq)];
        let expected = [("evergate.gap", "1-3"), ("message", "1-4"), ("message", "1-5")];
        assert_eq!(told, expected.map(|(kind, seq)| (kind.to_owned(), at(seq))));
        assert_eq!(session.cursor().offsets(), at("1-5"));
    }
}
