//! What somebody may read and publish.

use std::fmt;
use std::str::FromStr;

use evergate_domain::{Key, KeyFilter, KeyPattern, NameError, StreamName};

/// Grants that one token, or one list of the configuration, may hold.
const GRANTS_MAX: usize = 256;

/// One grant: `quote`, `quote/AAPL`, `quote/A*`, `news.*`, `news.*/urgent` or `*`.
///
/// Before the slash, which no name of a stream can hold, stands a stream or a prefix of streams; behind
/// it a key or a prefix of keys. Without a key it is for every event; with one, never for events
/// without a key, as in a subscription's own filter.
#[derive(Clone, PartialEq, Eq)]
pub struct Grant {
    streams: Streams,
    keys: Option<KeyPattern>,
}

#[derive(Clone, PartialEq, Eq)]
enum Streams {
    One(StreamName),
    /// Begins a name, or is empty.
    Prefix(String),
}

/// Why a text is no grant.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum GrantError {
    /// The stream or the key is none.
    #[error(transparent)]
    Name(#[from] NameError),
    /// There are too many.
    #[error("there are more than {GRANTS_MAX} grants")]
    TooMany,
}

/// Everything that somebody may do.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Grants {
    subscribe: Vec<Grant>,
    publish: Vec<Grant>,
}

impl Grants {
    /// These and no others.
    pub fn new(subscribe: Vec<Grant>, publish: Vec<Grant>) -> Result<Self, GrantError> {
        if subscribe.len() > GRANTS_MAX || publish.len() > GRANTS_MAX {
            return Err(GrantError::TooMany);
        }
        Ok(Self { subscribe, publish })
    }

    /// What of the wishes for this stream may be shown, event by event, live and replayed alike; `None`
    /// if the stream, or one of the wishes, is not granted.
    #[must_use]
    pub fn subscribe(&self, stream: &StreamName, wanted: &KeyFilter) -> Option<KeyFilter> {
        wanted.within(&self.shown(stream)?)
    }

    /// Whether all of this may be shown of the stream, so that whoever is shown it may go on.
    #[must_use]
    pub fn covers(&self, stream: &StreamName, shown: &KeyFilter) -> bool {
        self.shown(stream).is_some_and(|granted| granted.covers(shown))
    }

    /// What may be shown of a stream at most; `None` if nothing.
    fn shown(&self, stream: &StreamName) -> Option<KeyFilter> {
        let mut granted = self.subscribe.iter().filter(|grant| grant.streams.matches(stream)).peekable();
        granted.peek()?;
        let keys: Option<KeyFilter> = granted.map(|grant| grant.keys.clone()).collect();
        // One of them is for every event.
        Some(keys.unwrap_or_default())
    }

    /// Whether an event with this key may be published.
    #[must_use]
    pub fn publish(&self, stream: &StreamName, key: Option<&Key>) -> bool {
        self.publish.iter().filter(|grant| grant.streams.matches(stream)).any(|grant| match &grant.keys {
            None => true,
            Some(pattern) => key.is_some_and(|key| pattern.matches(key)),
        })
    }

    /// Whether anything at all may be published to the stream.
    #[must_use]
    pub fn publishes_to(&self, stream: &StreamName) -> bool {
        self.publish.iter().any(|grant| grant.streams.matches(stream))
    }
}

impl Streams {
    fn matches(&self, stream: &StreamName) -> bool {
        match self {
            Self::One(own) => own == stream,
            Self::Prefix(prefix) => stream.as_str().starts_with(prefix.as_str()),
        }
    }
}

impl FromStr for Grant {
    type Err = NameError;

    fn from_str(text: &str) -> Result<Self, NameError> {
        let (streams, keys) = match text.split_once('/') {
            Some((streams, keys)) => (streams, Some(KeyPattern::parse(keys)?)),
            None => (text, None),
        };
        let streams = match streams.strip_suffix('*') {
            Some("") => Streams::Prefix(String::new()),
            // Whatever begins a name is one.
            Some(prefix) => Streams::Prefix(StreamName::new(prefix)?.as_str().to_owned()),
            None => Streams::One(StreamName::new(streams)?),
        };
        Ok(Self { streams, keys })
    }
}

impl fmt::Display for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.streams {
            Streams::One(stream) => write!(f, "{stream}")?,
            Streams::Prefix(prefix) => write!(f, "{prefix}*")?,
        }
        match &self.keys {
            None => Ok(()),
            Some(KeyPattern::Exact(key)) => write!(f, "/{key}"),
            Some(KeyPattern::Prefix(prefix)) => write!(f, "/{prefix}*"),
        }
    }
}

impl fmt::Debug for Grant {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn grants(subscribe: &[&str], publish: &[&str]) -> Grants {
        let read = |texts: &[&str]| texts.iter().map(|text| text.parse().expect("valid")).collect();
        Grants::new(read(subscribe), read(publish)).expect("few")
    }

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).expect("valid")
    }

    fn key(text: &str) -> Key {
        Key::new(text).expect("valid")
    }

    fn filter(patterns: &[&str]) -> KeyFilter {
        patterns.iter().map(|pattern| KeyPattern::parse(pattern).expect("valid")).collect()
    }

    #[test]
    fn a_grant_is_written_as_it_is_read_and_nothing_else_is_one() {
        for text in ["quote", "quote/AAPL", "quote/A*", "news.*", "news.*/urgent", "*", "*/*", "a/b/c"] {
            assert_eq!(text.parse::<Grant>().expect(text).to_string(), text);
        }
        for bad in ["", "/", "a/", "/a", "a**", "a*b", ".*", "a b", "a/b\nc", "a/b*c"] {
            assert!(bad.parse::<Grant>().is_err(), "{bad:?}");
        }
        let many = vec!["a".parse::<Grant>().expect("valid"); GRANTS_MAX + 1];
        assert_eq!(Grants::new(many, Vec::new()), Err(GrantError::TooMany));
    }

    #[test]
    fn what_may_be_shown_is_the_wish_within_all_grants_together() {
        let grants = grants(&["quote/AAPL", "quote/M*", "news.*", "*/public"], &[]);
        let shown = |name: &str, wishes: &[&str]| grants.subscribe(&stream(name), &filter(wishes));
        assert_eq!(shown("quote", &[]), Some(filter(&["AAPL", "M*", "public"])));
        assert_eq!(shown("quote", &["MSFT", "public"]), Some(filter(&["MSFT", "public"])));
        assert_eq!(shown("quote", &["MSFT", "GOOG"]), None, "a wish is not passed over in silence");
        assert_eq!(shown("news.uk", &[]), Some(KeyFilter::all()));
        assert_eq!(shown("news", &[]), Some(filter(&["public"])));
        assert_eq!(self::grants(&["quote"], &[]).subscribe(&stream("quotes"), &KeyFilter::all()), None);
        assert_eq!(Grants::default().subscribe(&stream("quote"), &KeyFilter::all()), None);
    }

    #[test]
    fn reading_and_publishing_are_granted_apart() {
        let grants = grants(&["read"], &["write/a*", "all"]);
        assert!(!grants.publish(&stream("read"), None) && !grants.publishes_to(&stream("read")));
        assert!(grants.publish(&stream("write"), Some(&key("ab"))));
        assert!(
            !grants.publish(&stream("write"), Some(&key("b"))) && !grants.publish(&stream("write"), None)
        );
        assert!(grants.publish(&stream("all"), None) && grants.publish(&stream("all"), Some(&key("b"))));
        assert!(grants.subscribe(&stream("all"), &KeyFilter::all()).is_none());
    }

    #[test]
    fn a_stream_goes_on_only_if_all_that_it_shows_is_granted_again() {
        let shown = filter(&["AAPL", "M*"]);
        for (granted, covers) in [
            (&["quote"][..], true),
            (&["quote/*"], true),
            (&["quote/A*", "quote/M*"], true),
            (&["quote/A*"], false),
            (&["quote/A*", "quote/MSFT"], false),
            (&["news"], false),
        ] {
            assert_eq!(grants(granted, &[]).covers(&stream("quote"), &shown), covers, "{granted:?}");
        }
        assert!(!grants(&["quote/*"], &[]).covers(&stream("quote"), &KeyFilter::all()));
    }

    fn patterns() -> impl Strategy<Value = Vec<String>> {
        proptest::collection::vec("[ab]{0,3}[*]?", 1..4)
            .prop_map(|all| all.into_iter().filter(|text| !text.is_empty()).collect())
    }

    proptest! {
        /// The filter of a subscription never shows what was not both wished for and granted, and shows
        /// all that was.
        #[test]
        fn nothing_is_shown_but_what_is_wished_for_and_granted(
            wishes in patterns(), granted in patterns(), text in "[ab]{1,4}",
        ) {
            let list = |all: &[String]| all.iter().map(String::as_str).map(str::to_owned).collect::<Vec<_>>();
            let wished: KeyFilter =
                list(&wishes).iter().map(|text| KeyPattern::parse(text).expect("valid")).collect();
            let texts: Vec<_> = list(&granted).iter().map(|text| format!("s/{text}")).collect();
            let grants = grants(&texts.iter().map(String::as_str).collect::<Vec<_>>(), &[]);
            let allowed: KeyFilter =
                list(&granted).iter().map(|text| KeyPattern::parse(text).expect("valid")).collect();
            prop_assume!(!texts.is_empty());
            if let Some(shown) = grants.subscribe(&stream("s"), &wished) {
                let key = key(&text);
                let both = wished.matches(Some(&key)) && allowed.matches(Some(&key));
                prop_assert_eq!(shown.matches(Some(&key)), both);
                prop_assert!(!shown.matches(None));
                prop_assert!(!shown.is_all());
                prop_assert!(grants.covers(&stream("s"), &shown));
            }
        }
    }
}
