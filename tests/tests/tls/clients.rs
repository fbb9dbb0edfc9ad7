//! Clients that people use, over TLS: curl, openssl, the npm package `eventsource` and Chromium; and sslyze, which looks
//! for what is weak.

use std::path::Path;

use evergate_tests::authority::{Authority, text};
use evergate_tests::clients::{pinned, script, system};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::program::Program;
use evergate_tests::publisher::Publisher;

use crate::{EVENTS, server};

fn url(server: &Evergate, path: &str) -> String {
    format!("https://localhost:{}{path}", server.http().port())
}

#[tokio::test]
async fn curl_reads_over_both_versions() {
    let Some(curl) = system("curl_reads_over_both_versions", &["curl"]) else { return };
    let (authority, _, server) = server(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", ["one", "two"]).await;
    let ca = authority.file();
    let from = url(&server, &format!("{EVENTS}?from=earliest"));
    for version in ["--http1.1", "--http2", "--tls-max=1.2", "--tlsv1.3"] {
        let version: Vec<&str> = version.split('=').collect();
        let arguments = [&["-sS", "-N", "--cacert", text(&ca)][..], &version, &[from.as_str()]].concat();
        let mut curl = Program::start(&curl, &arguments, &[]);
        for expected in ["data: one", "data: two"] {
            while curl.line().await != expected {}
        }
    }
}

/// What `openssl s_client` tells of a connection with these arguments.
fn s_client(openssl: &Path, authority: &Authority, server: &Evergate, arguments: &[&str]) -> String {
    let address = format!("localhost:{}", server.http().port());
    let ca = authority.file();
    let output = std::process::Command::new(openssl)
        .args(["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", text(&ca)])
        .args(["-verify_return_error", "-verify_hostname", "localhost"])
        .args(arguments)
        .stdin(std::process::Stdio::null())
        .output()
        .expect("openssl can be started");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// What `sslyze` finds, by the name of what it looked for.
fn scanned(python: &Path, server: &Evergate) -> serde_json::Value {
    let address = format!("localhost:{}", server.http().port());
    let output = std::process::Command::new(python)
        .args(["-m", "sslyze", "--mozilla_config", "disable", "--json_out", "-"])
        .args(["--sslv2", "--sslv3", "--tlsv1", "--tlsv1_1", "--tlsv1_2", "--tlsv1_3", "--compression"])
        .args(["--reneg", "--heartbleed", "--openssl_ccs", "--robot", "--early_data", &address])
        .stdin(std::process::Stdio::null())
        .output()
        .expect("sslyze can be started");
    let told: serde_json::Value =
        serde_json::from_slice(&output.stdout).unwrap_or_else(|_| panic!("no JSON: {output:?}"));
    let found = &told["server_scan_results"][0];
    assert_eq!(found["scan_status"], "COMPLETED", "{found}");
    found["scan_result"].clone()
}

#[tokio::test]
async fn openssl_agrees_on_what_is_sound_and_on_nothing_else() {
    const TEST: &str = "openssl_agrees_on_what_is_sound_and_on_nothing_else";
    let Some(openssl) = system(TEST, &["openssl"]) else { return };
    let (authority, _, server) = server(Options::memory()).await;
    let told = |arguments: &[&str]| s_client(&openssl, &authority, &server, arguments);
    for (arguments, expected) in [
        (&["-alpn", "h2,http/1.1"][..], "ALPN protocol: h2"),
        (&["-alpn", "http/1.1"], "ALPN protocol: http/1.1"),
        (&["-tls1_3"], "New, TLSv1.3, Cipher is TLS_"),
        (&["-tls1_2"], "New, TLSv1.2, Cipher is ECDHE-"),
    ] {
        let told = told(arguments);
        assert!(told.contains(expected) && told.contains("Verification: OK"), "{arguments:?}: {told}");
    }
    for arguments in [
        &["-tls1_1", "-cipher", "DEFAULT@SECLEVEL=0"][..],
        &["-tls1_2", "-cipher", "AES128-SHA256"],
        &["-tls1_2", "-cipher", "ECDHE-ECDSA-AES128-SHA256:ECDHE-RSA-AES128-SHA256"],
        &["-alpn", "smtp"],
    ] {
        let told = told(arguments);
        assert!(told.contains("alert"), "{arguments:?}: {told}");
    }
}

/// What a scanner finds that looks for everything by which TLS was ever broken.
#[tokio::test]
async fn sslyze_finds_nothing_weak() {
    let Some(pinned) = pinned("sslyze_finds_nothing_weak") else { return };
    let (_, _, server) = server(Options::memory()).await;
    let found = scanned(&pinned.python, &server);
    let result = |scan: &str| {
        let done = &found[scan];
        assert_eq!(done["status"], "COMPLETED", "{scan}: {done}");
        done["result"].clone()
    };
    let suites = |scan: &str| -> Vec<String> {
        let result = result(scan);
        let accepted = result["accepted_cipher_suites"].as_array().expect("a list").clone();
        accepted
            .iter()
            .map(|suite| suite["cipher_suite"]["name"].as_str().expect("a name").to_owned())
            .collect()
    };
    let none: Vec<String> = Vec::new();
    for old in
        ["ssl_2_0_cipher_suites", "ssl_3_0_cipher_suites", "tls_1_0_cipher_suites", "tls_1_1_cipher_suites"]
    {
        assert_eq!(suites(old), none, "{old}");
    }
    let (by_1_2, by_1_3): (Vec<String>, Vec<String>) =
        (suites("tls_1_2_cipher_suites"), suites("tls_1_3_cipher_suites"));
    assert!(!by_1_2.is_empty() && !by_1_3.is_empty());
    // Forward secrecy and authenticated encryption, all of them.
    for suite in &by_1_2 {
        let sound =
            suite.starts_with("TLS_ECDHE_") && (suite.contains("_GCM_") || suite.contains("_CHACHA20_"));
        assert!(sound, "{suite}");
    }
    assert_eq!(result("tls_compression")["supports_compression"], false);
    assert_eq!(result("session_renegotiation")["is_vulnerable_to_client_renegotiation_dos"], false);
    assert_eq!(result("heartbleed")["is_vulnerable_to_heartbleed"], false);
    assert_eq!(result("openssl_ccs_injection")["is_vulnerable_to_ccs_injection"], false);
    let robot = result("robot")["robot_result"].as_str().expect("a word").to_owned();
    assert!(robot.starts_with("NOT_VULNERABLE"), "{robot}");
    assert_eq!(result("tls_1_3_early_data")["supports_early_data"], false);
}

#[tokio::test]
async fn a_server_for_1_3_alone_refuses_1_2() {
    let Some(openssl) = system("a_server_for_1_3_alone_refuses_1_2", &["openssl"]) else { return };
    let (authority, _, server) = server(Options::memory().set("tls.version_min", "1.3")).await;
    assert!(s_client(&openssl, &authority, &server, &["-tls1_3"]).contains("Verification: OK"));
    assert!(s_client(&openssl, &authority, &server, &["-tls1_2"]).contains("alert"));
}

#[tokio::test]
async fn the_npm_package_eventsource_reads_over_tls() {
    let Some(pinned) = pinned("the_npm_package_eventsource_reads_over_tls") else { return };
    let (authority, _, server) = server(Options::disk()).await;
    let ca = authority.file();
    let words = [
        script("node/eventsource.cjs").into_os_string(),
        url(&server, EVENTS).into(),
        "evergate.open".into(),
    ];
    let environment =
        [("NODE_PATH", pinned.node_modules.as_os_str()), ("NODE_EXTRA_CA_CERTS", ca.as_os_str())];
    let mut client = Program::start(&pinned.node, &words, &environment);
    assert_eq!(client.json().await["event"], "evergate.open");
    Publisher::connect(server.grpc()).await.publish_all("s", ["one"]).await;
    assert_eq!(client.json().await["data"], "one");
    client.finish().await;
}

#[tokio::test]
async fn chromium_reads_over_http2_and_tls() {
    const TEST: &str = "chromium_reads_over_http2_and_tls";
    let (Some(pinned), Some(chromium)) =
        (pinned(TEST), system(TEST, &["chromium", "chromium-browser", "google-chrome"]))
    else {
        return;
    };
    let (_, _, server) = server(Options::disk().set("http.cors_origins", "*")).await;
    let words = [
        script("node/browser.cjs").into_os_string(),
        chromium.into(),
        url(&server, EVENTS).into(),
        "evergate.open".into(),
    ];
    let mut page = Program::start(&pinned.node, &words, &[("NODE_PATH", pinned.node_modules.as_os_str())]);
    // The browser tells of the answer's head by another way than of its first frame, and either may be first.
    let (mut protocol, mut opened) = (None, false);
    while protocol.is_none() || !opened {
        let told = page.json().await;
        opened |= told["event"] == "evergate.open";
        if told["event"] == "response" {
            protocol = told["protocol"].as_str().map(str::to_owned);
        }
    }
    assert_eq!(protocol.as_deref(), Some("h2"));
    let mut told = serde_json::Value::Null;
    Publisher::connect(server.grpc()).await.publish_all("s", ["one"]).await;
    while told["event"] != "message" {
        told = page.json().await;
    }
    assert_eq!(told["data"], "one");
    page.finish().await;
}
