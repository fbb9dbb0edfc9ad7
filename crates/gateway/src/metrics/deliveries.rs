//! What the fan-out engine counted by itself: it writes to thousands at once, and a collector that took
//! each of them would cost more than the writing.

use std::fmt::{self, Write as _};

use evergate_fanout::{DELIVERY_BOUNDS, Deliveries, Exemplar};

use super::Format;
use super::catalogue::FIGURES;

/// A histogram of counts that are kept elsewhere, which the collector has no way to take.
pub(super) const SECONDS: &str = "evergate_delivery_seconds";

/// Tells the collector what it can hold, and gives the rest in the text format of Prometheus, for series
/// with these labels. Behind a bucket stands an exemplar, in the format that has any.
pub(crate) fn deliveries(deliveries: &Deliveries, labels: &str, format: Format) -> String {
    metrics::counter!("evergate_sends_total").absolute(deliveries.sends);
    metrics::counter!("evergate_delivered_bytes_total").absolute(deliveries.bytes);
    for (to, events) in [("up-to-date", deliveries.up_to_date()), ("behind", deliveries.behind)] {
        metrics::counter!("evergate_delivered_events_total", "to" => to).absolute(events);
    }
    let mut page = String::new();
    write(&mut page, deliveries, labels, format).expect("writing to a string does not fail");
    page
}

fn write(page: &mut String, deliveries: &Deliveries, labels: &str, format: Format) -> fmt::Result {
    let help = FIGURES.iter().find(|figure| figure.name == SECONDS).map_or("", |figure| figure.means);
    writeln!(page, "# HELP {SECONDS} {help}\n# TYPE {SECONDS} histogram")?;
    let comma = if labels.is_empty() { "" } else { "," };
    let bounds = DELIVERY_BOUNDS.iter().map(ToString::to_string).chain(["+Inf".to_owned()]);
    let mut within = 0;
    for ((events, exemplar), bound) in deliveries.in_time.iter().zip(&deliveries.exemplars).zip(bounds) {
        within += events;
        write!(page, "{SECONDS}_bucket{{{labels}{comma}le=\"{bound}\"}} {within}")?;
        if let (Some(exemplar), Format::Open) = (exemplar, format) {
            write_exemplar(page, exemplar)?;
        }
        page.push('\n');
    }
    let all = deliveries.up_to_date();
    writeln!(page, "{SECONDS}_sum{{{labels}}} {}", deliveries.millis as f64 / 1000.0)?;
    writeln!(page, "{SECONDS}_count{{{labels}}} {all}")
}

fn write_exemplar(page: &mut String, Exemplar { trace, millis, at }: &Exemplar) -> fmt::Result {
    let (took, at) = (*millis as f64 / 1000.0, at.get());
    write!(page, " # {{trace_id=\"{trace}\"}} {took} {}.{:03}", at / 1000, at % 1000)
}

/// Labels as they stand between the braces of a series.
pub(super) fn labels(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use std::num::NonZeroU128;

    use evergate_domain::UnixMillis;
    use evergate_fanout::TraceId;

    use super::*;

    #[test]
    fn buckets_add_up_to_the_count() {
        let mut deliveries = Deliveries { millis: 1_500, ..Deliveries::default() };
        deliveries.in_time[0] = 2;
        deliveries.in_time[7] = 3;
        deliveries.in_time[DELIVERY_BOUNDS.len()] = 1;
        let mut page = String::new();
        let labels = labels(&[("node", "a\"b\\"), ("region", "eu")]);
        write(&mut page, &deliveries, &labels, Format::Text).expect("a string");
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[1], "# TYPE evergate_delivery_seconds histogram");
        assert_eq!(lines[2], r#"evergate_delivery_seconds_bucket{node="a\"b\\",region="eu",le="0.001"} 2"#);
        assert!(lines[9].ends_with(r#"le="0.21"} 5"#), "{}", lines[9]);
        assert!(lines[15].ends_with(r#"le="+Inf"} 6"#), "{}", lines[15]);
        assert!(lines[16].ends_with("} 1.5") && lines[17].ends_with("} 6"), "{page}");
        assert_eq!(lines.len(), 18);
    }

    #[test]
    fn exemplars_stand_behind_their_buckets_where_there_is_a_place_for_them() {
        let mut deliveries = Deliveries::default();
        let trace = TraceId::new(NonZeroU128::new(0xab).expect("not zero"));
        let exemplar = |millis| Some(Exemplar { trace, millis, at: UnixMillis::new(1_790_000_000_007) });
        deliveries.exemplars[1] = exemplar(2);
        deliveries.exemplars[DELIVERY_BOUNDS.len()] = exemplar(12_000);
        let written = |format| {
            let mut page = String::new();
            write(&mut page, &deliveries, "", format).expect("a string");
            page
        };
        let told = written(Format::Open);
        let with: Vec<_> = told.lines().filter(|line| line.contains(" # ")).collect();
        let id = "000000000000000000000000000000ab";
        assert_eq!(
            with,
            [
                format!("{SECONDS}_bucket{{le=\"0.0025\"}} 0 # {{trace_id=\"{id}\"}} 0.002 1790000000.007"),
                format!("{SECONDS}_bucket{{le=\"+Inf\"}} 0 # {{trace_id=\"{id}\"}} 12 1790000000.007"),
            ]
        );
        assert!(!written(Format::Text).contains(" # "));
    }
}
