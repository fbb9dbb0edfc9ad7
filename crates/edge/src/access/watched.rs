//! The streams that were opened with a token: who is told that it runs out, and who is ended.
//!
//! A table beside the registry, with an entry only for those. There is no timer for a stream; whoever is
//! due next stands first. Pure: the time is handed in, in seconds since 1970.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use evergate_access::{Principal, Priority};
use evergate_domain::{ClientId, KeyFilter, StreamSet, sse};

use crate::access::Word;
use crate::cursors::{Dismissal, Reason};

/// What a stream shows, which a fresh token has to grant again.
#[derive(Debug)]
pub(crate) struct Shown {
    pub(crate) streams: StreamSet,
    /// One for each stream.
    pub(crate) filters: Arc<[KeyFilter]>,
    /// Under which name its place is kept.
    pub(crate) client: Option<ClientId>,
}

/// How long a token lasts.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Term {
    /// When its stream is told.
    pub(crate) tell_at: u64,
    /// When its stream ends.
    pub(crate) ends_at: u64,
}

/// A stream and its token.
#[derive(Debug)]
pub(crate) struct Watched {
    pub(crate) connection: String,
    pub(crate) principal: Arc<Principal>,
    /// `None` for a token that never expires.
    pub(crate) term: Option<Term>,
    pub(crate) shown: Shown,
    pub(crate) word: Arc<Word>,
    pub(crate) dismissal: Dismissal,
}

/// Why a fresh token does not keep a stream.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NotRenewed {
    /// The stream was opened without one.
    NoToken,
    /// It is somebody else's.
    OtherSubject,
    /// It does not grant all that the stream shows.
    Less,
}

/// All of them, by their slot in the registry.
#[derive(Debug, Default)]
pub(crate) struct Watch {
    streams: HashMap<usize, Entry>,
    due: BTreeSet<(u64, usize)>,
    /// What was left for streams and not taken yet.
    left: Vec<Arc<Word>>,
}

#[derive(Debug)]
struct Entry {
    watched: Watched,
    /// Where it stands among those that are due.
    due: Option<u64>,
}

impl Watch {
    /// A stream that was opened.
    pub(crate) fn enter(&mut self, slot: usize, watched: Watched) {
        let due = watched.term.map(|term| term.tell_at);
        self.due.extend(due.map(|due| (due, slot)));
        let before = self.streams.insert(slot, Entry { watched, due });
        debug_assert!(before.is_none(), "a slot was given to two streams");
    }

    /// A stream that has ended.
    pub(crate) fn leave(&mut self, slot: usize) {
        if let Some(due) = self.streams.remove(&slot).and_then(|entry| entry.due) {
            self.due.remove(&(due, slot));
        }
    }

    /// A fresh token came for a stream: from now on its term counts.
    pub(crate) fn renew(
        &mut self,
        slot: usize,
        fresh: Arc<Principal>,
        term: Option<Term>,
    ) -> Result<(), NotRenewed> {
        let entry = self.streams.get_mut(&slot).ok_or(NotRenewed::NoToken)?;
        let Watched { principal, shown, word, .. } = &mut entry.watched;
        if principal.subject().is_none() || principal.subject() != fresh.subject() {
            return Err(NotRenewed::OtherSubject);
        }
        let grants = fresh.grants();
        let mut shows = shown.streams.names().iter().zip(&*shown.filters);
        let own = |client| fresh.client().is_some_and(|own| own.matches(client));
        if !shows.all(|(name, filter)| grants.covers(name, filter)) || !shown.client.as_ref().is_none_or(own)
        {
            return Err(NotRenewed::Less);
        }
        word.withdraw();
        *principal = fresh;
        entry.watched.term = term;
        let due = term.map(|term| term.tell_at);
        if let Some(before) = std::mem::replace(&mut entry.due, due) {
            self.due.remove(&(before, slot));
        }
        self.due.extend(due.map(|due| (due, slot)));
        Ok(())
    }

    /// Tells those whose tokens run out, and ends those whose have. True if whoever writes to the streams
    /// is to look, which it is until everybody was told.
    pub(crate) fn tick(&mut self, now: u64) -> bool {
        self.left.retain(|word| word.waits());
        let mut look = !self.left.is_empty();
        while let Some((due, slot)) = self.due.first().copied().filter(|(due, _)| *due <= now) {
            self.due.remove(&(due, slot));
            look = true;
            let entry = self.streams.get_mut(&slot).expect("whoever leaves takes its due along");
            let Watched { connection, term, word, dismissal, .. } = &entry.watched;
            let ends_at = term.expect("only what has a term is due").ends_at;
            if ends_at <= now {
                entry.due = None;
                dismissal.dismiss(Reason::TokenExpired);
                continue;
            }
            entry.due = Some(ends_at);
            self.due.insert((ends_at, slot));
            let mut frame = Vec::new();
            let expires_in_ms = (ends_at - now).saturating_mul(1000);
            sse::Reauth { connection, expires_in_ms }.write_to(&mut frame);
            word.leave(frame.into());
            self.left.push(Arc::clone(word));
        }
        look
    }

    /// Ends those whose bearers are believed no longer. True if there was one.
    pub(crate) fn end_revoked(&self, revoked: impl Fn(&Principal) -> bool) -> bool {
        let mut ended = false;
        for entry in self.streams.values().filter(|entry| revoked(&entry.watched.principal)) {
            entry.watched.dismissal.dismiss(Reason::Revoked);
            ended = true;
        }
        ended
    }

    /// How much whoever opened a stream counts; `None`, which is less than anything, without a token.
    pub(crate) fn priority(&self, slot: usize) -> Option<Priority> {
        self.streams.get(&slot).map(|entry| entry.watched.principal.priority())
    }

    pub(crate) fn len(&self) -> usize {
        self.streams.len()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use evergate_access::{Rules, Verifier};
    use evergate_domain::{KeyPattern, StreamName};
    use tokio_util::sync::CancellationToken;

    fn somebody(subject: &str, grants: &str, client: &str) -> Arc<Principal> {
        let rules = Rules {
            issuers: Vec::new(),
            audiences: Vec::new(),
            required: std::collections::BTreeSet::new(),
            leeway: 0,
            claim: "evergate".to_owned(),
        };
        let claims = format!(
            r#"{{"sub":"{subject}","evergate":{{"subscribe":["{grants}"],"client_id":"{client}"}}}}"#
        );
        Arc::new(Verifier::new(rules).judge(claims.as_bytes(), 0).expect("valid"))
    }

    fn watched(principal: &Arc<Principal>, tell_at: u64, ends_at: u64) -> Watched {
        let name = StreamName::new("quote").expect("valid");
        Watched {
            connection: "n~1".to_owned(),
            principal: Arc::clone(principal),
            term: Some(Term { tell_at, ends_at }),
            shown: Shown {
                streams: StreamSet::new(vec![name]).expect("one"),
                filters: [[KeyPattern::parse("A*").expect("valid")].into_iter().collect()].into(),
                client: Some(ClientId::new("alice").expect("valid")),
            },
            word: Arc::default(),
            dismissal: Dismissal::new(CancellationToken::new()),
        }
    }

    #[test]
    fn a_stream_is_told_once_and_then_ended() {
        let mut watch = Watch::default();
        let alice = somebody("alice", "quote", "alice");
        let stream = watched(&alice, 40, 100);
        let (word, dismissal) = (Arc::clone(&stream.word), stream.dismissal.clone());
        watch.enter(3, stream);
        assert!(!watch.tick(39) && word.take().is_none());
        assert!(watch.tick(40) && word.waits());
        assert!(watch.tick(41), "nobody has taken it yet");
        let told = word.take().expect("told");
        assert_eq!(
            &told[..],
            b"event: evergate.reauth\ndata: {\"connection\":\"n~1\",\"expires_in_ms\":60000}\n\n"
        );
        assert!(!watch.tick(99) && dismissal.reason().is_none() && !word.waits());
        assert!(watch.tick(100));
        assert_eq!(dismissal.reason(), Some(Reason::TokenExpired));
        assert!(!watch.tick(1000), "once");
        watch.leave(3);
        assert!(watch.len() == 0 && watch.due.is_empty());
    }

    #[test]
    fn a_fresh_token_of_the_same_subject_that_grants_as_much_keeps_a_stream() {
        let mut watch = Watch::default();
        let stream = watched(&somebody("alice", "quote", "alice"), 40, 100);
        let (word, dismissal) = (Arc::clone(&stream.word), stream.dismissal.clone());
        watch.enter(3, stream);
        watch.tick(40);
        let term = Some(Term { tell_at: 140, ends_at: 200 });
        for (subject, grants, client, refused) in [
            ("bob", "quote", "alice", NotRenewed::OtherSubject),
            ("alice", "news", "alice", NotRenewed::Less),
            ("alice", "quote/AB*", "alice", NotRenewed::Less),
            ("alice", "quote", "bob", NotRenewed::Less),
        ] {
            assert_eq!(watch.renew(3, somebody(subject, grants, client), term), Err(refused));
        }
        assert_eq!(watch.renew(4, somebody("alice", "quote", "alice"), term), Err(NotRenewed::NoToken));
        assert!(word.waits(), "what is refused changes nothing");
        assert_eq!(watch.renew(3, somebody("alice", "quote/A*", "ali*"), term), Ok(()));
        assert!(!word.waits(), "it need not be told any more");
        watch.tick(139);
        assert!(dismissal.reason().is_none() && !word.waits());
        assert!(watch.tick(140) && word.waits());
        assert!(watch.tick(200) && dismissal.reason() == Some(Reason::TokenExpired));
    }

    #[test]
    fn whoever_is_believed_no_longer_is_ended_and_nobody_else() {
        let mut watch = Watch::default();
        let [alice, bob] = ["alice", "bob"].map(|name| watched(&somebody(name, "*", "alice"), 40, 100));
        let [a, b] = [&alice, &bob].map(|stream| stream.dismissal.clone());
        watch.enter(1, alice);
        watch.enter(2, bob);
        assert!(watch.end_revoked(|principal| principal.subject() == Some("bob")));
        assert_eq!((a.reason(), b.reason()), (None, Some(Reason::Revoked)));
        assert!(!watch.end_revoked(|_| false));
    }
}
