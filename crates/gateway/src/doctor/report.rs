//! The report, for people or for programs.

use std::io::{self, Write};

use serde_json::{Value, json};

use super::args::Format;
use super::diagnosis::{Finding, Severity, products, seconds};
use super::evidence::{Evidence, First, Http2, Published};
use super::remedy::remedies;
use crate::printable::Printable;

/// Prints everything on standard output.
pub(crate) fn print(format: Format, url: &str, evidence: &Evidence, findings: &[Finding]) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match format {
        Format::Text => text(&mut out, url, evidence, findings),
        Format::Json => writeln!(out, "{}", to_json(url, evidence, findings)),
    }
}

/// A line on standard error. If even that is closed, nobody is listening.
pub(crate) fn complain(text: &str) {
    let _ = writeln!(io::stderr().lock(), "evergate doctor: {}", Printable(text));
}

fn text(out: &mut impl Write, url: &str, evidence: &Evidence, findings: &[Finding]) -> io::Result<()> {
    writeln!(out, "{}", Printable(url))?;
    for (name, value) in measured(evidence) {
        writeln!(out, "  {name:<24} {}", Printable(&value))?;
    }
    for finding in findings {
        let severity = severity(finding).to_uppercase();
        writeln!(out, "\n{severity} {}: {}", finding.ailment.code(), Printable(&finding.what))?;
        for remedy in remedies(finding.ailment, &finding.products) {
            writeln!(out, "  - {remedy}")?;
        }
    }
    let faults = findings.iter().filter(|finding| finding.is_fault()).count();
    let rest = findings.len() - faults;
    writeln!(out, "\nfaults: {faults}; warnings and notes: {rest}")
}

/// What was measured, whether anything is wrong with it or not.
fn measured(evidence: &Evidence) -> Vec<(&'static str, String)> {
    let mut lines = Vec::new();
    let names: Vec<&str> = products(evidence).iter().map(|product| product.name()).collect();
    if evidence.compressible.is_some() || evidence.silent_but.is_some() {
        let nobody = "nobody who says so".to_owned();
        lines.push(("in between", if names.is_empty() { nobody } else { names.join(", ") }));
    }
    if let Some(look) = &evidence.plain
        && let First::Open { .. } = look.first
    {
        lines.push(("first frame after", seconds(look.first_after)));
    }
    if let Published::Done(delivery) = &evidence.published {
        if let Some(delay) = delivery.held_back() {
            lines.push(("events after their ack", seconds(delay)));
        }
        if let Some((sent, received)) = delivery.train {
            lines.push(("sent over, received over", format!("{}, {}", seconds(sent), seconds(received))));
        }
    }
    if let Some(idle) = &evidence.idle {
        lines.push(("left idle for", format!("{}, {} heartbeats", seconds(idle.waited), idle.heartbeats)));
    }
    if let Some(look) = &evidence.resumed
        && let First::Open { resume, .. } = &look.first
    {
        lines.push(("resume by Last-Event-ID", resume.clone()));
    }
    if evidence.plain.is_some() {
        let http2 = match &evidence.http2 {
            Http2::NotAsked => "not asked for",
            Http2::NotOffered => "not offered",
            Http2::Failed(_) => "fails",
            Http2::Answered(_) => "offered",
        };
        lines.push(("HTTP/2", http2.to_owned()));
        if evidence.cors.is_none() {
            lines.push(("CORS", "not examined; give --origin".to_owned()));
        }
    }
    lines
}

fn to_json(url: &str, evidence: &Evidence, findings: &[Finding]) -> Value {
    let ms = |duration: std::time::Duration| u64::try_from(duration.as_millis()).unwrap_or(u64::MAX);
    let delivery = match &evidence.published {
        Published::Done(delivery) => Some(delivery),
        Published::NotAsked | Published::Refused(_) => None,
    };
    let train = delivery.and_then(|delivery| delivery.train);
    let names: Vec<&str> = products(evidence).iter().map(|product| product.name()).collect();
    let told: Vec<Value> = findings
        .iter()
        .map(|finding| {
            json!({
                "code": finding.ailment.code(),
                "severity": severity(finding),
                "what": finding.what,
                "mend": remedies(finding.ailment, &finding.products),
            })
        })
        .collect();
    json!({
        "url": url,
        "sound": !findings.iter().any(Finding::is_fault),
        "in_between": names,
        "findings": told,
        "measured": {
            "first_frame_ms": evidence.plain.as_ref().map(|look| ms(look.first_after)),
            "held_back_ms": delivery.and_then(super::evidence::Delivery::held_back).map(ms),
            "sent_over_ms": train.map(|(sent, _)| ms(sent)),
            "received_over_ms": train.map(|(_, received)| ms(received)),
            "idle_ms": evidence.idle.as_ref().map(|idle| ms(idle.waited)),
            "heartbeats": evidence.idle.as_ref().map(|idle| idle.heartbeats),
        },
    })
}

fn severity(finding: &Finding) -> &'static str {
    match finding.ailment.severity() {
        Severity::Fault => "fault",
        Severity::Warning => "warning",
        Severity::Note => "note",
    }
}
