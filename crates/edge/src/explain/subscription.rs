//! Which of a client's subscriptions is asked about: a place is kept for each by itself.

use evergate_domain::{ClientId, CursorKey, KeyFilter, StreamName, StreamSet};

use crate::http::key_of;

/// Streams and keys, as a client asks for them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Subscription {
    streams: StreamSet,
    /// One per stream, in the set's order.
    filters: Vec<KeyFilter>,
}

impl Subscription {
    /// Of this stream, and of others on the same connection. Keys are written as a client writes them: `AAPL`
    /// or `A*` for one stream, `quote/AAPL` for several.
    pub fn new(stream: &StreamName, others: Vec<StreamName>, keys: &[String]) -> Result<Self, String> {
        let alone = others.is_empty();
        let names = [vec![stream.clone()], others].concat();
        let streams = StreamSet::new(names).map_err(|error| error.to_string())?;
        let mut filters = vec![KeyFilter::all(); streams.names().len()];
        for key in keys {
            let (stream, pattern) = key_of(alone, &streams, key)?;
            filters[stream].add(pattern);
        }
        Ok(Self { streams, filters })
    }

    pub(super) fn streams(&self) -> &StreamSet {
        &self.streams
    }

    /// Under what its place is kept for this client.
    pub(super) fn key(&self, client: &ClientId) -> CursorKey {
        CursorKey::new(client, &self.streams, &self.filters)
    }

    /// The keys that are wanted of a stream of it.
    pub(super) fn filter(&self, stream: usize) -> &KeyFilter {
        &self.filters[stream]
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name(name: &str) -> StreamName {
        StreamName::new(name).expect("valid")
    }

    fn subscription(others: &[&str], keys: &[&str]) -> Result<Subscription, String> {
        let keys: Vec<_> = keys.iter().map(|key| (*key).to_owned()).collect();
        Subscription::new(&name("quote"), others.iter().map(|other| name(other)).collect(), &keys)
    }

    #[test]
    fn it_is_spelled_as_a_client_spells_it_and_kept_under_the_same_key() {
        let client = ClientId::new("ann").expect("valid");
        let key = |others: &[&str], keys: &[&str]| subscription(others, keys).expect("valid").key(&client);
        assert_eq!(key(&["news"], &["quote/A*", "quote/B"]), key(&["news"], &["quote/B", "quote/A*"]));
        let different = [
            key(&[], &[]),
            key(&[], &["A*"]),
            key(&["news"], &[]),
            key(&["news"], &["quote/A*"]),
            key(&["news"], &["news/A*"]),
        ];
        for (at, one) in different.iter().enumerate() {
            assert!(!different[at + 1..].contains(one), "{at}");
        }
    }

    #[test]
    fn what_no_client_could_ask_for_is_refused() {
        for (others, keys) in [(&["news"][..], &["A"][..]), (&["news"], &["x/A"]), (&[], &[""])] {
            assert!(subscription(others, keys).is_err(), "{others:?} {keys:?}");
        }
    }
}
