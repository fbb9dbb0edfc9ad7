//! What the fan-out engine counted by itself: it writes to thousands at once, and a collector that took
//! each of them would cost more than the writing.

use std::fmt::Write as _;

use evergate_fanout::{DELIVERY_BOUNDS, Deliveries};

use super::catalogue::FIGURES;

/// A histogram of counts that are kept elsewhere, which the collector has no way to take.
pub(super) const SECONDS: &str = "evergate_delivery_seconds";

/// Tells the collector what it can hold, and gives the rest in the text format of Prometheus, for series
/// with these labels.
pub(crate) fn deliveries(deliveries: &Deliveries, labels: &str) -> String {
    metrics::counter!("evergate_sends_total").absolute(deliveries.sends);
    metrics::counter!("evergate_delivered_bytes_total").absolute(deliveries.bytes);
    for (to, events) in [("up-to-date", deliveries.up_to_date()), ("behind", deliveries.behind)] {
        metrics::counter!("evergate_delivered_events_total", "to" => to).absolute(events);
    }
    let mut page = String::new();
    write(&mut page, deliveries, labels).expect("writing to a string does not fail");
    page
}

fn write(page: &mut String, deliveries: &Deliveries, labels: &str) -> std::fmt::Result {
    let help = FIGURES.iter().find(|figure| figure.name == SECONDS).map_or("", |figure| figure.means);
    writeln!(page, "# HELP {SECONDS} {help}\n# TYPE {SECONDS} histogram")?;
    let comma = if labels.is_empty() { "" } else { "," };
    let mut within = 0;
    for (events, bound) in deliveries.in_time.iter().zip(DELIVERY_BOUNDS) {
        within += events;
        writeln!(page, "{SECONDS}_bucket{{{labels}{comma}le=\"{bound}\"}} {within}")?;
    }
    let all = deliveries.up_to_date();
    writeln!(page, "{SECONDS}_bucket{{{labels}{comma}le=\"+Inf\"}} {all}")?;
    writeln!(page, "{SECONDS}_sum{{{labels}}} {}", deliveries.millis as f64 / 1000.0)?;
    writeln!(page, "{SECONDS}_count{{{labels}}} {all}")
}

/// Labels as they stand between the braces of a series.
pub(super) fn labels(labels: &[(&str, &str)]) -> String {
    let escaped = |value: &str| value.replace('\\', r"\\").replace('"', r#"\""#).replace('\n', r"\n");
    let pairs: Vec<_> = labels.iter().map(|(name, value)| format!("{name}=\"{}\"", escaped(value))).collect();
    pairs.join(",")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_add_up_to_the_count() {
        let mut deliveries = Deliveries { millis: 1_500, ..Deliveries::default() };
        deliveries.in_time[0] = 2;
        deliveries.in_time[7] = 3;
        deliveries.in_time[DELIVERY_BOUNDS.len()] = 1;
        let mut page = String::new();
        write(&mut page, &deliveries, &labels(&[("node", "a\"b\\"), ("region", "eu")])).expect("a string");
        let lines: Vec<_> = page.lines().collect();
        assert_eq!(lines[1], "# TYPE evergate_delivery_seconds histogram");
        assert_eq!(lines[2], r#"evergate_delivery_seconds_bucket{node="a\"b\\",region="eu",le="0.001"} 2"#);
        assert!(lines[9].ends_with(r#"le="0.21"} 5"#), "{}", lines[9]);
        assert!(lines[15].ends_with(r#"le="+Inf"} 6"#), "{}", lines[15]);
        assert!(lines[16].ends_with("} 1.5") && lines[17].ends_with("} 6"), "{page}");
        assert_eq!(lines.len(), 18);
    }
}
