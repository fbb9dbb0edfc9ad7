//! What a client that is not connected gets when it comes back: by the place that is kept for it. Pure.

use evergate_domain::{KeyFilter, Offset};

use super::facts::EventState;
use super::verdict::{Question, Verdict, wanted};

/// A place that is kept for the client, in the stream that is asked about.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Kept {
    pub(crate) at: Offset,
    /// Whether that is what the client says itself.
    pub(crate) acknowledged: bool,
    /// Whether a connection holds it.
    pub(crate) held: bool,
}

/// What becomes of the event when the client goes on from there.
pub(super) fn judge_kept(
    question: &Question<'_>,
    state: &EventState,
    kept: &Kept,
    filter: &KeyFilter,
) -> (Verdict, String) {
    let Question { client, stream, event } = question;
    let Kept { at, acknowledged, held } = kept;
    let by = if *acknowledged { "as it acknowledged" } else { "as far as its connection had come" };
    let holder = if *held {
        " A connection holds it: one at another edge, which knows more, or one that ended without a word."
    } else {
        ""
    };
    let place = format!(
        "{client:?} has no stream of {stream} open at this edge, and {at} is kept as its place, {by}.{holder}",
        client = client.as_str()
    );
    if event.seq <= at.seq {
        let sentence = format!(
            "{place} The event is not behind it: it comes again only to a client that brings an earlier id."
        );
        return (Verdict::BeforePlace, sentence);
    }
    match state {
        EventState::Trimmed { floor } => (
            Verdict::Trimmed,
            format!(
                "{place} Retention has removed what follows, up to {floor}: when it comes back, evergate.gap tells it so."
            ),
        ),
        EventState::There(found) if !filter.matches(found.key.as_ref()) => {
            let key =
                found.key.as_ref().map_or("no key".to_owned(), |key| format!("the key {:?}", key.as_str()));
            let sentence = format!(
                "{place} The event has {key}, and that subscription wants {stream} only for {}.",
                wanted(filter)
            );
            (Verdict::Filtered, sentence)
        }
        EventState::There(_)
        | EventState::Uncommitted { .. }
        | EventState::Unpublished { .. }
        | EventState::Elsewhere { .. } => (
            Verdict::NextTime,
            format!(
                "{place} When it comes back without an id of its own it goes on from there, and gets the event."
            ),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use evergate_domain::{ClientId, EventDraft, Key, KeyPattern, StreamName, UnixMillis};

    use super::*;

    fn offset(text: &str) -> Offset {
        text.parse().expect("valid")
    }

    fn there(key: Option<&str>) -> EventState {
        let mut draft = EventDraft::new("x");
        draft.key = key.map(|key| Key::new(key).expect("valid"));
        EventState::There(Arc::new(draft.placed(offset("1-7"), UnixMillis::new(5))))
    }

    #[test]
    fn what_comes_next_time_follows_from_the_place() {
        let (client, stream) = (ClientId::new("c").expect("valid"), StreamName::new("quote").expect("valid"));
        let question = Question { client: &client, stream: &stream, event: offset("1-7") };
        let mut filter = KeyFilter::all();
        filter.add(KeyPattern::parse("A*").expect("valid"));
        let trimmed = EventState::Trimmed { floor: offset("1-8") };
        let (all, keyed) = (KeyFilter::all(), there(Some("AAPL")));
        for (verdict, state, at, filter) in [
            (Verdict::NextTime, &keyed, "1-6", &all),
            (Verdict::NextTime, &keyed, "1-6", &filter),
            (Verdict::Filtered, &there(None), "1-6", &filter),
            (Verdict::Filtered, &there(Some("MSFT")), "1-6", &filter),
            (Verdict::Trimmed, &trimmed, "1-6", &filter),
            (Verdict::BeforePlace, &trimmed, "1-7", &all),
            (Verdict::BeforePlace, &keyed, "1-9", &all),
            // Sequences go on over epochs.
            (Verdict::BeforePlace, &keyed, "2-7", &all),
        ] {
            for (acknowledged, held) in [(false, false), (true, true)] {
                let kept = Kept { at: offset(at), acknowledged, held };
                let (told, sentence) = judge_kept(&question, state, &kept, filter);
                assert_eq!(told, verdict, "{state:?} {at}");
                assert!(sentence.contains(at) && sentence.ends_with('.'), "{sentence}");
                assert_eq!(sentence.contains("acknowledged"), acknowledged, "{sentence}");
                assert_eq!(sentence.contains("holds it"), held, "{sentence}");
            }
        }
    }
}
