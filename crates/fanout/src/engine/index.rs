//! Whom an event is for: the groups that follow a stream, by the keys they want.

use std::collections::{BTreeMap, HashMap};

use evergate_domain::{Key, KeyFilter, KeyPattern};

/// The groups of one lane. An event costs a look at its key, and at each length of the prefixes that are
/// wanted, and not one at every group.
#[derive(Debug, Default)]
pub(crate) struct Index {
    /// Groups that want everything.
    all: Vec<u32>,
    /// Groups that want some keys.
    keyed: Vec<u32>,
    exact: HashMap<Key, Vec<u32>>,
    prefixes: HashMap<String, Vec<u32>>,
    /// How many prefixes there are of each length in bytes.
    lengths: BTreeMap<usize, usize>,
}

impl Index {
    pub(crate) fn enter(&mut self, group: u32, filter: &KeyFilter) {
        if filter.is_all() {
            self.all.push(group);
            return;
        }
        self.keyed.push(group);
        for pattern in filter.patterns() {
            match pattern {
                KeyPattern::Exact(key) => self.exact.entry(key).or_default().push(group),
                KeyPattern::Prefix(prefix) => {
                    *self.lengths.entry(prefix.len()).or_default() += 1;
                    self.prefixes.entry(prefix).or_default().push(group);
                }
            }
        }
    }

    pub(crate) fn leave(&mut self, group: u32, filter: &KeyFilter) {
        if filter.is_all() {
            take_out(&mut self.all, group);
            return;
        }
        take_out(&mut self.keyed, group);
        for pattern in filter.patterns() {
            match pattern {
                KeyPattern::Exact(key) => {
                    if self.exact.get_mut(&key).is_some_and(|groups| take_out(groups, group)) {
                        self.exact.remove(&key);
                    }
                }
                KeyPattern::Prefix(prefix) => {
                    if let Some(left) = self.lengths.get_mut(&prefix.len()) {
                        *left -= 1;
                        if *left == 0 {
                            self.lengths.remove(&prefix.len());
                        }
                    }
                    if self.prefixes.get_mut(&prefix).is_some_and(|groups| take_out(groups, group)) {
                        self.prefixes.remove(&prefix);
                    }
                }
            }
        }
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty() && self.keyed.is_empty()
    }

    /// The groups that want every event.
    pub(crate) fn all(&self) -> &[u32] {
        &self.all
    }

    /// The groups that want some keys only.
    pub(crate) fn keyed(&self) -> &[u32] {
        &self.keyed
    }

    /// Adds the groups that want this key, some of them perhaps more than once.
    pub(crate) fn find(&self, key: &Key, found: &mut Vec<u32>) {
        found.extend(self.exact.get(key).into_iter().flatten());
        let text = key.as_str();
        for (&length, _) in self.lengths.range(..=text.len()) {
            // A prefix ends where a character does.
            let groups = text.get(..length).and_then(|prefix| self.prefixes.get(prefix));
            found.extend(groups.into_iter().flatten());
        }
    }
}

/// Whether that was the last one.
fn take_out(groups: &mut Vec<u32>, group: u32) -> bool {
    if let Some(place) = groups.iter().position(|&other| other == group) {
        groups.swap_remove(place);
    }
    groups.is_empty()
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const PATTERNS: [&str; 9] = ["*", "a", "a*", "ab", "ab*", "b*", "é*", "éa", "abc*"];
    const EVENTS: [&str; 8] = ["a", "ab", "abc", "abcd", "b", "é", "éa", "z"];

    fn filter(wanted: &[usize]) -> KeyFilter {
        wanted.iter().map(|n| KeyPattern::parse(PATTERNS[*n]).expect("valid")).collect()
    }

    fn found(index: &Index, key: &Key) -> Vec<u32> {
        let mut found = index.all().to_vec();
        index.find(key, &mut found);
        found.sort_unstable();
        found.dedup();
        found
    }

    proptest! {
        /// Whatever came and went, exactly those are found whose filters match.
        #[test]
        fn it_finds_whom_the_filters_would(
            filters in prop::collection::vec(prop::collection::vec(0..PATTERNS.len(), 0..4), 1..12),
            gone in prop::collection::vec(any::<bool>(), 12),
        ) {
            let filters: Vec<_> = filters.iter().map(|wanted| filter(wanted)).collect();
            let mut index = Index::default();
            for (group, filter) in (0..).zip(&filters) {
                index.enter(group, filter);
            }
            for ((group, filter), gone) in (0..).zip(&filters).zip(&gone) {
                if *gone {
                    index.leave(group, filter);
                }
            }
            for key in EVENTS.map(|text| Key::new(text).expect("valid")) {
                let there = (0..).zip(&filters).zip(&gone).filter(|(_, gone)| !**gone);
                let wanted = there.filter(|((_, filter), _)| filter.matches(Some(&key)));
                prop_assert_eq!(found(&index, &key), wanted.map(|((group, _), _)| group).collect::<Vec<u32>>());
            }
            for ((group, filter), gone) in (0..).zip(&filters).zip(&gone) {
                if !*gone {
                    index.leave(group, filter);
                }
            }
            prop_assert!(index.is_empty() && index.exact.is_empty());
            prop_assert!(index.prefixes.is_empty() && index.lengths.is_empty());
        }
    }
}
