//! Inputs that are almost right: what is known to be of interest, changed a little.
//!
//! Every run is another one, by a seed that is printed where something is found. `EVERGATE_SEED` repeats a
//! run, and `EVERGATE_CASES` makes it longer: so many inputs instead of the few that fit into a test run.

use std::fmt;
use std::path::Path;

/// What parsers trip over.
const DICTIONARY: [&[u8]; 26] = [
    b"\r\n",
    b"\n",
    b"\r",
    b"\0",
    b"\xff",
    b"\xc3\x28",
    b"\xef\xbb\xbf",
    b"-1",
    b"0",
    b"00",
    b"9007199254740992",
    b"18446744073709551616",
    b"1e999",
    b"*",
    b"/",
    b"..",
    b"%00",
    b"%0d%0a",
    b"\"",
    b"\\u0000",
    b"\\ud800",
    b"{",
    b"[",
    b"}",
    b",",
    b":",
];

/// Makes inputs of a corpus.
#[derive(Debug)]
pub struct Mutator {
    corpus: Vec<Vec<u8>>,
    random: fastrand::Rng,
    seed: u64,
    cases: usize,
}

/// How to repeat a run.
#[derive(Debug, Clone, Copy)]
pub struct Seed(u64);

impl fmt::Display for Seed {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EVERGATE_SEED={}", self.0)
    }
}

impl Mutator {
    /// Over these inputs, `cases` of them unless the environment says otherwise.
    #[must_use]
    pub fn new<T: AsRef<[u8]>>(corpus: &[T], cases: usize) -> Self {
        assert!(!corpus.is_empty(), "nothing to change");
        let number = |name: &str| std::env::var(name).ok().map(|text| text.parse().expect("a number"));
        let seed = number("EVERGATE_SEED").unwrap_or_else(|| fastrand::u64(..));
        let cases = number("EVERGATE_CASES").map_or(cases, |cases| usize::try_from(cases).expect("it fits"));
        let corpus = corpus.iter().map(|input| input.as_ref().to_vec()).collect();
        Self { corpus, random: fastrand::Rng::with_seed(seed), seed, cases }
    }

    /// Over the files of a folder.
    #[must_use]
    pub fn of_folder(folder: &Path, cases: usize) -> Self {
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap_or_else(|error| panic!("{}: {error}", folder.display()))
            .map(|entry| entry.expect("readable").path())
            .collect();
        // The order of a folder is anything, and a seed must mean the same everywhere.
        files.sort();
        let read: Vec<_> = files.iter().map(|file| std::fs::read(file).expect("readable")).collect();
        Self::new(&read, cases)
    }

    /// How to repeat this run.
    #[must_use]
    pub fn seed(&self) -> Seed {
        Seed(self.seed)
    }

    fn changed(&mut self) -> Vec<u8> {
        let mut input = self.one();
        for _ in 0..self.random.usize(1..=6) {
            self.change(&mut input);
        }
        input
    }

    fn one(&mut self) -> Vec<u8> {
        self.corpus[self.random.usize(..self.corpus.len())].clone()
    }

    fn change(&mut self, input: &mut Vec<u8>) {
        const BYTES_MAX: usize = 1 << 16;
        let random = &mut self.random;
        let at = random.usize(..=input.len());
        let end = at + random.usize(..=(input.len() - at).min(32));
        match random.u8(..8) {
            0 if at < input.len() => input[at] = random.u8(..),
            1 if at < input.len() => input[at] ^= 1 << random.u8(..8),
            2 => drop(input.drain(at..end)),
            3 => {
                let times = if random.u8(..8) == 0 { random.usize(..1000) } else { random.usize(1..4) };
                let piece = input[at..end].repeat(times);
                drop(input.splice(at..at, piece));
            }
            4 => {
                let other = self.one();
                let from = self.random.usize(..=other.len());
                input.truncate(at);
                input.extend_from_slice(&other[from..]);
            }
            5 => input.truncate(at),
            _ => {
                let word = DICTIONARY[random.usize(..DICTIONARY.len())];
                drop(input.splice(at..end.min(at + random.usize(..2)), word.iter().copied()));
            }
        }
        input.truncate(BYTES_MAX);
    }
}

impl Iterator for Mutator {
    type Item = Vec<u8>;

    fn next(&mut self) -> Option<Vec<u8>> {
        self.cases = self.cases.checked_sub(1)?;
        Some(self.changed())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_seed_means_the_same_inputs_and_few_of_them_are_the_corpus() {
        let inputs = || {
            let mut mutator = Mutator::new(&["a", "[1, 2, 3]", ""], 500);
            mutator.random = fastrand::Rng::with_seed(7);
            mutator.take(500).collect::<Vec<_>>()
        };
        assert_eq!(inputs(), inputs());
        let same =
            inputs().iter().filter(|input| [&b"a"[..], b"[1, 2, 3]", b""].contains(&&***input)).count();
        assert!(same < 250, "{same}");
        assert!(inputs().iter().all(|input| input.len() <= 1 << 16));
    }
}
