//! The Helm chart and the plain manifests, judged without a cluster by the real tools.

use std::process::Command;

use evergate_tests::clients::{checkout, pinned, script};
use evergate_tests::process::binary;

#[test]
fn the_chart_and_the_plain_manifests_are_sound() {
    let Some(pinned) = pinned("the_chart_and_the_plain_manifests_are_sound") else { return };
    let judged = Command::new(&pinned.python)
        .arg(script("python/chart.py"))
        .arg(checkout())
        .env("PYTHONDONTWRITEBYTECODE", "1")
        .args([&pinned.helm3, &pinned.helm4, &pinned.kubectl, &binary()])
        .output()
        .expect("Python starts");
    let faults = String::from_utf8_lossy(&judged.stdout);
    let rest = String::from_utf8_lossy(&judged.stderr);
    assert!(judged.status.success(), "{faults}{rest}");
    assert!(rest.contains("10 cases, 0 faults"), "it judged something else: {rest}");
}
