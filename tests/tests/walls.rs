//! The walls between our crates, compared with the picture in `docs/ARCHITECTURE.md`.
//!
//! Two blocks there are read: `walls`, where `edge -> domain fanout` lists all of a crate's own
//! dependencies, and `owners`, where `hyper: edge gateway` names the crates that may use a library.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;

use cargo_metadata::{DependencyKind, MetadataCommand};
use evergate_tests::clients::checkout;

/// What stands on the right of each word on the left.
type Table = BTreeMap<String, BTreeSet<String>>;

/// The lines of the fenced block with this label.
fn block<'a>(page: &'a str, label: &str) -> Vec<&'a str> {
    let lines = page.lines().skip_while(|line| line.trim() != format!("```{label}")).skip(1);
    let lines: Vec<&str> = lines.take_while(|line| line.trim() != "```").collect();
    assert!(!lines.is_empty(), "docs/ARCHITECTURE.md has no block labelled {label}");
    lines
}

/// Reads `left SEPARATOR right right …`, a line each; `#` begins a remark.
fn table(lines: &[&str], separator: &str) -> Table {
    let mut table = Table::new();
    for line in lines {
        let line = line.split('#').next().unwrap_or_default().trim();
        if line.is_empty() {
            continue;
        }
        let (left, right) =
            line.split_once(separator).unwrap_or_else(|| panic!("no {separator:?} in {line:?}"));
        let words = right.split_whitespace().map(str::to_owned).collect();
        let before = table.insert(left.trim().to_owned(), words);
        assert!(before.is_none(), "{left:?} stands there twice");
    }
    table
}

/// Each crate under `crates/`, by its folder, with everything it depends on when it is shipped: our
/// own crates by their folder, libraries by their name.
fn shipped() -> Table {
    let metadata = MetadataCommand::new()
        .manifest_path(checkout().join("Cargo.toml"))
        .no_deps()
        .exec()
        .expect("cargo describes the workspace");
    let folder = |manifest: &str| {
        let path = manifest.strip_suffix("/Cargo.toml")?;
        let (before, name) = path.rsplit_once('/')?;
        before.ends_with("/crates").then(|| name.to_owned())
    };
    let crates: BTreeMap<String, String> = metadata
        .packages
        .iter()
        .filter_map(|package| Some((package.name.to_string(), folder(package.manifest_path.as_str())?)))
        .collect();
    let mut shipped = Table::new();
    for package in &metadata.packages {
        let Some(name) = crates.get(package.name.as_str()) else { continue };
        let uses = package.dependencies.iter().filter(|dependency| dependency.kind == DependencyKind::Normal);
        let uses = uses.map(|dependency| crates.get(&dependency.name).unwrap_or(&dependency.name).clone());
        shipped.insert(name.clone(), uses.collect());
    }
    assert!(shipped.len() >= 6, "the crates were not found: {shipped:?}");
    shipped
}

/// Where the edges between our crates differ from the picture.
fn breaches(drawn: &Table, shipped: &Table) -> Vec<String> {
    let mut breaches = Vec::new();
    for name in drawn.keys().chain(shipped.keys()).collect::<BTreeSet<_>>() {
        let (Some(drawn), Some(uses)) = (drawn.get(name), shipped.get(name)) else {
            breaches.push(format!("{name} stands only in one of picture and workspace"));
            continue;
        };
        let real: BTreeSet<String> =
            uses.iter().filter(|used| shipped.contains_key(*used)).cloned().collect();
        breaches.extend(real.difference(drawn).map(|used| format!("{name} -> {used} is not in the picture")));
        breaches
            .extend(drawn.difference(&real).map(|used| format!("{name} -> {used} is only in the picture")));
    }
    breaches
}

/// Crates that use a library which is not theirs to use.
fn trespasses(owners: &Table, shipped: &Table) -> Vec<String> {
    let mut trespasses = Vec::new();
    for (library, allowed) in owners {
        for (name, uses) in shipped {
            if uses.contains(library) && !allowed.contains(name) {
                trespasses.push(format!("{name} uses {library}, which only {allowed:?} may"));
            }
        }
    }
    trespasses
}

fn architecture() -> String {
    fs::read_to_string(checkout().join("docs/ARCHITECTURE.md")).expect("docs/ARCHITECTURE.md is there")
}

#[test]
fn dependencies_between_our_crates_are_those_in_the_picture() {
    let drawn = table(&block(&architecture(), "walls"), "->");
    assert_eq!(breaches(&drawn, &shipped()), [""; 0]);
}

#[test]
fn libraries_are_used_only_by_those_who_may() {
    let owners = table(&block(&architecture(), "owners"), ":");
    for library in ["redis", "openraft", "hyper", "lsm-tree", "tonic"] {
        assert!(owners.contains_key(library), "nobody is named as the owner of {library}");
    }
    assert_eq!(trespasses(&owners, &shipped()), [""; 0]);
}

/// What is left of a crate's root once everything that belongs there is taken away.
fn logic(source: &str) -> Vec<String> {
    let mut code = String::new();
    for line in source.lines() {
        code.push_str(line.split("//").next().unwrap_or_default());
        code.push('\n');
    }
    let mut rest = code.as_str();
    let mut found = Vec::new();
    while let Some(statement) = next_statement(&mut rest) {
        let bare = statement.trim_start_matches("pub ").trim_start_matches("pub(crate) ");
        let belongs = ["mod ", "use ", "extern crate "].iter().any(|word| bare.starts_with(word))
            // Generated code, and data that comes with it.
            || bare.starts_with("tonic::include_proto!")
            || (bare.starts_with("const ") && bare.contains("include_bytes!"));
        if !belongs {
            found.push(statement);
        }
    }
    found
}

/// Takes one attribute or statement off the front; a module written in place is entered.
fn next_statement(rest: &mut &str) -> Option<String> {
    loop {
        *rest = rest.trim_start_matches(|c: char| c.is_whitespace() || c == '}' || c == ';');
        if rest.is_empty() {
            return None;
        }
        if rest.starts_with('#') {
            let mut depth = 0i32;
            let end = rest.char_indices().find(|(_, c)| {
                depth += i32::from(*c == '[') - i32::from(*c == ']');
                *c == ']' && depth == 0
            });
            *rest = &rest[end.map_or(rest.len(), |(at, _)| at + 1)..];
            continue;
        }
        let is_module = rest.trim_start_matches("pub ").trim_start_matches("pub(crate) ").starts_with("mod ");
        let end = if is_module { rest.find([';', '{']) } else { rest.find(';') };
        let (statement, after) = rest.split_at(end.map_or(rest.len(), |at| at + 1));
        *rest = after;
        return Some(statement.split_whitespace().collect::<Vec<_>>().join(" "));
    }
}

#[test]
fn a_crate_s_root_is_a_table_of_contents() {
    let folders = fs::read_dir(checkout().join("crates")).expect("there are crates");
    let mut checked = 0;
    for folder in folders {
        let root = folder.expect("readable").path().join("src/lib.rs");
        let Ok(source) = fs::read_to_string(&root) else { continue };
        assert!(source.starts_with("//! "), "{} says what it is", root.display());
        assert_eq!(logic(&source), [""; 0], "{}", root.display());
        checked += 1;
    }
    assert!(checked >= 5, "only {checked} were found");
}

mod planted {
    //! The checks themselves: each kind of breach is planted once and must be found.

    use super::*;

    fn of(lines: &[&str], separator: &str) -> Table {
        table(lines, separator)
    }

    #[test]
    fn a_new_edge_a_vanished_edge_and_an_unknown_crate_are_found() {
        let drawn = of(&["edge -> domain fanout", "fanout -> domain  # a remark", "domain ->"], "->");
        assert_eq!(breaches(&drawn, &drawn), [""; 0]);
        let shipped =
            of(&["edge -> domain tokio", "fanout -> domain edge", "domain ->", "relay -> domain"], "->");
        assert_eq!(
            breaches(&drawn, &shipped),
            [
                "edge -> fanout is only in the picture",
                "fanout -> edge is not in the picture",
                "relay stands only in one of picture and workspace",
            ]
        );
    }

    #[test]
    fn a_trespass_is_found() {
        let shipped = of(&["edge -> domain hyper", "domain -> hyper"], "->");
        let owners = of(&["hyper: edge gateway", "redis: eventlog"], ":");
        let found = trespasses(&owners, &shipped);
        assert_eq!(found.len(), 1, "{found:?}");
        assert!(found[0].starts_with("domain uses hyper"), "{found:?}");
    }

    #[test]
    fn the_blocks_are_read_from_a_page() {
        let page = "# Walls\n\n```text\nno\n```\n\n```walls\na -> b\n\n# remark\n```\nmore\n";
        assert_eq!(table(&block(page, "walls"), "->"), of(&["a -> b"], "->"));
    }

    #[test]
    fn logic_in_a_root_is_found() {
        let contents = "//! What.\n#![cfg_attr(test, allow(x, reason = \"[y]\"))]\nmod a;\npub mod b {\n    pub mod c {\n        tonic::include_proto!(\"x\");\n    }\n}\n/// It.\npub use a::{\n    B,\n    C, // both\n};\n#[cfg(test)]\nmod tests;\npub const D: &[u8] = include_bytes!(\"d\");\n";
        assert_eq!(logic(contents), [""; 0]);
        for logical in [
            "pub fn f() {}",
            "pub struct S;",
            "const X: u32 = 1;",
            "impl S {}",
            "static Y: u32 = 2;",
            "pub mod m { fn g() {} }",
        ] {
            let source = format!("{contents}{logical}\n");
            assert_eq!(logic(&source).len(), 1, "{logical}: {:?}", logic(&source));
        }
    }
}
