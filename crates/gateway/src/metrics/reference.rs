//! Writes the reference of all metrics, `docs/metrics.md`.
//!
//! A test compares the committed page with this text, so the page cannot fall behind the table.

use std::fmt::{self, Write};

use serde_json::json;

use super::catalogue::FIGURES;
use super::figure::{Figure, From, Values};

const INTRODUCTION: &str = "\
# Metrics

<!-- Written by `evergate metrics`; a test keeps this page and the program in step. -->

`GET /metrics` on the admin port answers in Prometheus's text format, or in OpenMetrics 1.0, with exemplars, whoever asks for
that. Names begin with `evergate_`, units are
base units, counters begin at zero with the process. Every series has the labels `node`, `region` and `zone` of the
configuration, beside those named here. No other label holds anything that a client chose, so the number
of series has a bound. `evergate metrics --output json` prints this table for programs.

Beside these there are the usual `process_*` figures: CPU, memory, descriptors, threads, and when the process began.
";

/// The whole page.
pub(crate) fn reference() -> String {
    let mut page = INTRODUCTION.to_owned();
    for figure in FIGURES {
        write_figure(&mut page, figure).expect("writing to a string does not fail");
    }
    page
}

/// The table for programs: an array of objects.
pub(crate) fn json() -> String {
    let figures: Vec<_> = FIGURES
        .iter()
        .map(|figure| {
            json!({
                "name": figure.name,
                "type": figure.kind.as_str(),
                "labels": figure.labels.iter().map(|label| label.name).collect::<Vec<_>>(),
                "values": closed(figure),
                "means": figure.means,
                "act": figure.act,
                "of": match figure.from {
                    From::All | From::Any => None,
                    From::Control => Some("control"),
                    From::Cluster => Some("cluster"),
                    From::View => Some("view"),
                    From::Access => Some("access"),
                    From::Tls => Some("tls"),
                    From::Disk => Some("disk"),
                    From::Redis => Some("redis"),
                },
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::from(figures))
}

/// The values of those labels that have these and no others.
fn closed(figure: &Figure) -> serde_json::Map<String, serde_json::Value> {
    let labels = figure.labels.iter().filter_map(|label| match label.values {
        Values::These(values) => Some((label.name.to_owned(), values.into())),
        Values::As(_) => None,
    });
    labels.collect()
}

fn write_figure(page: &mut String, figure: &Figure) -> fmt::Result {
    let Figure { name, kind, labels, from, means, act } = figure;
    writeln!(page, "\n### `{name}`\n\n{means}\n\n- {}{}", kind.as_str(), from.remark())?;
    for label in *labels {
        match label.values {
            Values::These(values) => writeln!(page, "- `{}`: {}", label.name, values.join(", "))?,
            Values::As(words) => writeln!(page, "- `{}`: {words}", label.name)?,
        }
    }
    writeln!(page, "- {act}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_committed_page_is_what_the_table_says() {
        let committed = include_str!("../../../../docs/metrics.md");
        assert!(
            committed == reference(),
            "docs/metrics.md is out of date; write it anew: evergate metrics > docs/metrics.md"
        );
    }
}
