//! Each kind of mistake with its exact words and place, and the order of precedence.

#![allow(clippy::unwrap_used, reason = "a test fails by panicking")]

use std::num::{NonZeroU32, NonZeroUsize};
use std::path::PathBuf;
use std::time::Duration;

use evergate_domain::{Level, Rate, Retention, SlowReader, StreamName, StreamPattern};
use proptest::prelude::*;

use super::proven::{Clients, Threads};
use super::*;

/// Sources under construction; everything not said is absent.
struct Said(Sources);

fn nothing() -> Said {
    Said(Sources { defaults: Defaults::General, file: None, environment: Vec::new(), flags: Vec::new() })
}

fn file(text: &str) -> Said {
    nothing().file(text)
}

impl Said {
    fn file(mut self, text: &str) -> Self {
        self.0.file = Some(FileSource { name: "evergate.toml".to_owned(), contents: text.into() });
        self
    }

    fn variable(mut self, name: &str, value: &str) -> Self {
        self.0.environment.push((name.into(), value.into()));
        self
    }

    fn flag(mut self, flag: &'static str, text: &str) -> Self {
        let setting = SETTINGS.iter().find(|setting| setting.flag == Some(flag)).unwrap();
        self.0.flags.push(FlagSource::Own { setting, flag, text: text.to_owned() });
        self
    }

    fn set(mut self, assignment: &str) -> Self {
        self.0.flags.push(FlagSource::Set(assignment.to_owned()));
        self
    }

    fn proven(&self) -> Config {
        Config::prove(&self.0).unwrap()
    }

    /// The mistakes, a line each.
    #[track_caller]
    fn mistakes(&self, expected: &[&str]) {
        let mistakes = Config::prove(&self.0).unwrap_err().to_string();
        let found: Vec<&str> = mistakes.lines().collect();
        assert_eq!(found, expected);
    }
}

#[test]
fn nothing_said_is_the_defaults() {
    let config = nothing().proven();
    assert_eq!(config.node, "local");
    assert_eq!(config.http.address, "127.0.0.1:8080".parse().unwrap());
    assert_eq!(config.http.head_bytes_max, 16 * 1024);
    assert_eq!(config.http.cors_origins, CorsOrigins::Listed(Vec::new()));
    assert_eq!(config.sse.heartbeat, Duration::from_secs(15));
    assert_eq!(config.log, LogChoice::Disk("evergate-data".into()));
    assert_eq!(config.ready_file, None);
    assert_eq!(config.runtime_threads, Threads::FromQuota);
    assert_eq!(config.streams.retention, Retention::default());
    assert!(config.streams.create);
}

#[test]
fn dev_lets_any_page_read_unless_told_otherwise() {
    let mut said = nothing();
    said.0.defaults = Defaults::Dev;
    assert_eq!(said.proven().http.cors_origins, CorsOrigins::Any);
    let said = said.file("http.cors_origins = [\"https://a.example\"]");
    assert_eq!(said.proven().http.cors_origins, CorsOrigins::Listed(vec!["https://a.example".to_owned()]));
}

#[test]
fn flags_win_over_environment_over_file_over_defaults() {
    let said = file("node = \"file\"\nregion = \"file\"\nhttp.address = \"127.0.0.1:1\"\n")
        .variable("EVERGATE_NODE", "environment")
        .variable("EVERGATE_REGION", "environment")
        .flag("node", "flag")
        .set("sse.heartbeat=20s");
    let config = said.proven();
    assert_eq!(config.node, "flag");
    assert_eq!(config.region, "environment");
    assert_eq!(config.http.address, "127.0.0.1:1".parse().unwrap());
    assert_eq!(config.sse.heartbeat, Duration::from_secs(20));
    assert_eq!(config.grpc.address, "127.0.0.1:8081".parse().unwrap());
}

#[test]
fn every_setting_can_be_written_in_the_file_and_reaches_the_config() {
    // Each value differs from its default, so that none can be forgotten on the way.
    let text = r#"
        node = "edge-1"
        region = "eu"
        log = "redis://localhost:1"
        ready_file = "/run/ready"
        [http]
        address = "[::1]:1"
        head_bytes_max = "8KiB"
        head_timeout = "6s"
        idle_timeout = "31s"
        connections_max = 1_000
        cors_origins = ["https://a.example", "http://localhost:3000"]
        peer_timeout = "29s"
        stall_timeout = "61s"
        share_port = true
        congestion = "bbr"
        quick_ack = true
        trusted_proxies = ["10.0.0.0/8", "fd00::1"]
        proxy_protocol = "require"
        forwarded_header = "forwarded"
        tls = "on"
        client_certificates = "required"
        client_ca_file = "/etc/clients.pem"
        [grpc]
        connections_max = 77
        address = "127.0.0.1:2"
        tls = "on"
        client_certificates = "optional"
        client_ca_file = "/etc/publishers.pem"
        [admin]
        address = "127.0.0.1:3"
        token_file = "/etc/admin.token"
        [tls]
        certificate_files = ["/etc/edge.pem"]
        key_files = ["/etc/edge.key"]
        version_min = "1.3"
        resumption = "sessions"
        sessions_max = 7
        early_data_bytes_max = "8KiB"
        handshake_timeout = "6s"
        reload_interval = "11s"
        [cluster]
        peers = ["edge-2=http://[::1]:3"]
        ca_file = "/etc/cluster.pem"
        certificate_file = "/etc/node.pem"
        key_file = "/etc/node.key"
        control = ["https://control:4"]
        geography = ["country:DE=eu", "elsewhere=us"]
        geoip_file = "/etc/geo.mmdb"
        zone = "eu-a"
        host = "edge-1.internal"
        weight = 150
        admits_per_second = 900
        [control]
        cluster = "other"
        id = 7
        data_dir = "/var/lib/control"
        address = "[::1]:4"
        host = "control-6.control"
        peers = ["any=http://control:4"]
        nodes = 5
        heartbeat = "200ms"
        election_min = "1s"
        election_max = "2s"
        snapshot_entries = 100
        certificate_file = "/etc/node.pem"
        key_file = "/etc/node.key"
        ca_file = "/etc/ca.pem"
        raft_identities = ["spiffe://example.com/control/*"]
        admin_token_file = "/etc/token"
        [sse]
        heartbeat = "25s"
        ping_interval = "31s"
        retry_min = "250ms"
        retry_max = "2m"
        retry_refresh = "6m"
        busy_retry_min = "3s"
        busy_retry_max = "16s"
        streams_max = 15
        keys_max = 0x41
        compression = "off"
        [publish]
        payload_bytes_max = 1000
        batch_events_max = 999
        batch_bytes_max = "512KiB"
        stream_window = 7
        producers = ["spiffe://example.com/a/*=a-*"]
        [limits]
        pending_max = 7
        pending_per_address = 6
        connections_per_address = 30
        accepts_per_second = 8
        streams_per_address = 9
        streams_per_client = 10
        grpc_connections_per_address = 15
        connects_per_second = 11
        connects_burst = 12
        newcomers_per_second = 16
        newcomers_burst = 17
        publishes_per_second = 13
        publishes_burst = 14
        streams_per_principal = 18
        subscribers_per_stream = 19
        principal_connects_per_second = 20
        principal_connects_burst = 21
        stream_connects_per_second = 22
        stream_connects_burst = 23
        principal_publishes_per_second = 24
        principal_publishes_burst = 25
        stream_publishes_per_second = 26
        stream_publishes_burst = 27
        calls_per_second = 28
        calls_burst = 29
        [streams]
        create = false
        [streams."a.b:c"]
        retention_events = 5
        retention_age = "1h"
        slow_reader = "gap"
        level = "REPLICATED"
        [streams.empty]
        [retention]
        events = 10
        bytes = "1KiB"
        age = "1d"
        [fanout]
        ring_events = 64
        ring_bytes = "1MiB"
        replay_cache_bytes = "2MiB"
        slow_reader = "conflate"
        slow_reader_lag_events = 10
        [access]
        mode = "tokens"
        keys = ["file:k.json"]
        [cursors]
        flush_interval = "3s"
        overlap = 100
        [disk]
        reserve_bytes = 0
        [redis]
        level = "REPLICATED"
        confirmations = 2
        ca_file = "/etc/ca.pem"
        sentinel_login_file = "/run/login"
        [shutdown]
        grace = "7s"
        pace = 500
        drain = "0s"
        lead = "2s"
        deadline = "1s"
        [upgrade]
        socket = "/run/evergate/upgrade.sock"
        [runtime]
        threads = 3
        [telemetry]
        endpoint = "https://collector:4317"
        ca_file = "/etc/collector.pem"
        sample_one_in = 7
        brought = "resample"
        queue_spans = 100
        export_timeout = "1s"
        [memory]
        bytes_max = "1GiB"
        [log_output]
        format = "json"
        level = "warn,evergate_edge=debug"
    "#;
    let config = file(text).proven();
    assert_every_field_differs(&config, &nothing().proven());
    let general = Retention { events: Some(10), bytes: Some(1024), age: Some(Duration::from_secs(86_400)) };
    let own = Retention { events: Some(5), bytes: Some(1024), age: Some(Duration::from_secs(3600)) };
    assert_eq!(config.streams.retention, general);
    let listed: Vec<_> = config.streams.listed.into_iter().collect();
    let name = |name: &str| name.parse::<StreamPattern>().unwrap();
    assert_eq!(listed, [(name("a.b:c"), own), (name("empty"), general)]);
    assert_eq!(config.ready_file, Some(PathBuf::from("/run/ready")));
    assert_eq!(config.sse.keys_max, NonZeroUsize::new(65).unwrap());
    let telemetry = config.telemetry.as_ref().expect("there is a collector");
    assert_eq!(telemetry.endpoint.to_string(), "https://collector:4317/");
    assert_eq!(telemetry.ca_file.as_deref(), Some(std::path::Path::new("/etc/collector.pem")));
    assert!(telemetry.resample && telemetry.sample_one_in == 7 && telemetry.queue_spans.get() == 100);
    assert_eq!(telemetry.export_timeout, Duration::from_secs(1));
    assert_eq!((telemetry.region.as_deref(), telemetry.zone.as_deref()), (Some("eu"), Some("eu-a")));
    assert_eq!(config.log_output.format, LogFormat::Json);
    let rate = |per_second, burst| {
        Some(Rate::new(NonZeroU32::new(per_second).unwrap(), NonZeroU32::new(burst).unwrap()))
    };
    let Rates { address, principal, stream } = config.limits.connects;
    assert_eq!([address, principal, stream], [rate(11, 12), rate(20, 21), rate(22, 23)]);
    let Rates { address, principal, stream } = config.limits.publishes;
    assert_eq!([address, principal, stream], [rate(13, 14), rate(24, 25), rate(26, 27)]);
    assert_eq!(config.limits.calls, rate(28, 29));
}

#[test]
fn networks_are_read_in_both_forms_and_each_has_its_place() {
    let trusted = |said: &Said| said.proven().http.trusted_proxies;
    let expected = vec!["10.0.0.0/8".parse().unwrap(), "fd00::1".parse().unwrap()];
    assert_eq!(trusted(&file("http.trusted_proxies = [\"10.0.0.0/8\", \"fd00::1\"]")), expected);
    assert_eq!(
        trusted(&nothing().variable("EVERGATE_HTTP_TRUSTED_PROXIES", "10.0.0.0/8, fd00::1")),
        expected
    );
    file("[http]\ntrusted_proxies = [\n  \"10.0.0.1/8\",\n  \"proxy\",\n  7,\n]").mistakes(&[
        r#"evergate.toml:3:3: http.trusted_proxies: "10.0.0.1/8" has bits set behind its prefix; the network is 10.0.0.0/8"#,
        r#"evergate.toml:4:3: http.trusted_proxies: "proxy" is not a network such as "10.0.0.0/8", "fd00::/8" or a single address"#,
        "evergate.toml:5:3: http.trusted_proxies: expected a network in quotes, found a whole number",
    ]);
}

#[test]
fn peers_are_other_nodes_each_named_once_with_an_address() {
    let peers = |said: &Said| said.proven().cluster.peers.iter().map(ToString::to_string).collect::<Vec<_>>();
    let expected = ["edge-b=http://10.0.0.2:8081", "edge-c=http://c.internal:1"];
    assert_eq!(
        peers(&file("cluster.peers = [\"edge-b=http://10.0.0.2:8081\", \"edge-c=http://c.internal:1/\"]")),
        expected
    );
    let listed = "edge-b=http://10.0.0.2:8081, edge-c=http://c.internal:1";
    assert_eq!(peers(&nothing().variable("EVERGATE_CLUSTER_PEERS", listed)), expected);
    file("[cluster]\npeers = [\n  \"b=http://h:1\",\n  \"b=http://h:2\",\n  \"a b=http://h:1\",\n  \"c\",\n  7,\n]")
        .mistakes(&[
            r#"evergate.toml:4:3: cluster.peers: node "b" is named twice"#,
            r#"evergate.toml:5:3: cluster.peers: "a b" is not a name: 1 to 64 letters, digits, '.', '_' or '-'"#,
            r#"evergate.toml:6:3: cluster.peers: "c" is not a node such as "edge-b=http://10.0.0.2:8081""#,
            "evergate.toml:7:3: cluster.peers: expected a node in quotes, found a whole number",
        ]);
    for wrong in
        ["h:1", "http://h", "http://:1", "http://h:0", "http://h:1/x", "http://u@h:1", "ftp://h:1", ""]
    {
        nothing().set(&format!("cluster.peers=b={wrong}")).mistakes(&[&format!(
            "flag --set cluster.peers: {wrong:?} is not an address such as \"http://10.0.0.2:8081\""
        )]);
    }
    nothing().set("cluster.peers=b=https://h:1").mistakes(&[
        "flag --set cluster.peers: b: without cluster.ca_file there is nobody who vouches for it",
    ]);
    nothing()
        .set("cluster.peers=b=http://h:1")
        .flag("node", "b")
        .mistakes(&["flag --set cluster.peers: names this node itself, b (node, flag --node)"]);
}

#[test]
fn control_nodes_are_addresses_that_speak_tls_all_or_none() {
    let control = |said: &Said| {
        said.proven()
            .cluster
            .control
            .iter()
            .map(|place| place.authority().unwrap().to_string())
            .collect::<Vec<_>>()
    };
    let expected = ["10.0.0.1:8083", "control.internal:1"];
    let listed = "http://10.0.0.1:8083, http://control.internal:1/";
    assert_eq!(control(&nothing().set(&format!("cluster.control={listed}"))), expected);
    assert_eq!(
        control(&file("cluster.control = [\"http://10.0.0.1:8083\", \"http://control.internal:1\"]")),
        expected
    );
    for wrong in ["h:1", "http://h", "http://h:0", "1=http://h:1"] {
        nothing().set(&format!("cluster.control={wrong}")).mistakes(&[&format!(
            "flag --set cluster.control: {wrong:?} is not an address such as \"http://10.0.0.2:8081\""
        )]);
    }
    nothing().set("cluster.control=https://h:1,http://h:2").mistakes(&[
        "flag --set cluster.control: some speak TLS and some do not: a group of control nodes does all of it or none",
        "flag --set cluster.control: without cluster.ca_file there is nobody who vouches for control nodes",
    ]);
}

#[test]
fn where_clients_belong_needs_a_database_for_countries_and_a_cluster() {
    nothing().set("cluster.geography=DE=eu").mistakes(&[
        r#"flag --set cluster.geography: "DE=eu" is no rule such as "country:DE=eu-west", "continent:NA=us-east", "network:10.0.0.0/8=eu-west" or "elsewhere=eu-west""#,
    ]);
    nothing().set("cluster.control=http://h:1").set("cluster.geography=network:10.0.0.0/8=eu").proven();
    nothing().set("cluster.control=http://h:1").set("cluster.geography=country:DE=eu").mistakes(&[
        "flag --set cluster.geography: countries and continents are known by cluster.geoip_file only, which is not given",
    ]);
    nothing().set("cluster.geography=elsewhere=eu").mistakes(&[
        "flag --set cluster.geography: says where clients belong in a cluster, and cluster.control names none",
    ]);
    nothing().set("cluster.host=a:1").mistakes(&[
        r#"flag --set cluster.host: "a:1" is no host, such as "edge-a.internal", "10.0.0.2" or "fd00::2""#,
    ]);
    assert_eq!(nothing().set("cluster.host=fd00::2").proven().cluster.host, "fd00::2");
}

#[test]
fn what_cannot_be_shown_or_judged_by_is_a_mistake() {
    let pair = || nothing().set("tls.certificate_files=a.pem,b.pem").set("tls.key_files=a.key, b.key");
    let tls = pair().set("http.tls=on").proven();
    let expected = [("a.pem".into(), "a.key".into()), ("b.pem".into(), "b.key".into())];
    assert_eq!((&tls.tls.certificates[..], tls.http.tls), (&expected[..], Some(Clients::Nothing)));
    let listed = "http.tls = \"on\"\n[tls]\ncertificate_files = [\"a.pem\", \"b.pem\"]\nkey_files = [\"a.key\", \"b.key\"]";
    assert_eq!(file(listed).proven().tls, tls.tls);

    pair().mistakes(&[
        "flag --set tls.certificate_files: nobody would be shown it; write http.tls = \"on\" or grpc.tls = \"on\"",
    ]);
    nothing()
        .set("http.tls=on")
        .mistakes(&["flag --set http.tls: on, but tls.certificate_files names no certificate to show"]);
    nothing().set("tls.certificate_files=a.pem,b.pem").set("tls.key_files=a.key").set("http.tls=on").mistakes(&[
        "flag --set tls.certificate_files: 2 certificates and 1 keys: each certificate needs its key at the same place of tls.key_files",
    ]);
    nothing().set("tls.key_files=a.key").mistakes(&[
        "flag --set tls.key_files: 0 certificates and 1 keys: each certificate needs its key at the same place of tls.certificate_files",
    ]);
    nothing().set("http.client_certificates=required").mistakes(&[
        "flag --set http.client_certificates: required, but clients can show a certificate only where http.tls is on",
    ]);
    pair().set("http.tls=on").set("http.client_certificates=optional").mistakes(&[
        "flag --set http.client_certificates: optional, but http.client_ca_file names nobody whose certificates are believed",
    ]);
    pair().set("http.tls=on").set("http.client_ca_file=ca.pem").mistakes(&[
        "flag --set http.client_ca_file: nobody would be judged by it, as http.client_certificates is off",
    ]);
    nothing().set("tls.ticket_secrets_file=s").set("tls.resumption=sessions").mistakes(&[
        "flag --set tls.ticket_secrets_file: no tickets are given out, as tls.resumption is sessions, flag --set tls.resumption",
    ]);
    nothing().set("tls.early_data_bytes_max=16KiB").mistakes(&[
        "flag --set tls.early_data_bytes_max: tls.resumption is tickets, the default: a ticket is good at every edge and as often as it is shown, so early data that was recorded could be taken again; it needs tls.resumption = \"sessions\"",
    ]);
    nothing().set("tls.early_data_bytes_max=16KiB").set("tls.resumption=off").mistakes(&[
        "flag --set tls.early_data_bytes_max: tls.resumption is off, flag --set tls.resumption: nobody comes back with a session then, and nobody else has early data; it needs tls.resumption = \"sessions\"",
    ]);
    let early =
        pair().set("http.tls=on").set("tls.resumption=sessions").set("tls.early_data_bytes_max=16KiB");
    assert_eq!(
        early.proven().tls.resumption,
        Resumption::Sessions { max: 20_000.try_into().expect("many"), early_data_bytes_max: 16 << 10 }
    );
    pair().set("http.tls=on").set("cluster.ca_file=ca.pem").set("cluster.key_file=k").mistakes(&[
        "flag --set cluster.ca_file: nodes can show a certificate only where grpc.tls is on",
        "flag --set cluster.key_file: is of no use without cluster.certificate_file",
    ]);
    nothing().set("publish.producers=a=b").mistakes(&[
        "flag --set publish.producers: nobody is asked for a certificate, as http.client_certificates and grpc.client_certificates are off",
    ]);
    for (wrong, why) in [
        ("a", "\"a\" is no pair such as \"spiffe://example.com/pricing/*=pricing-*\""),
        ("=b", "\"=b\" is no pair such as \"spiffe://example.com/pricing/*=pricing-*\""),
        ("a*b=c", "\"a*b\": a * stands at the end, or with a dot at the beginning"),
        ("*.a*=c", "\"*.a*\": a * stands at the end, or with a dot at the beginning"),
        ("a=", "\"\": producer id is empty"),
    ] {
        let mistake = format!("flag --set publish.producers: {why}");
        nothing().set(&format!("publish.producers={wrong}")).mistakes(&[&mistake]);
    }
    file("tls.key_files = [\"a.key\", \"\", 7]").mistakes(&[
        "evergate.toml:1:27: tls.key_files: an empty path",
        "evergate.toml:1:31: tls.key_files: expected a path in quotes, found a whole number",
    ]);
}

#[test]
fn a_header_that_nobody_may_send_is_a_mistake() {
    nothing().set("http.proxy_protocol=require").mistakes(&[
        "flag --set http.proxy_protocol: require, but http.trusted_proxies is empty, so nobody would be believed",
    ]);
    nothing().set("http.proxy_protocol=accept").set("http.trusted_proxies=::1").proven();
}

#[test]
fn who_is_let_in_is_told_in_full_or_not_at_all() {
    let text = r#"
        [access]
        mode = "tokens"
        keys = ["file:/k.json", "https://issuer.example/keys", "http://127.0.0.1:1/keys"]
        keys_refresh = "1m"
        keys_stale_max = "1h"
        issuers = ["https://issuer.example"]
        audiences = ["evergate"]
        required_claims = ["exp"]
        claim = "https://issuer.example/evergate"
        leeway = "5s"
        reauth_before = "2m"
        anonymous_subscribe = ["news.*/public", "status"]
        anonymous_publish = ["in"]
        cookie = "__Host-evergate"
        query_token = true
    "#;
    let access = file(text).proven().access.unwrap();
    let words = |words: &[&str]| words.iter().map(|word| (*word).to_owned()).collect::<Vec<_>>();
    let grants = |grants: &[&str]| grants.iter().map(|grant| grant.parse().unwrap()).collect::<Vec<_>>();
    let expected = Access {
        keys: ["file:/k.json", "https://issuer.example/keys", "http://127.0.0.1:1/keys"]
            .map(|place| KeysAt::parse(place).unwrap())
            .to_vec(),
        keys_refresh: Duration::from_secs(60),
        keys_stale_max: Duration::from_secs(3600),
        issuers: words(&["https://issuer.example"]),
        audiences: words(&["evergate"]),
        required_claims: words(&["exp"]),
        claim: "https://issuer.example/evergate".to_owned(),
        leeway: Duration::from_secs(5),
        reauth_before: Duration::from_secs(120),
        anonymous_subscribe: grants(&["news.*/public", "status"]),
        anonymous_publish: grants(&["in"]),
        cookie: Some("__Host-evergate".to_owned()),
        query_token: true,
    };
    assert_eq!(access, expected);
    assert_eq!(nothing().proven().access, None);
}

#[test]
fn a_guard_without_keys_and_keys_without_a_guard_are_mistakes() {
    nothing()
        .set("access.mode=tokens")
        .mistakes(&["flag --set access.mode: tokens, but access.keys is empty, so nobody could be let in"]);
    nothing().set("access.keys=file:k").mistakes(&[
        "flag --set access.keys: there are keys, but access.mode is open, the default, so nobody is asked for a token",
    ]);
    nothing().set("access.cookie=token").mistakes(&[
        "flag --set access.cookie: \"token\" does not begin with \"__Host-\" or \"__Secure-\", so browsers would send it over plain HTTP, too",
    ]);
    // What may be a password is not repeated.
    for (wrong, message) in [
        ("keys.json", "an entry is neither file:PATH nor an address such as https://issuer.example/keys"),
        ("file:", "\"file:\" names no file; write file:PATH"),
        ("http://issuer.example/keys", "keys that come by http could be anybody's; write https"),
        ("https://u:secret@h/", "an address with a user or a password in it would be written to the log"),
        ("ftp://h/", "ftp is neither file nor https"),
    ] {
        nothing()
            .set(&format!("access.keys={wrong}"))
            .mistakes(&[&format!("flag --set access.keys: {message}")]);
    }
}

#[test]
fn an_upgrade_needs_a_log_that_two_processes_can_use() {
    nothing().set("log=memory").set("upgrade.socket=u").mistakes(&[
        "flag --set upgrade.socket: needs a log in Redis, but log is memory, flag --set log: what is in the memory of one process no successor can take over",
    ]);
    nothing().set("log=disk:d").set("upgrade.socket=u").mistakes(&[
        "flag --set upgrade.socket: needs a log in Redis, but log is disk:d, flag --set log: a log on the disk is one process's at a time; let systemd hold the listeners instead, see operating/upgrade.md",
    ]);
    nothing().set("log=redis://h:1").set("upgrade.socket=u").proven();
}

/// Takes both apart without `..`, so that a new field must be added here.
fn assert_every_field_differs(one: &Config, other: &Config) {
    let differing = |config: &Config| {
        let Config {
            node,
            region,
            log,
            ready_file,
            http,
            grpc,
            tls,
            admin_address,
            admin_token_file,
            cluster,
            control,
            sse,
            publish,
            limits,
            streams,
            fanout,
            access,
            cursors,
            disk_reserve_bytes,
            redis,
            shutdown,
            upgrade_socket,
            runtime_threads,
            telemetry,
            memory_bytes_max,
            log_output,
        } = config.clone();
        [
            format!("{node:?}"),
            format!("{region:?}"),
            format!("{log:?}"),
            format!("{ready_file:?}"),
            format!("{:?}", http.address),
            format!("{:?}", http.head_bytes_max),
            format!("{:?}", http.head_timeout),
            format!("{:?}", http.idle_timeout),
            format!("{:?}", http.connections_max),
            format!("{:?}", http.cors_origins),
            format!("{:?}", http.peer_timeout),
            format!("{:?}", http.stall_timeout),
            format!("{:?}", http.share_port),
            format!("{:?}", http.congestion),
            format!("{:?}", http.quick_ack),
            format!("{:?}", http.trusted_proxies),
            format!("{:?}", http.proxy_protocol),
            format!("{:?}", http.forwarded_header),
            format!("{:?}", http.tls),
            format!("{:?}", tls.certificates),
            format!("{:?}", tls.only_1_3),
            format!("{:?}", tls.resumption),
            format!("{:?}", tls.handshake_timeout),
            format!("{:?}", tls.reload_interval),
            format!("{:?}", limits.pending_max),
            format!("{:?}", limits.pending_per_address),
            format!("{:?}", limits.connections_per_address),
            format!("{:?}", limits.accepts),
            format!("{:?}", limits.streams_per_address),
            format!("{:?}", limits.streams_per_client),
            format!("{:?}", limits.grpc_connections_per_address),
            format!("{:?}", limits.streams_per_principal),
            format!("{:?}", limits.subscribers_per_stream),
            format!("{:?}", limits.connects.address),
            format!("{:?}", limits.connects.principal),
            format!("{:?}", limits.connects.stream),
            format!("{:?}", limits.newcomers),
            format!("{:?}", limits.publishes.address),
            format!("{:?}", limits.publishes.principal),
            format!("{:?}", limits.publishes.stream),
            format!("{:?}", limits.calls),
            format!("{:?}", grpc.address),
            format!("{:?}", grpc.connections_max),
            format!("{:?}", grpc.tls),
            format!("{admin_address:?}"),
            format!("{admin_token_file:?}"),
            format!("{:?}", cluster.peers),
            format!("{:?}", cluster.ca_file),
            format!("{:?}", cluster.certificate),
            format!("{:?}", cluster.control),
            format!("{:?}", cluster.geography),
            format!("{:?}", cluster.geoip_file),
            format!("{:?}", cluster.zone),
            format!("{:?}", cluster.host),
            format!("{:?}", cluster.weight),
            format!("{:?}", cluster.admits_per_second),
            format!("{:?}", control.cluster),
            format!("{:?}", control.id),
            format!("{:?}", control.data_dir),
            format!("{:?}", control.address),
            format!("{:?}", control.host),
            format!("{:?}", control.peers),
            format!("{:?}", control.nodes),
            format!("{:?}", control.heartbeat),
            format!("{:?}", control.election_min),
            format!("{:?}", control.election_max),
            format!("{:?}", control.snapshot_entries),
            format!("{:?}", control.certificate_file),
            format!("{:?}", control.key_file),
            format!("{:?}", control.ca_file),
            format!("{:?}", control.raft_identities),
            format!("{:?}", control.admin_token_file),
            format!("{:?}", sse.heartbeat),
            format!("{:?}", sse.ping_interval),
            format!("{:?}", sse.retry),
            format!("{:?}", sse.retry_refresh),
            format!("{:?}", sse.busy_retry),
            format!("{:?}", sse.streams_max),
            format!("{:?}", sse.keys_max),
            format!("{:?}", sse.gzip),
            format!("{:?}", publish.payload_bytes_max),
            format!("{:?}", publish.batch_events_max),
            format!("{:?}", publish.batch_bytes_max),
            format!("{:?}", publish.stream_window),
            format!("{:?}", publish.producers),
            format!("{:?}", streams.create),
            format!("{:?}", streams.retention.events),
            format!("{:?}", streams.retention.bytes),
            format!("{:?}", streams.retention.age),
            format!("{:?}", streams.listed),
            format!("{:?}", fanout.ring_events),
            format!("{:?}", fanout.ring_bytes),
            format!("{:?}", fanout.replay_cache_bytes),
            format!("{:?}", fanout.slow_readers.default),
            format!("{:?}", fanout.slow_readers.named),
            format!("{:?}", fanout.slow_readers.lag_max),
            format!("{access:?}"),
            format!("{:?}", cursors.flush_interval),
            format!("{:?}", cursors.overlap),
            format!("{disk_reserve_bytes:?}"),
            format!("{:?}", redis.levels.default),
            format!("{:?}", redis.levels.named),
            format!("{:?}", redis.confirmations),
            format!("{:?}", redis.ca_file),
            format!("{:?}", redis.sentinel_login_file),
            format!("{:?}", shutdown.grace),
            format!("{:?}", shutdown.pace),
            format!("{:?}", shutdown.drain),
            format!("{:?}", shutdown.lead),
            format!("{:?}", shutdown.deadline),
            format!("{upgrade_socket:?}"),
            format!("{runtime_threads:?}"),
            format!("{telemetry:?}"),
            format!("{memory_bytes_max:?}"),
            format!("{:?}", log_output.format),
            format!("{:?}", log_output.directives),
        ]
    };
    for (left, right) in differing(one).iter().zip(differing(other)) {
        assert_ne!(*left, right);
    }
}

#[test]
fn all_mistakes_of_all_sources_are_told_at_once_in_order() {
    file("[http]\naddress = \"nowhere\"\n\n[sse]\nheartbeat = \"26s\"\nstreams_max = 17\n")
        .variable("EVERGATE_RETENTION_AGE", "week")
        .variable("EVERGATE_HTPP_ADDRESS", "127.0.0.1:1")
        .flag("grpc", "8081")
        .set("runtime.threads=many")
        .mistakes(&[
            r#"evergate.toml:2:11: http.address: "nowhere" is not an IP address with a port, such as "127.0.0.1:8080""#,
            "evergate.toml:5:13: sse.heartbeat: 26s is out of range: 1s to 25s",
            "evergate.toml:6:15: sse.streams_max: 17 is out of range: 1 to 16",
            r#"environment EVERGATE_HTPP_ADDRESS: no setting has this variable; did you mean "EVERGATE_HTTP_ADDRESS"?"#,
            r#"environment EVERGATE_RETENTION_AGE: "week" is not a duration; write a whole number and a unit, such as "15s""#,
            r#"flag --grpc: "8081" is not an IP address with a port, such as "127.0.0.1:8080""#,
            r#"flag --set runtime.threads: "many" is not a whole number"#,
        ]);
}

#[test]
fn a_mistake_in_an_overruled_layer_is_told_too() {
    file("node = \"a b\"").flag("node", "fine").mistakes(&[
        r#"evergate.toml:1:8: node: "a b" is not a name: 1 to 64 letters, digits, '.', '_' or '-'"#,
    ]);
}

#[test]
fn unknown_keys_are_refused_and_near_ones_suggested() {
    file("nodes = \"a\"\nzzz = 1\n[http]\nadress = \"127.0.0.1:1\"\n[htpp]\naddress = 1\n[streams.quote]\nretention_evens = 1\nage = 1\n[streams.\"a b\"]\n[nowhere]\nx = 1\n")
        .mistakes(&[
            r#"evergate.toml:1:1: nodes: unknown setting; did you mean "node"?"#,
            "evergate.toml:2:1: zzz: unknown setting",
            r#"evergate.toml:4:1: http.adress: unknown setting; did you mean "http.address"?"#,
            r#"evergate.toml:5:2: htpp: unknown table; did you mean "http"?"#,
            r#"evergate.toml:8:1: streams."quote".retention_evens: unknown setting of a stream; did you mean "retention_events"?"#,
            r#"evergate.toml:9:1: streams."quote".age: unknown setting of a stream"#,
            r#"evergate.toml:10:10: streams."a b": stream name holds ' ' at byte 1; a letter, a digit or _ comes first, then those and . : - are allowed"#,
            "evergate.toml:11:2: nowhere: unknown table",
        ]);
}

#[test]
fn unknown_flags_and_variables_are_refused() {
    nothing()
        .variable("EVERGATE_ZZZ", "1")
        .variable("EVERGATE_CONFIG", "x.toml")
        .variable("EVERGATES", "not ours")
        .variable("PATH", "/bin")
        .set("http.adress=1")
        .set("no-equals-sign")
        .set("streams.quote.size=1")
        .set("streams..retention_age=1d")
        .mistakes(&[
            "environment EVERGATE_ZZZ: no setting has this variable",
            r#"flag --set: "no-equals-sign" is not of the form key=value"#,
            "flag --set http.adress: unknown setting; did you mean \"http.address\"?",
            "flag --set streams..retention_age: stream name is empty",
            "flag --set streams.quote.size: unknown setting of a stream",
        ]);
}

#[test]
fn service_links_of_kubernetes_are_nobodys_mistake() {
    nothing()
        .variable("EVERGATE_SERVICE_HOST", "10.0.0.1")
        .variable("EVERGATE_SERVICE_PORT", "8080")
        .variable("EVERGATE_SERVICE_PORT_HTTP", "8080")
        .variable("EVERGATE_PORT", "tcp://10.0.0.1:8080")
        .variable("EVERGATE_PORT_8080_TCP", "tcp://10.0.0.1:8080")
        .variable("EVERGATE_PORT_8080_TCP_ADDR", "10.0.0.1")
        .variable("EVERGATE_EDGE_PORT_8080_TCP_PROTO", "tcp")
        .proven();
}

#[test]
fn wrong_types_are_told_by_what_was_expected_and_found() {
    file("node = 1\nlog = [\"memory\"]\nhttp = 8080\n[sse]\nheartbeat = 15\nretry_min = 1.5\nkeys_max = \"64\"\n[streams]\ncreate = \"yes\"\n[fanout]\nring_bytes = true\n[log_output.format]\n[publish]\nstream_window = -1\nbatch_events_max = 99999999999999999999\n[grpc]\naddress = 2026-01-01\n")
        .mistakes(&[
            "evergate.toml:1:8: node: expected text in quotes, found a whole number",
            "evergate.toml:2:7: log: expected text in quotes, found a list",
            "evergate.toml:3:8: http: expected a table, found a whole number",
            r#"evergate.toml:5:13: sse.heartbeat: "15" has no unit; write "15s", "15ms", "15m", "15h" or "15d""#,
            r#"evergate.toml:6:13: sse.retry_min: expected a duration in quotes, such as "15s", found a fraction"#,
            "evergate.toml:7:12: sse.keys_max: expected a whole number, found text",
            "evergate.toml:9:10: streams.create: expected true or false, found text",
            r#"evergate.toml:11:14: fanout.ring_bytes: expected a number of bytes or a size in quotes, such as "256KiB", found true or false"#,
            "evergate.toml:12:1: log_output.format: expected text in quotes, found a table",
            "evergate.toml:14:17: publish.stream_window: -1 is out of range: 1 to 1024",
            "evergate.toml:15:20: publish.batch_events_max: 99999999999999999999 is out of range: 1 to 1000",
            "evergate.toml:17:11: grpc.address: expected text in quotes, found a date or time",
        ]);
}

#[test]
fn values_outside_of_their_range_are_told_the_range() {
    nothing()
        .set("http.head_bytes_max=4KiB")
        .set("publish.payload_bytes_max=2MiB")
        .set("http.idle_timeout=0s")
        .set("http.connections_max=0")
        .set("log_output.format=xml")
        .set("log_output.level=evergate=loud")
        .set("streams.create=yes")
        .set("region=")
        .mistakes(&[
            "flag --set http.connections_max: 0 is out of range: 1 to 10000000",
            "flag --set http.head_bytes_max: 4KiB is out of range: 8KiB to 1MiB",
            "flag --set http.idle_timeout: 0s is out of range: 1s to 1h",
            r#"flag --set log_output.format: "xml" is none of text, json"#,
            r#"flag --set log_output.level: "evergate=loud" is not a log level or filter: error parsing level filter: expected one of "off", "error", "warn", "info", "debug", "trace", or a number 0-5"#,
            "flag --set publish.payload_bytes_max: 2MiB is out of range: 1 to 1MiB",
            r#"flag --set region: "" is not a name: 1 to 64 letters, digits, '.', '_' or '-'"#,
            r#"flag --set streams.create: "yes" is neither "true" nor "false""#,
        ]);
}

#[test]
fn logs_of_this_build_are_taken_and_others_refused_without_their_secrets() {
    assert_eq!(nothing().flag("log", "memory").proven().log, LogChoice::Memory);
    assert_eq!(nothing().flag("log", "disk:/var/lib/x").proven().log, LogChoice::Disk("/var/lib/x".into()));
    let redis = nothing().flag("log", "redis://user:secret@host:7000/2").proven().log;
    assert_eq!(redis.to_string(), "redis://host:7000/2", "without the password");
    for (log, expected) in [
        (
            "redis://user:secret@host:none",
            "flag --log: the Redis URL has no port from 1 to 65535 after the host",
        ),
        (
            "redis-sentinel://user:secret@host",
            "flag --log: the Redis URL names no primary; write redis-sentinel://HOST:PORT,HOST:PORT/NAME, with the name that Sentinel monitors",
        ),
        (
            "reddis://user:secret@host",
            "flag --log: reddis:// is no kind of log; use memory, disk:DIR or redis://HOST:PORT",
        ),
        ("disk:", "flag --log: \"disk:\" names no directory; write disk:DIR"),
        ("ram", "flag --log: \"ram\" is no kind of log; use memory, disk:DIR or redis://HOST:PORT"),
    ] {
        nothing().flag("log", log).mistakes(&[expected]);
    }
}

#[test]
fn origins_are_exact_and_each_has_its_place() {
    file("[http]\ncors_origins = [\n  \"https://a.example\",\n  \"https://A.example/\",\n  \"*\",\n  \"null\",\n  7,\n]")
        .mistakes(&[
            r#"evergate.toml:4:3: http.cors_origins: "https://A.example/" is not an exact origin; a browser sends "https://a.example""#,
            r#"evergate.toml:5:3: http.cors_origins: "*" allows every origin already; write it alone"#,
            r#"evergate.toml:6:3: http.cors_origins: "null" is not an origin such as "https://example.com""#,
            "evergate.toml:7:3: http.cors_origins: expected an origin in quotes, found a whole number",
        ]);
    let said = nothing().variable("EVERGATE_HTTP_CORS_ORIGINS", "https://a.example, https://b.example:8443");
    assert_eq!(
        said.proven().http.cors_origins,
        CorsOrigins::Listed(vec!["https://a.example".to_owned(), "https://b.example:8443".to_owned()])
    );
}

#[test]
fn rules_between_settings_name_both_and_their_places() {
    file("[sse]\nretry_min = \"5s\"\nbusy_retry_min = \"9s\"\nbusy_retry_max = \"8s\"\n[publish]\nbatch_bytes_max = 10\n")
        .variable("EVERGATE_SHUTDOWN_DEADLINE", "4s")
        .flag("http", "127.0.0.1:8082")
        .mistakes(&[
            "evergate.toml:2:13: sse.retry_min: 5s is more than sse.retry_max (3s, the default)",
            "evergate.toml:3:18: sse.busy_retry_min: 9s is more than sse.busy_retry_max (8s, evergate.toml:4:18)",
            "evergate.toml:6:19: publish.batch_bytes_max: 10 is less than publish.payload_bytes_max (256KiB, the default)",
            "environment EVERGATE_SHUTDOWN_DEADLINE: 4s is less than shutdown.drain (5s, the default)",
            "flag --http: the same address as admin.address (127.0.0.1:8082, the default)",
        ]);
    // Port 0 three times is three ports.
    nothing().flag("http", "127.0.0.1:0").flag("grpc", "127.0.0.1:0").flag("admin", "127.0.0.1:0").proven();
}

#[test]
fn a_value_nobody_could_read_breaks_no_rule() {
    file("sse.retry_min = \"long\"\nsse.retry_max = \"200ms\"").mistakes(&[
        r#"evergate.toml:1:17: sse.retry_min: "long" is not a duration; write a whole number and a unit, such as "15s""#,
    ]);
}

#[test]
fn without_creation_some_stream_must_be_listed() {
    file("streams.create = false").mistakes(&[
        "evergate.toml:1:18: streams.create: false, but no [streams.\"name\"] table lists a stream, so none could exist",
    ]);
    file("[streams]\ncreate = false\n[streams.quote]").proven();
}

#[test]
fn a_stream_may_be_called_like_the_setting_beside_it() {
    let config =
        file("[streams.create]\nretention_events = 7").variable("EVERGATE_STREAMS_CREATE", "false").proven();
    assert!(!config.streams.create);
    assert_eq!(config.streams.listed[&"create".parse().unwrap()].events, Some(7));
}

#[test]
fn a_stream_can_be_configured_by_flag() {
    let config =
        nothing().set("streams.\"a.b\".retention_age=1h").set("streams.a.b.retention_events=3").proven();
    let retention = config.streams.listed[&"a.b".parse().unwrap()];
    assert_eq!(retention.age, Some(Duration::from_secs(3600)));
    assert_eq!(retention.events, Some(3));
}

#[test]
fn a_table_may_be_meant_for_many_streams_and_the_narrowest_counts() {
    let config = file(
        r#"
        log = "redis://h:1"
        retention.events = 1
        [streams."order*"]
        level = "REPLICATED"
        retention_events = 2
        slow_reader = "gap"
        [streams."order.test.*"]
        level = "HOME"
        [streams."order.test.one"]
        retention_bytes = 4
        [streams."order"]
        "#,
    )
    .set("streams.\"order.test.*\".retention_events=3")
    .proven();
    let policies = crate::wiring::policies(&config);
    let slow = &config.fanout.slow_readers;
    let of = |stream: &str| {
        let stream = StreamName::new(stream).unwrap();
        let kept = policies.retention(&stream);
        (config.redis.levels.of(&stream), kept.events.unwrap(), kept.bytes.unwrap(), slow.of(&stream))
    };
    const GIB: u64 = 1 << 30;
    assert_eq!(of("quote"), (Level::Home, 1, GIB, SlowReader::CatchUp));
    assert_eq!(of("order"), (Level::Replicated, 2, GIB, SlowReader::Gap));
    assert_eq!(of("orders"), (Level::Replicated, 2, GIB, SlowReader::Gap));
    assert_eq!(of("order.test.two"), (Level::Home, 3, GIB, SlowReader::Gap));
    assert_eq!(of("order.test.one"), (Level::Home, 3, 4, SlowReader::Gap));
}

#[test]
fn a_closed_set_of_streams_may_be_named_by_their_beginnings() {
    let config = file("[streams]\ncreate = false\n[streams.\"order.*\"]\n[streams.quote]").proven();
    let policies = crate::wiring::policies(&config);
    let exists = |stream| policies.exists(&StreamName::new(stream).unwrap());
    assert!(exists("order.1") && exists("quote"));
    assert!(!exists("order") && !exists("quotes"));
}

#[test]
fn a_pattern_has_one_star_at_its_end() {
    file("[streams.\"*\"]\n[streams.\"a*b\"]").mistakes(&[
        r#"evergate.toml:1:10: streams."*": stream name is empty"#,
        r#"evergate.toml:2:10: streams."a*b": stream name holds '*' at byte 1; a letter, a digit or _ comes first, then those and . : - are allowed"#,
    ]);
}

#[test]
fn a_level_above_home_needs_a_log_that_has_replicas() {
    file("log = \"memory\"\n[streams.a]\nlevel = \"HOME\"\n[streams.\"b*\"]\nlevel = \"REPLICATED\"").mistakes(&[
        r#"evergate.toml:5:9: streams."b*".level: REPLICATED needs a log in Redis, but log is memory, evergate.toml:1:7"#,
    ]);
}

#[test]
fn one_setting_by_two_flags_is_a_mistake() {
    nothing()
        .flag("node", "a")
        .set("node=b")
        .mistakes(&["flag --set node: node is given twice, also by flag --node"]);
}

#[test]
fn broken_toml_is_told_with_what_can_be_read_around_it() {
    file("node = \"a\nregion = \"ü\" x\n[http]\naddress = \"nowhere\"\n[http]\n").mistakes(&[
        "evergate.toml:1:10: invalid basic string, expected `\"`",
        "evergate.toml:2:14: unexpected key or value, expected newline, `#`",
        r#"evergate.toml:4:11: http.address: "nowhere" is not an IP address with a port, such as "127.0.0.1:8080""#,
        "evergate.toml:5:2: duplicate key",
    ]);
}

#[test]
fn a_file_that_is_not_text_is_told_where() {
    let mut said = file("");
    said.0.file = Some(FileSource {
        name: "evergate.toml".to_owned(),
        contents: b"node = \"a\"\nregion = \"\xff\"".to_vec(),
    });
    said.mistakes(&["evergate.toml:2:11: the file is not UTF-8 text"]);
}

#[test]
fn a_pace_makes_the_window_of_a_drain_longer_but_not_than_the_deadline_allows() {
    let seconds = Duration::from_secs;
    let limits = |pace| super::Shutdown {
        grace: Duration::ZERO,
        drain: seconds(5),
        lead: seconds(1),
        pace: NonZeroUsize::new(pace),
        deadline: seconds(100),
    };
    let window = |pace, streams| limits(pace).window(streams, Duration::ZERO);
    assert_eq!(window(0, 1_000_000), seconds(5));
    assert_eq!(window(1000, 100), seconds(5));
    assert_eq!(window(1000, 20_000), seconds(21), "told over twenty of them");
    assert_eq!(window(1000, 1_000_000), seconds(60));
    assert_eq!(limits(0).window(20_000, seconds(20)), seconds(21), "as the cluster wishes");
    assert_eq!(limits(1000).window(20_000, seconds(10)), seconds(21), "the slower of the two");
    assert_eq!(limits(0).window(1, seconds(1_000)), seconds(60));
}

/// What a setting might be given.
fn anything() -> impl Strategy<Value = String> {
    prop_oneof![
        "\"[ -~]{0,24}\"",
        "-?[0-9]{1,20}",
        "(true|false|nan|inf|1e400)",
        "\"[0-9]{1,6}(ms|s|m|h|d|KiB|MiB|GiB)\"",
        "\\[(\"[a-z0-9:/.=*@-]{0,24}\",?){0,3}\\]",
        "\\{[a-z]{1,3} = [0-9]\\}",
        ".{0,24}",
    ]
}

proptest! {
    /// Whatever stands in a file, in the environment or behind a flag is a configuration, or its mistakes are told: all
    /// of them, each in a line, with nothing in it that a terminal would obey.
    #[test]
    fn whatever_is_said_is_taken_or_told_to_be_wrong(
        lines in proptest::collection::vec((0..SETTINGS.len(), anything()), 0..6),
        noise in prop_oneof![Just(String::new()), ".{0,80}"],
        said in "[a-z_.]{0,16}=.{0,24}",
        variable in ".{0,24}",
    ) {
        let lines = lines.iter().map(|(at, value)| format!("{} = {value}\n", SETTINGS[*at].key));
        let text = lines.collect::<String>() + &noise;
        let by_name = SETTINGS[variable.len() % SETTINGS.len()].variable();
        for said in [file(&text), nothing().set(&said), nothing().variable(&by_name, &variable)] {
            if let Err(mistakes) = Config::prove(&said.0) {
                let told = mistakes.to_string();
                prop_assert!(!told.is_empty() && told.lines().all(|line| !line.is_empty()), "{told:?}");
                prop_assert!(!told.chars().any(|c| c.is_control() && c != '\n'), "{told:?}");
            }
        }
    }
}
