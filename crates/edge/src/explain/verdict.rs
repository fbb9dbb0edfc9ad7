//! From what is known to what is said. Pure.

use evergate_domain::{ClientId, KeyFilter, Offset, StreamName, UnixMillis};

use super::facts::{Began, EventState, Open};
use super::kept::{Kept, judge_kept};

/// The answer for one open stream of a client, or for all if there is none.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Explanation {
    /// In a word.
    pub verdict: Verdict,
    /// In a sentence or two: what is known, and what cannot be.
    pub sentence: String,
    /// When the log accepted the event, if it still has it.
    pub accepted: Option<UnixMillis>,
    /// When the client's stream was opened.
    pub opened: Option<UnixMillis>,
    /// Where it began.
    pub began_at: Option<String>,
    /// How far the client has surely come.
    pub come_to: Option<String>,
    /// When that was found.
    pub come_to_found: Option<UnixMillis>,
    /// The place that is kept for the client, if it was looked for and there is one.
    pub kept_at: Option<String>,
}

/// What became of an event for a client.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Verdict {
    /// There is no such event, yet.
    NotPublished,
    /// It is not as safe yet as its stream demands.
    NotCommitted,
    /// Another event stands in its place.
    OtherHistory,
    /// No stream of the client is open here.
    NotConnected,
    /// The client's streams here are of other streams.
    NotSubscribed,
    /// The client began behind it.
    BeforeCursor,
    /// Retention removed it before the client had it for certain.
    Trimmed,
    /// Its key was not wanted.
    Filtered,
    /// The client has worked it through, as it says itself.
    Acknowledged,
    /// The client's system has it.
    Delivered,
    /// It was sent, or is being sent; that it arrived is not known.
    OnItsWay,
    /// The client is not connected, and its place is kept in front of it.
    NextTime,
    /// The client is not connected, and its place is kept behind it.
    BeforePlace,
}

impl Verdict {
    /// The word.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::NotPublished => "not-published",
            Self::NotCommitted => "not-committed",
            Self::OtherHistory => "other-history",
            Self::NotConnected => "not-connected",
            Self::NotSubscribed => "not-subscribed",
            Self::BeforeCursor => "before-cursor",
            Self::Trimmed => "trimmed",
            Self::Filtered => "filtered",
            Self::Acknowledged => "acknowledged",
            Self::Delivered => "delivered",
            Self::OnItsWay => "on-its-way",
            Self::NextTime => "next-time",
            Self::BeforePlace => "before-place",
        }
    }
}

/// What is asked.
pub(super) struct Question<'a> {
    pub(super) client: &'a ClientId,
    pub(super) stream: &'a StreamName,
    pub(super) event: Offset,
}

/// Whether any of these streams is of this one: then they answer, and no place that is kept.
pub(super) fn is_open(stream: &StreamName, open: &[Open]) -> bool {
    open.iter().any(|open| open.streams.position(stream).is_some())
}

/// An answer for each of the client's streams that has the event's; else one for all of them, by the place that is
/// kept for the subscription asked about, which wants these keys.
pub(super) fn judge(
    question: &Question<'_>,
    state: &EventState,
    open: &[Open],
    (kept, filter): (Option<&Kept>, &KeyFilter),
) -> Vec<Explanation> {
    if let Some(of_all) = of_everybody(question, state) {
        return vec![of_all];
    }
    let accepted = match state {
        EventState::There(event) => Some(event.time),
        EventState::Trimmed { .. }
        | EventState::Uncommitted { .. }
        | EventState::Unpublished { .. }
        | EventState::Elsewhere { .. } => None,
    };
    let Question { client, stream, event } = question;
    if let Some(kept) = kept.filter(|_| !is_open(stream, open)) {
        let (verdict, sentence) = judge_kept(question, state, kept, filter);
        let kept_at = Some(kept.at.to_string());
        return vec![Explanation { kept_at, ..plain(verdict, sentence, accepted) }];
    }
    if open.is_empty() {
        let (verdict, now) = match state {
            EventState::Trimmed { floor } => (
                Verdict::Trimmed,
                format!(
                    "Retention has removed {event} (everything up to {floor}); who comes back for it is told so by evergate.gap."
                ),
            ),
            EventState::There(_)
            | EventState::Uncommitted { .. }
            | EventState::Unpublished { .. }
            | EventState::Elsewhere { .. } => (
                Verdict::NotConnected,
                "The event is in the log, and who comes back with an earlier id gets it.".to_owned(),
            ),
        };
        let sentence = format!(
            "No stream under the name {client:?} is open at this edge, what was sent on one that has ended is not kept, and no place is kept for the subscription that was asked about. {now} Other edges may be asked, and other keys named.",
            client = client.as_str()
        );
        return vec![plain(verdict, sentence, accepted)];
    }
    let of_stream: Vec<_> =
        open.iter().filter_map(|open| Some((open, open.streams.position(stream)?))).collect();
    if of_stream.is_empty() {
        let names: Vec<_> =
            open.iter().flat_map(|open| open.streams.names()).map(ToString::to_string).collect();
        let sentence = format!(
            "{client:?} is connected here and follows {names}, and not {stream}.",
            client = client.as_str(),
            names = names.join(", ")
        );
        return vec![plain(Verdict::NotSubscribed, sentence, accepted)];
    }
    of_stream.into_iter().map(|(open, at)| of_one(question, state, open, at, accepted)).collect()
}

/// What is so whoever asks.
fn of_everybody(question: &Question<'_>, state: &EventState) -> Option<Explanation> {
    let Question { stream, event, .. } = question;
    let (verdict, sentence) = match state {
        EventState::Unpublished { tail } => {
            (Verdict::NotPublished, format!("{stream} ends at {tail}: no event {event} has come so far."))
        }
        EventState::Uncommitted { committed } => (
            Verdict::NotCommitted,
            format!(
                "{event} is in the log and not as safe yet as {stream} demands: nobody is shown anything beyond {committed} until a replica has confirmed it."
            ),
        ),
        EventState::Elsewhere { instead } => (
            Verdict::OtherHistory,
            format!(
                "In that place stands {instead}. {event} was of a tail that a failover cut off, or there never was one; a client that had it was told so by evergate.gap when it came back."
            ),
        ),
        EventState::There(_) | EventState::Trimmed { .. } => return None,
    };
    Some(plain(verdict, sentence, None))
}

fn of_one(
    question: &Question<'_>,
    state: &EventState,
    open: &Open,
    at: usize,
    accepted: Option<UnixMillis>,
) -> Explanation {
    let (verdict, sentence) = judge_one(question, state, open, at);
    Explanation {
        verdict,
        sentence,
        accepted,
        opened: open.began.as_ref().map(|began| began.time),
        began_at: open.began.as_ref().map(|began| began.at.offsets()[at].to_string()),
        come_to: open.come.as_ref().map(|(to, _)| to.offsets()[at].to_string()),
        come_to_found: open.come.as_ref().map(|(_, found)| *found),
        kept_at: None,
    }
}

fn judge_one(question: &Question<'_>, state: &EventState, open: &Open, at: usize) -> (Verdict, String) {
    let Question { stream, event, .. } = question;
    let Some(Began { at: begin, how, time: opened }) = &open.began else {
        return (Verdict::OnItsWay, "The client's stream is being opened right now.".to_owned());
    };
    let begin = begin.offsets()[at];
    if event.seq <= begin.seq {
        let sentence = format!(
            "The client's stream began behind it: at {begin}, {opened}, {how}. What it had before is not known here.",
            how = match how {
                evergate_domain::ResumeKind::Live => "where its request asked to begin",
                evergate_domain::ResumeKind::Exact => "where the client itself said that it was",
                evergate_domain::ResumeKind::Stored => "at the place that is kept for it",
                evergate_domain::ResumeKind::Gap =>
                    "at a place whose history is gone, of which it was told by evergate.gap",
            }
        );
        return (Verdict::BeforeCursor, sentence);
    }
    let come = open.come.as_ref().map(|(to, found)| (to.offsets()[at], *found));
    let passed = come.filter(|(to, _)| to.seq >= event.seq);
    if let EventState::Trimmed { floor } = state {
        let sentence = match passed {
            Some((to, found)) => format!(
                "Retention has removed it since (everything up to {floor}), so its key cannot be compared with the filter. If it was wanted it was delivered: the client had come to {to} by {found}."
            ),
            None => format!(
                "Retention has removed it (everything up to {floor}) before the client was known to have come so far. If it was too late, evergate.gap has told it, or will."
            ),
        };
        return (Verdict::Trimmed, sentence);
    }
    if let EventState::There(found) = state
        && !open.filters[at].matches(found.key.as_ref())
    {
        let key = found.key.as_ref().map_or("no key".to_owned(), |key| format!("the key {:?}", key.as_str()));
        let sentence =
            format!("It has {key}, and the client is shown {stream} only for {}.", wanted(&open.filters[at]));
        return (Verdict::Filtered, sentence);
    }
    match passed {
        Some((to, found)) if open.acknowledges => (
            Verdict::Acknowledged,
            format!(
                "The client has worked it through: by {found} it had acknowledged everything up to {to}."
            ),
        ),
        Some((to, found)) => (
            Verdict::Delivered,
            format!(
                "Delivered: by {found} the client's system had taken everything up to {to}. When exactly within that time, and whether its page has seen it, is not known."
            ),
        ),
        None if open.acknowledges => (
            Verdict::OnItsWay,
            format!(
                "The client wants it and has not acknowledged it ({}). Whether it has arrived is not known.",
                so_far(come)
            ),
        ),
        None => (
            Verdict::OnItsWay,
            format!(
                "The client wants it; it was sent, or waits until the client takes more ({}). How far one has come is looked at every few seconds, and over HTTP/2, compressed or through a proxy only an acknowledgement tells.",
                so_far(come)
            ),
        ),
    }
}

fn so_far(come: Option<(Offset, UnixMillis)>) -> String {
    come.map_or("nothing is known of how far it has come".to_owned(), |(to, found)| {
        format!("by {found} it had come to {to}")
    })
}

pub(super) fn wanted(filter: &KeyFilter) -> String {
    let patterns = filter.patterns().into_iter().map(|pattern| match pattern {
        evergate_domain::KeyPattern::Exact(key) => format!("{:?}", key.as_str()),
        evergate_domain::KeyPattern::Prefix(prefix) => format!("\"{prefix}*\""),
    });
    patterns.collect::<Vec<_>>().join(", ")
}

fn plain(verdict: Verdict, sentence: String, accepted: Option<UnixMillis>) -> Explanation {
    Explanation {
        verdict,
        sentence,
        accepted,
        opened: None,
        began_at: None,
        come_to: None,
        come_to_found: None,
        kept_at: None,
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evergate_domain::{Cursor, EventDraft, Key, KeyPattern, ResumeKind, StreamSet};

    use super::*;

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn there(at: &str, key: Option<&str>) -> EventState {
        let mut draft = EventDraft::new("x");
        draft.key = key.map(|key| Key::new(key).expect("valid"));
        EventState::There(Arc::new(draft.placed(offset(at), UnixMillis::new(5))))
    }

    fn open(key: Option<&str>, began: &str, come: Option<&str>, acknowledges: bool) -> Open {
        let streams = StreamSet::new(vec![StreamName::new("quote").expect("valid")]).expect("one");
        let mut filter = KeyFilter::all();
        if let Some(key) = key {
            filter.add(KeyPattern::parse(key).expect("valid"));
        }
        let at = |text: &str| Cursor::new(&streams, vec![offset(text)]);
        Open {
            filters: vec![filter],
            began: Some(Began { at: at(began), how: ResumeKind::Exact, time: UnixMillis::new(1) }),
            come: come.map(|come| (at(come), UnixMillis::new(9))),
            acknowledges,
            streams,
        }
    }

    fn ask(stream: &str, event: &str, state: &EventState, open: &[Open]) -> Verdict {
        let client = ClientId::new("c").expect("valid");
        let stream = StreamName::new(stream).expect("valid");
        let question = Question { client: &client, stream: &stream, event: offset(event) };
        let told = judge(&question, state, open, (None, &KeyFilter::all()));
        // Where something is open, what is kept is older.
        let kept = Kept { at: offset("1-1"), acknowledged: false, held: false };
        let with = judge(&question, state, open, (Some(&kept), &KeyFilter::all()));
        let is_there = matches!(state, EventState::There(_) | EventState::Trimmed { .. });
        assert_eq!(with != told, is_there && !is_open(&stream, open), "{with:?}");
        assert_eq!(told.len(), 1);
        assert!(told[0].sentence.ends_with('.'), "{}", told[0].sentence);
        told[0].verdict
    }

    #[test]
    fn each_answer_follows_from_what_is_known() {
        let (event, keyed) = (there("1-7", None), there("1-7", Some("AAPL")));
        let trimmed = EventState::Trimmed { floor: offset("1-8") };
        let all = |come| [open(None, "1-3", come, false)];
        for (verdict, state, open) in [
            (Verdict::NotPublished, &EventState::Unpublished { tail: offset("1-6") }, &all(None)[..]),
            (Verdict::NotCommitted, &EventState::Uncommitted { committed: offset("1-6") }, &all(None)[..]),
            (Verdict::OtherHistory, &EventState::Elsewhere { instead: offset("2-7") }, &all(None)[..]),
            (Verdict::NotConnected, &event, &[]),
            (Verdict::Trimmed, &trimmed, &[]),
            (Verdict::Trimmed, &trimmed, &all(None)[..]),
            (Verdict::Trimmed, &trimmed, &all(Some("1-9"))[..]),
            (Verdict::BeforeCursor, &event, &[open(None, "1-7", None, false)]),
            (Verdict::BeforeCursor, &trimmed, &[open(None, "1-7", None, false)]),
            (Verdict::Filtered, &keyed, &[open(Some("MSFT"), "1-3", Some("1-9"), false)]),
            (Verdict::Filtered, &event, &[open(Some("MSFT"), "1-3", Some("1-9"), false)]),
            (Verdict::Delivered, &keyed, &[open(Some("AA*"), "1-3", Some("1-7"), false)]),
            (Verdict::Acknowledged, &keyed, &[open(None, "1-3", Some("1-9"), true)]),
            (Verdict::OnItsWay, &keyed, &[open(None, "1-3", Some("1-6"), true)]),
            (Verdict::OnItsWay, &keyed, &[open(None, "1-3", None, false)]),
            (Verdict::OnItsWay, &keyed, &[Open { began: None, ..open(None, "1-3", None, false) }]),
        ] {
            assert_eq!(ask("quote", "1-7", state, open), verdict, "{state:?} {open:?}");
        }
        assert_eq!(ask("news", "1-7", &event, &all(Some("1-9"))), Verdict::NotSubscribed);
    }
}
