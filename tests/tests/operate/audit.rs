//! Known weaknesses of what we depend on are found in a copy of the database, without a network.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use evergate_tests::clients::{checkout, system};
use evergate_tests::left_out::left_out;
use tempfile::TempDir;

/// Out of reach: neither the tool is there, nor where to get it.
const OUT_OF_REACH: i32 = 75;

fn git(folder: &Path, words: &[&str]) {
    let told = Command::new("git").current_dir(folder).args(words).output().expect("git starts");
    assert!(told.status.success(), "{told:?}");
}

/// A database that warns of one crate.
fn database(of: &str) -> TempDir {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let crates = folder.path().join("crates").join(of);
    fs::create_dir_all(&crates).expect("the folder is ours");
    let advisory = format!(
        "```toml\n[advisory]\nid = \"RUSTSEC-2026-9999\"\npackage = \"{of}\"\ndate = \"2026-11-01\"\n\n\
         [versions]\npatched = [\">= 99999.0.0\"]\n```\n\n# Made up\n\nNothing is wrong with it.\n"
    );
    fs::write(crates.join("RUSTSEC-2026-9999.md"), advisory).expect("the folder is ours");
    git(folder.path(), &["init", "--quiet"]);
    git(folder.path(), &["add", "--all"]);
    let who = ["-c", "user.name=nobody", "-c", "user.email=nobody@localhost", "-c", "commit.gpgsign=false"];
    git(
        folder.path(),
        &[&who[..], &["commit", "--quiet", "--message", "made up", "--date", "2026-11-02T12:00:00Z"]]
            .concat(),
    );
    folder
}

fn audit(database: &Path) -> Output {
    let mut script = Command::new(checkout().join("scripts/audit.sh"));
    script.env("EVERGATE_ADVISORIES", database).output().expect("it starts")
}

#[test]
fn a_weakness_that_is_known_fails_the_audit_and_another_crates_does_not() {
    let test = "a_weakness_that_is_known_fails_the_audit";
    if system(test, &["git"]).is_none() {
        return;
    }
    let told = audit(database("a-crate-that-nobody-here-uses").path());
    if told.status.code() == Some(OUT_OF_REACH) {
        left_out(test, "there is no cargo-deny, and no registry to get it from");
        return;
    }
    let said = String::from_utf8_lossy(&told.stdout);
    assert!(told.status.success(), "{told:?}");
    assert!(said.contains("known weaknesses as of 20"), "{said}");
    let told = audit(database("bytes").path());
    let said = String::from_utf8_lossy(&told.stderr);
    assert!(!told.status.success() && said.contains("RUSTSEC-2026-9999"), "{told:?}");
}
