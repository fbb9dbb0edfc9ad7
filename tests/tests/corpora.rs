//! What must hold for any bytes, held against the kept corpora and what is made of them.
//!
//! The same functions are what the fuzzer calls (`scripts/fuzz.sh`), which looks for longer and by what the code does
//! with an input.

#[expect(unreachable_pub, reason = "it is a library where the fuzzer is built")]
#[path = "../../fuzz/src/lib.rs"]
mod fuzz;

use std::collections::BTreeSet;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::PathBuf;

use evergate_tests::clients::checkout;
use evergate_tests::mutator::Mutator;

/// Inputs for each parser in an ordinary run.
const CASES: usize = 20_000;

fn corpus(target: &str) -> PathBuf {
    checkout().join("fuzz/corpus").join(target)
}

#[test]
fn every_parser_keeps_its_word_for_anything() {
    for (name, target) in fuzz::TARGETS {
        let mutator = Mutator::of_folder(&corpus(name), CASES);
        let seed = mutator.seed();
        let kept = std::fs::read_dir(corpus(name)).expect("a corpus");
        let kept = kept.map(|file| std::fs::read(file.expect("readable").path()).expect("readable"));
        for input in kept.chain(mutator) {
            let kept_its_word = catch_unwind(AssertUnwindSafe(|| target(&input))).is_ok();
            assert!(kept_its_word, "{name}: {:?} ({seed})", String::from_utf8_lossy(&input));
        }
    }
}

#[test]
fn every_target_has_a_corpus_and_a_program() {
    let fuzz = checkout().join("fuzz");
    let manifest = std::fs::read_to_string(fuzz.join("Cargo.toml")).expect("readable");
    let programs = manifest.lines().filter_map(|line| line.strip_prefix("name = \"")?.strip_suffix('"'));
    let programs: BTreeSet<_> = programs.filter(|name| *name != "evergate-fuzz").collect();
    assert_eq!(programs, fuzz::TARGETS.iter().map(|(name, _)| *name).collect());
    for (name, _) in fuzz::TARGETS {
        assert!(fuzz.join("fuzz_targets").join(format!("{name}.rs")).is_file(), "{name}");
    }
}

/// A test that cannot find anything would find nothing.
#[test]
fn a_forgery_is_found() {
    let tokens = [fuzz::TOKEN.trim_end()];
    assert!(catch_unwind(|| fuzz::token(tokens[0].as_bytes())).is_ok(), "the true one");
    let planted = |input: &[u8]| {
        // Believes whatever is signed with the right secret, and a token with anything behind it.
        let text = std::str::from_utf8(input).unwrap_or_default();
        assert!(!text.starts_with(tokens[0]) || text == tokens[0], "a forgery");
    };
    let found =
        Mutator::new(&tokens, CASES).any(|input| catch_unwind(AssertUnwindSafe(|| planted(&input))).is_err());
    assert!(found);
}
