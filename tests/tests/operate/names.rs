//! What rules and dashboards ask for, held against the table of metrics: a name or a label's value that no process tells
//! makes an alert that never fires, and nobody notices.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::process::Command;

use evergate_tests::clients::checkout;
use evergate_tests::process::binary;
use serde_json::Value;

/// Labels that every series has, once it is scraped; and those of buckets, rules and alerts.
const OF_ALL: [&str; 8] = ["node", "region", "zone", "job", "instance", "pod", "le", "slo"];

/// One `name{label="value"}` of a query.
#[derive(Debug, PartialEq, Eq)]
struct Selector {
    name: String,
    /// Label, operator and value.
    matchers: Vec<(String, String, String)>,
}

/// The labels of each metric, with their values where there are no others.
type Table = BTreeMap<String, BTreeMap<String, Option<BTreeSet<String>>>>;

fn table() -> Table {
    let printed = Command::new(binary()).args(["metrics", "--output", "json"]).output().expect("it starts");
    assert!(printed.status.success(), "{printed:?}");
    let rows: Vec<Value> = serde_json::from_slice(&printed.stdout).expect("an array");
    let text = |value: &Value| value.as_str().expect("a string").to_owned();
    let rows = rows.iter().map(|row| {
        let labels = row["labels"].as_array().expect("a list").iter().map(|label| {
            let label = text(label);
            let values = row["values"][&label].as_array();
            (label, values.map(|values| values.iter().map(text).collect()))
        });
        (text(&row["name"]), labels.collect())
    });
    rows.collect()
}

/// The selectors of our own metrics that stand in a query.
fn selectors(query: &str) -> Vec<Selector> {
    let is_name = |letter: char| letter.is_ascii_alphanumeric() || letter == '_' || letter == ':';
    let mut found = Vec::new();
    let mut rest = query;
    while let Some(at) = rest.find("evergate_") {
        let begins = rest[..at].chars().next_back().is_none_or(|before| !is_name(before));
        let named = &rest[at..];
        let end = named.find(|letter| !is_name(letter)).unwrap_or(named.len());
        let (name, after) = named.split_at(end);
        rest = after;
        let mut matchers = Vec::new();
        if let Some(inner) = after.strip_prefix('{') {
            let inner = closed_by_brace(inner);
            rest = &after[inner.len() + 1..];
            matchers = matchers_in(inner);
        }
        if begins {
            found.push(Selector { name: name.to_owned(), matchers });
        }
    }
    found
}

/// Up to the brace that closes it, which none within a string is.
fn closed_by_brace(inner: &str) -> &str {
    let mut quoted = false;
    let end = inner.char_indices().find(|(_, letter)| {
        quoted ^= *letter == '"';
        !quoted && *letter == '}'
    });
    &inner[..end.expect("it is closed").0]
}

fn matchers_in(inner: &str) -> Vec<(String, String, String)> {
    let mut matchers = Vec::new();
    let mut rest = inner;
    while let Some((before, quoted)) = rest.split_once('"') {
        let (value, after) = quoted.split_once('"').expect("it is closed");
        let before = before.trim_start_matches([',', ' ']);
        let label = before.trim_end_matches(['=', '!', '~']);
        matchers.push((label.to_owned(), before[label.len()..].to_owned(), value.to_owned()));
        rest = after;
    }
    matchers
}

/// What of it no process tells.
fn faults(table: &Table, selector: &Selector) -> Vec<String> {
    let Selector { name, matchers } = selector;
    let family = ["_bucket", "_sum", "_count"].iter().find_map(|suffix| {
        let family = name.strip_suffix(suffix)?;
        table.contains_key(family).then_some(family)
    });
    let Some(labels) = table.get(family.unwrap_or(name)) else {
        return vec![format!("{name} is no metric")];
    };
    let mut faults = Vec::new();
    for (label, operator, value) in matchers {
        if OF_ALL.contains(&label.as_str()) {
            continue;
        }
        let Some(values) = labels.get(label) else {
            faults.push(format!("{name} has no label {label}"));
            continue;
        };
        let Some(values) = values else { continue };
        // A pattern with more to it than alternatives is not taken apart.
        let alternatives = value.split('|').filter(|one| !one.contains(['.', '*', '+', '$']));
        let unknown: Vec<_> = alternatives.filter(|one| !values.contains(*one)).collect();
        if !unknown.is_empty() {
            faults.push(format!("{name}: {label}{operator}{value:?} names {unknown:?}, which is never told"));
        }
    }
    faults
}

/// The queries of the rules and of the boards, and where each stands.
fn queries() -> Vec<(String, String)> {
    let chart = checkout().join("helm/evergate");
    let rules = fs::read_to_string(chart.join("rules/evergate.yaml")).expect("readable");
    let mut queries: Vec<_> = rules
        .split("expr: |")
        .skip(1)
        .map(|rule| rule.split("labels: {").next().unwrap_or_default().to_owned())
        .map(|query| ("a rule".to_owned(), query))
        .collect();
    for entry in fs::read_dir(chart.join("dashboards")).expect("the chart has dashboards") {
        let path = entry.expect("readable").path();
        let board: Value = serde_json::from_str(&fs::read_to_string(&path).expect("readable")).expect("JSON");
        collect(&board, &path.display().to_string(), &mut queries);
    }
    queries
}

/// Every `expr` and every variable's query below a value.
fn collect(value: &Value, place: &str, queries: &mut Vec<(String, String)>) {
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                if matches!(name.as_str(), "expr" | "query")
                    && let Some(text) = field.as_str()
                {
                    queries.push((place.to_owned(), text.to_owned()));
                } else {
                    collect(field, place, queries);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| collect(item, place, queries)),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}

#[test]
fn rules_and_boards_ask_for_what_is_told() {
    let table = table();
    let mut asked = BTreeSet::new();
    let mut found = Vec::new();
    for (place, query) in queries() {
        for selector in selectors(&query) {
            found.extend(faults(&table, &selector).into_iter().map(|fault| format!("{place}: {fault}")));
            asked.insert(selector.name);
        }
    }
    assert!(asked.len() > 60, "only {asked:?}");
    assert_eq!(found, [""; 0]);
}

#[test]
fn what_is_never_told_is_found() {
    let table = table();
    let of = |query: &str| -> Vec<String> {
        selectors(query).iter().flat_map(|selector| faults(&table, selector)).collect()
    };
    let query =
        r#"sum(rate(evergate_gaps_total{node=~"$node",reason="trimmed"}[5m])) / evergate_streams_open"#;
    assert_eq!(of(query), [""; 0]);
    assert_eq!(selectors(query).len(), 2);
    assert_eq!(of("rate(evergate_delivery_seconds_bucket[5m])"), [""; 0]);
    assert_eq!(of("evergate_gapes_total"), ["evergate_gapes_total is no metric"]);
    assert_eq!(of(r#"evergate_ready{reason="x"}"#), ["evergate_ready has no label reason"]);
    assert_eq!(
        of(r#"evergate_gaps_total{reason=~"trimmed|trimed"}"#),
        [r#"evergate_gaps_total: reason=~"trimmed|trimed" names ["trimed"], which is never told"#]
    );
    let braces = selectors(r#"evergate_busy_total{reason!~"a{2}|b"} > 1"#);
    assert_eq!(braces[0].matchers, [("reason".to_owned(), "!~".to_owned(), "a{2}|b".to_owned())]);
}
