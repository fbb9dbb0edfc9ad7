//! The level of each stream: what is configured, and what it was made at where that is another.
//!
//! A stream's level is fixed by its first event. So nothing that was acknowledged ever turns out to
//! be less safe than was said, and nobody is spared the notice of a loss that a lower level allowed.

use std::collections::BTreeMap;

use evergate_domain::{Level, StreamLevels, StreamName};
use parking_lot::Mutex;

/// Streams of which it is remembered. Of the others it is found out with every append.
const FOUND_MAX: usize = 10_000;
/// Streams that are told of one by one.
const TOLD_MAX: usize = 10;

/// All of them.
pub(super) struct Levels {
    configured: StreamLevels,
    /// Those that were made at another level than is configured, in the order of their names.
    found: Mutex<BTreeMap<StreamName, Level>>,
}

impl Levels {
    pub(super) fn new(configured: StreamLevels) -> Self {
        Self { configured, found: Mutex::default() }
    }

    /// What is configured, or agreed on, as far as there is that much to give here: whoever asks for more is refused
    /// before.
    pub(super) fn configured(&self, stream: &StreamName) -> Level {
        self.configured.of(stream).min(Level::Replicated)
    }

    /// What the stream's events are stored at, as far as it is known.
    pub(super) fn of(&self, stream: &StreamName) -> Level {
        let found = self.found.lock().get(stream).copied();
        found.unwrap_or_else(|| self.configured(stream))
    }

    /// Notes what a stream was made at.
    pub(super) fn found(&self, stream: &StreamName, made: Level) {
        let configured = self.configured(stream);
        let mut found = self.found.lock();
        if made == configured {
            // After a flush streams are made anew.
            found.remove(stream);
            return;
        }
        let known = found.get(stream).is_some_and(|&known| known == made);
        if known || found.len() >= FOUND_MAX {
            return;
        }
        found.insert(stream.clone(), made);
        drop(found);
        tracing::warn!("{}", difference(stream, made, configured));
    }

    /// Where what is configured does not hold, a sentence each.
    pub(super) fn troubles(&self) -> Vec<String> {
        let found = self.found.lock();
        let mut troubles: Vec<String> = found
            .iter()
            .take(TOLD_MAX)
            .map(|(stream, &made)| difference(stream, made, self.configured(stream)))
            .collect();
        if found.len() > TOLD_MAX {
            troubles.push(format!(
                "{} more streams were made at another level than is configured",
                found.len() - TOLD_MAX
            ));
        }
        troubles
    }
}

fn difference(stream: &StreamName, made: Level, configured: Level) -> String {
    let follows = if made < configured { "publishes to it are refused" } else { "it stays at that" };
    format!(
        "the stream {stream} was made at {}, and {} is configured: {follows}",
        made.as_str(),
        configured.as_str()
    )
}

/// As the functions know it.
pub(super) fn number(level: Level) -> u8 {
    match level {
        Level::Home => 0,
        Level::Replicated | Level::Quorum => 1,
    }
}

/// A level that a function told.
pub(super) fn level(number: &str) -> Option<Level> {
    match number {
        "0" => Some(Level::Home),
        "1" => Some(Level::Replicated),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn stream(name: &str) -> StreamName {
        StreamName::new(name).expect("valid")
    }

    #[test]
    fn what_a_stream_was_made_at_counts_and_is_told() {
        let mut configured = StreamLevels::all(Level::Home);
        configured.named.insert(stream("order"), Level::Replicated);
        let levels = Levels::new(configured);
        assert_eq!(
            (levels.of(&stream("order")), levels.of(&stream("quote"))),
            (Level::Replicated, Level::Home)
        );
        levels.found(&stream("order"), Level::Replicated);
        assert_eq!(levels.troubles(), Vec::<String>::new(), "that is as it should be");
        levels.found(&stream("order"), Level::Home);
        levels.found(&stream("quote"), Level::Replicated);
        levels.found(&stream("news"), Level::Replicated);
        levels.found(&stream("news"), Level::Home);
        assert_eq!(levels.of(&stream("news")), Level::Home, "it was made anew");
        assert_eq!(
            (levels.of(&stream("order")), levels.of(&stream("quote"))),
            (Level::Home, Level::Replicated)
        );
        assert_eq!(levels.configured(&stream("order")), Level::Replicated);
        assert_eq!(
            levels.troubles(),
            [
                "the stream order was made at HOME, and REPLICATED is configured: publishes to it are refused",
                "the stream quote was made at REPLICATED, and HOME is configured: it stays at that",
            ]
        );
    }

    #[test]
    fn what_is_remembered_and_told_is_bounded() {
        let levels = Levels::new(StreamLevels::all(Level::Home));
        for n in 0..FOUND_MAX + 5 {
            levels.found(&stream(&format!("s{n:06}")), Level::Replicated);
        }
        assert_eq!(levels.found.lock().len(), FOUND_MAX);
        let troubles = levels.troubles();
        assert_eq!(troubles.len(), TOLD_MAX + 1);
        assert!(troubles[TOLD_MAX].starts_with("9990 more streams"), "{troubles:?}");
    }

    #[test]
    fn a_level_survives_the_way_to_the_functions_and_back() {
        for known in [Level::Home, Level::Replicated] {
            assert_eq!(level(&number(known).to_string()), Some(known));
        }
        assert_eq!(level("2"), None);
    }
}
