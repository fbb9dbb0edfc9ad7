//! The page in OpenMetrics 1.0, made from the text format that the collector speaks.
//!
//! ```text
//!   # HELP x_total …    ──▶  # HELP x …
//!   # TYPE x_total counter   # TYPE x counter      samples go on as they are: x_total 3
//!   le="1"              ──▶  le="1.0"              as its numbers are to be written
//!                            # EOF
//! ```
//! What the text format has no place for, exemplars, stands behind its samples already: whoever writes for this
//! format puts it there.

use std::borrow::Cow;
use std::collections::BTreeMap;
use std::fmt::{self, Write as _};
use std::ops::Range;

use axum::http::{HeaderMap, header};

/// What a page in this format is called.
pub(crate) const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

const MEDIA: &str = "application/openmetrics-text";
const VERSION: &str = "1.0.0";

/// Units that names end in.
const UNITS: [&str; 3] = ["seconds", "bytes", "ratio"];

/// Whether whoever asks wants this format, and not the text format more.
pub(crate) fn is_wanted(headers: &HeaderMap) -> bool {
    let accepted = headers.get_all(header::ACCEPT).into_iter().filter_map(|value| value.to_str().ok());
    let (mut open, mut text) = (0.0_f32, 0.0_f32);
    for range in accepted.flat_map(|value| value.split(',')) {
        let mut parts = range.split(';').map(str::trim);
        let media = parts.next().unwrap_or_default();
        let (mut weight, mut version) = (1.0, VERSION);
        for (name, value) in parts.filter_map(|part| part.split_once('=')) {
            match name.trim() {
                // What makes no sense is wanted least.
                "q" => weight = value.trim().parse().unwrap_or(0.0),
                "version" => version = value.trim().trim_matches('"'),
                _ => {}
            }
        }
        if media.eq_ignore_ascii_case(MEDIA) && version == VERSION {
            open = open.max(weight);
        } else if media.eq_ignore_ascii_case("text/plain") {
            text = text.max(weight);
        }
    }
    open > 0.0 && open >= text
}

/// The same page in this format.
pub(crate) fn page(text: &str) -> String {
    let mut page = String::with_capacity(text.len() + text.len() / 16);
    write(&mut page, text).expect("writing to a string does not fail");
    page
}

fn write(page: &mut String, text: &str) -> fmt::Result {
    let types = text.lines().filter_map(|line| line.strip_prefix("# TYPE ")?.split_once(' '));
    let types: BTreeMap<_, _> = types.collect();
    for line in text.lines() {
        if let Some(rest) = line.strip_prefix("# HELP ") {
            let (name, help) = rest.split_once(' ').unwrap_or((rest, ""));
            writeln!(page, "# HELP {} {}", family(name, &types).0, escaped(help))?;
        } else if let Some(rest) = line.strip_prefix("# TYPE ") {
            let (family, kind) = family(rest.split(' ').next().unwrap_or_default(), &types);
            writeln!(page, "# TYPE {family} {kind}")?;
            let unit = UNITS
                .into_iter()
                .find(|unit| family.strip_suffix(unit).is_some_and(|rest| rest.ends_with('_')));
            if let Some(unit) = unit {
                writeln!(page, "# UNIT {family} {unit}")?;
            }
        } else if !line.is_empty() && !line.starts_with('#') {
            writeln!(page, "{}", sample(line))?;
        }
    }
    page.push_str("# EOF\n");
    Ok(())
}

/// What those samples are called together that the text format has under this name, and what they are.
fn family<'a>(name: &'a str, types: &BTreeMap<&'a str, &'a str>) -> (&'a str, &'a str) {
    match types.get(name).copied() {
        // Its samples have `_total` behind the family's name, which nobody else may have.
        Some("counter") => match name.strip_suffix("_total") {
            Some(family) if !types.contains_key(family) => (family, "counter"),
            Some(_) | None => (name, "unknown"),
        },
        Some("untyped") | None => (name, "unknown"),
        Some(kind) => (name, kind),
    }
}

/// A help text of the text format, where quotes stand for themselves.
fn escaped(help: &str) -> Cow<'_, str> {
    if help.contains('"') { Cow::Owned(help.replace('"', "\\\"")) } else { Cow::Borrowed(help) }
}

/// A sample, the bound of its bucket written as this format's numbers are.
fn sample(line: &str) -> Cow<'_, str> {
    match bound(line) {
        Some(at) if line[at.clone()].bytes().all(|byte| byte.is_ascii_digit()) => {
            Cow::Owned(format!("{}.0{}", &line[..at.end], &line[at.end..]))
        }
        Some(_) | None => Cow::Borrowed(line),
    }
}

/// Where in a line the bound of its bucket stands, if it is of one.
fn bound(line: &str) -> Option<Range<usize>> {
    let mut at = line.find('{')? + 1;
    if !line[..at].ends_with("_bucket{") {
        return None;
    }
    loop {
        let name = at..at + line[at..].find("=\"")?;
        let begin = name.end + 2;
        let value = begin..begin + end_of_value(&line[begin..])?;
        if &line[name] == "le" {
            return Some(value);
        }
        at = value.end + 1;
        at += line[at..].starts_with(',').then_some(1)?;
    }
}

/// Where the quote stands that ends a label's value.
fn end_of_value(text: &str) -> Option<usize> {
    let mut escapes = false;
    text.find(|character| {
        let ends = character == '"' && !escapes;
        escapes = character == '\\' && !escapes;
        ends
    })
}

#[cfg(test)]
mod tests {
    use axum::http::HeaderValue;

    use super::*;

    #[test]
    fn a_page_is_the_same_under_other_headings() {
        let text = "# HELP a_total What \"a\" counts\\n.\n# TYPE a_total counter\na_total{x=\"1\"} 3\n\n\
                    # HELP process_cpu_seconds_total CPU.\n# TYPE process_cpu_seconds_total counter\nprocess_cpu_seconds_total 1.5\n\n\
                    # TYPE b_bytes gauge\nb_bytes 4096\n\n\
                    # a comment\n\
                    # HELP c_seconds\n# TYPE c_seconds histogram\nc_seconds_bucket{le=\"0.5\"} 1\n\
                    c_seconds_bucket{le=\"1\"} 2\nc_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 1\nc_seconds_count 2\n";
        let open = "# HELP a What \\\"a\\\" counts\\n.\n# TYPE a counter\na_total{x=\"1\"} 3\n\
                    # HELP process_cpu_seconds CPU.\n# TYPE process_cpu_seconds counter\n# UNIT process_cpu_seconds seconds\nprocess_cpu_seconds_total 1.5\n\
                    # TYPE b_bytes gauge\n# UNIT b_bytes bytes\nb_bytes 4096\n\
                    # HELP c_seconds \n# TYPE c_seconds histogram\n# UNIT c_seconds seconds\nc_seconds_bucket{le=\"0.5\"} 1\n\
                    c_seconds_bucket{le=\"1.0\"} 2\nc_seconds_bucket{le=\"+Inf\"} 2\nc_seconds_sum 1\nc_seconds_count 2\n\
                    # EOF\n";
        assert_eq!(page(text), open);
        assert_eq!(page(""), "# EOF\n");
    }

    #[test]
    fn a_counter_whose_family_would_be_anothers_keeps_its_name() {
        for (text, open) in [
            ("# TYPE a counter\na 1\n", "# TYPE a unknown\na 1\n# EOF\n"),
            ("# TYPE a untyped\na 1\n", "# TYPE a unknown\na 1\n# EOF\n"),
            (
                "# HELP a_total A.\n# TYPE a_total counter\na_total 1\n# TYPE a gauge\na 1\n",
                "# HELP a_total A.\n# TYPE a_total unknown\na_total 1\n# TYPE a gauge\na 1\n# EOF\n",
            ),
            // Nothing in front of the unit: no name ends in it.
            ("# TYPE seconds gauge\nseconds 1\n", "# TYPE seconds gauge\nseconds 1\n# EOF\n"),
        ] {
            assert_eq!(page(text), open, "{text}");
        }
    }

    #[test]
    fn only_the_bound_of_a_bucket_is_written_anew() {
        for (line, written) in [
            (r#"a_bucket{node="x",le="10"} 3"#, r#"a_bucket{node="x",le="10.0"} 3"#),
            (
                r#"a_bucket{le="10",node="x"} 3 # {trace_id="le"} 1 2"#,
                r#"a_bucket{le="10.0",node="x"} 3 # {trace_id="le"} 1 2"#,
            ),
            (r#"a_bucket{node=",le=\"1\"",le="2"} 3"#, r#"a_bucket{node=",le=\"1\"",le="2.0"} 3"#),
            (r#"a_bucket{node="\\",le="2"} 3"#, r#"a_bucket{node="\\",le="2.0"} 3"#),
            (r#"a_bucket{le="0.25"} 3"#, r#"a_bucket{le="0.25"} 3"#),
            (r#"a_bucket{node="1"} 3"#, r#"a_bucket{node="1"} 3"#),
            (r#"a{le="1"} 3"#, r#"a{le="1"} 3"#),
            (r#"a_bucket{le="1"#, r#"a_bucket{le="1"#),
            ("a_bucket 3", "a_bucket 3"),
        ] {
            assert_eq!(sample(line), written);
        }
    }

    #[test]
    fn it_is_given_to_whoever_wants_it_at_least_as_much() {
        // As Prometheus 2 asks.
        let prometheus = "application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1";
        // And 3.
        let prometheus_3 = "application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.6,application/openmetrics-text;version=0.0.1;q=0.5,text/plain;version=1.0.0;escaping=allow-utf-8;q=0.4,text/plain;version=0.0.4;q=0.3,*/*;q=0.2";
        for (accept, wanted) in [
            (Some(prometheus), true),
            (Some(prometheus_3), true),
            (Some("Application/OpenMetrics-Text"), true),
            (Some("application/openmetrics-text; version=\"1.0.0\"; q=0.2"), true),
            (Some("text/plain;q=0.5, application/openmetrics-text;q=0.4"), false),
            (Some("application/openmetrics-text;version=0.0.1"), false),
            (Some("application/openmetrics-text;q=0"), false),
            (Some("application/openmetrics-text;q=much"), false),
            (Some("text/plain"), false),
            (Some("*/*"), false),
            (None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(accept) = accept {
                headers.insert(header::ACCEPT, HeaderValue::from_static(accept));
            }
            assert_eq!(is_wanted(&headers), wanted, "{accept:?}");
        }
        let mut headers = HeaderMap::new();
        headers.append(header::ACCEPT, HeaderValue::from_static("text/plain;q=0.1"));
        headers.append(header::ACCEPT, HeaderValue::from_static(MEDIA));
        assert!(is_wanted(&headers));
    }
}
