//! The rules: that each alert fires for what it is about, and is silent when all is well, by promtool.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::path::Path;
use std::process::Command;

use evergate_tests::clients::{checkout, system};

/// A series over time in promtool's notation: `10+5x20` is 10, 15, 20 … a minute apart.
type Series = (&'static str, &'static str);

/// An alert of a severity, what makes it fire at some minute, and what is close to it and does not.
struct Case {
    alert: &'static str,
    severity: &'static str,
    minute: u32,
    fires: &'static [Series],
    silent: &'static [Series],
}

const fn case(
    alert: &'static str,
    severity: &'static str,
    minute: u32,
    fires: &'static [Series],
    silent: &'static [Series],
) -> Case {
    Case { alert, severity, minute, fires, silent }
}

const CASES: &[Case] = &[
    case(
        "EvergateAbsent",
        "page",
        10,
        // Control nodes are still there.
        &[(r#"evergate_build_info{node="c"}"#, "1x20"), (r#"evergate_raft_has_leader{node="c"}"#, "1x20")],
        &[(r#"evergate_ready{node="a"}"#, "0x20")],
    ),
    case(
        "EvergateTargetDown",
        "ticket",
        20,
        &[
            (r#"up{job="e",instance="a"}"#, "1x9 0x30"),
            (r#"evergate_build_info{job="e",instance="a",node="a"}"#, "1x9 _x30"),
        ],
        // Another job's, and one that is taken out of the list of targets.
        &[
            (r#"up{job="other",instance="a"}"#, "0x40"),
            (r#"up{job="e",instance="a"}"#, "1x9 0x2 _x30"),
            (r#"evergate_build_info{job="e",instance="a",node="a"}"#, "1x9 _x30"),
        ],
    ),
    case(
        "EvergateNotReady",
        "page",
        10,
        &[
            (r#"evergate_ready{instance="a",node="a"}"#, "0x20"),
            (r#"evergate_draining{instance="a",node="a"}"#, "0x20"),
        ],
        &[
            (r#"evergate_ready{instance="a",node="a"}"#, "0x20"),
            (r#"evergate_draining{instance="a",node="a"}"#, "1x20"),
        ],
    ),
    case(
        "EvergateDrainOverruns",
        "ticket",
        15,
        &[(r#"evergate_draining{node="a"}"#, "1x20")],
        &[(r#"evergate_draining{node="a"}"#, "0x9 1x9 0x10")],
    ),
    case(
        "EvergateTroubled",
        "ticket",
        10,
        &[(r#"evergate_troubles{node="a"}"#, "1x20")],
        &[(r#"evergate_troubles{node="a"}"#, "1x3 0x20")],
    ),
    case(
        "EvergatePublishersWait",
        "page",
        10,
        &[(r#"evergate_publish_events_total{node="a",result="log-full"}"#, "0+5x20")],
        &[(r#"evergate_publish_events_total{node="a",result="bad-request"}"#, "0+5x20")],
    ),
    case(
        "EvergateLogFull",
        "page",
        2,
        &[(r#"evergate_log_full{node="a"}"#, "1x5")],
        &[(r#"evergate_log_full{node="a"}"#, "0x5")],
    ),
    case(
        "EvergateLogReadOnly",
        "page",
        2,
        &[(r#"evergate_log_read_only{node="a"}"#, "1x5")],
        &[(r#"evergate_log_read_only{node="a"}"#, "0x5")],
    ),
    case(
        "EvergateFsyncSlow",
        "ticket",
        30,
        &[
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="0.25"}"#, "0+10x40"),
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="0.5"}"#, "0+100x40"),
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="+Inf"}"#, "0+100x40"),
        ],
        &[
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="0.25"}"#, "0+100x40"),
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="0.5"}"#, "0+100x40"),
            (r#"evergate_log_fsync_seconds_bucket{node="a",le="+Inf"}"#, "0+100x40"),
        ],
    ),
    case(
        "EvergateRedisAway",
        "page",
        5,
        &[(r#"evergate_redis_connected{node="a",shard="s",link="write"}"#, "0x10")],
        &[(r#"evergate_redis_connected{node="a",shard="s",link="write"}"#, "1x4 0x0 1x10")],
    ),
    case(
        "EvergateRedisFlaps",
        "ticket",
        16,
        &[(r#"evergate_redis_connects_total{node="a",shard="s",link="write"}"#, "0+2x20")],
        &[(r#"evergate_redis_connects_total{node="a",shard="s",link="write"}"#, "0x10 5x10")],
    ),
    case(
        "EvergateRedisDropsOutput",
        "ticket",
        30,
        &[(r#"evergate_redis_live_holes_total{node="a"}"#, "0+10x40")],
        &[(r#"evergate_redis_live_holes_total{node="a"}"#, "0x10 20x30")],
    ),
    case(
        "EvergateTailLost",
        "page",
        8,
        &[(r#"evergate_gaps_total{region="eu",reason="lost-tail"}"#, "0x5 3x10")],
        &[(r#"evergate_gaps_total{region="eu",reason="trimmed"}"#, "0x5 3x10")],
    ),
    case(
        "EvergateRetentionTooShort",
        "ticket",
        70,
        &[
            (r#"evergate_gaps_total{region="eu",reason="trimmed"}"#, "0+5x80"),
            (r#"evergate_streams_total{region="eu",resume="gap"}"#, "0+100x80"),
        ],
        &[
            (r#"evergate_gaps_total{region="eu",reason="trimmed"}"#, "0+1x80"),
            (r#"evergate_streams_total{region="eu",resume="gap"}"#, "0+100x80"),
        ],
    ),
    case(
        "EvergateConnectionsSaturated",
        "ticket",
        10,
        &[
            (r#"evergate_connections_open{node="a"}"#, "90x20"),
            (r#"evergate_connections_max{node="a"}"#, "100x20"),
        ],
        &[
            (r#"evergate_connections_open{node="a"}"#, "80x20"),
            (r#"evergate_connections_max{node="a"}"#, "100x20"),
        ],
    ),
    case(
        "EvergateDescriptorsSaturated",
        "ticket",
        10,
        &[(r#"process_open_fds{instance="a"}"#, "90x20"), (r#"process_max_fds{instance="a"}"#, "100x20")],
        &[(r#"process_open_fds{instance="a"}"#, "80x20"), (r#"process_max_fds{instance="a"}"#, "100x20")],
    ),
    case(
        "EvergateMemoryShort",
        "page",
        10,
        &[(r#"evergate_memory_short{node="a"}"#, "0x2 1x12")],
        // A storm that passes.
        &[(r#"evergate_memory_short{node="a"}"#, "0x2 1x3 0x12")],
    ),
    case(
        "EvergateCertificateEnds",
        "ticket",
        90,
        &[(r#"evergate_tls_certificate_not_after_seconds{node="a",certificate="c"}"#, "1200000x100")],
        &[(r#"evergate_tls_certificate_not_after_seconds{node="a",certificate="c"}"#, "1300000x100")],
    ),
    case(
        "EvergateCertificateEnds",
        "page",
        10,
        &[(r#"evergate_tls_certificate_not_after_seconds{node="a",certificate="c"}"#, "170000x20")],
        &[(r#"evergate_tls_certificate_not_after_seconds{node="a",certificate="c"}"#, "180000x20")],
    ),
    case(
        "EvergateConnectionsSkewed",
        "ticket",
        30,
        &[
            (r#"evergate_streams_open{region="eu",node="a"}"#, "9000x40"),
            (r#"evergate_streams_open{region="eu",node="b"}"#, "1000x40"),
            (r#"evergate_streams_open{region="eu",node="c"}"#, "1000x40"),
        ],
        // As skewed, and with so few that it means nothing.
        &[
            (r#"evergate_streams_open{region="eu",node="a"}"#, "90x40"),
            (r#"evergate_streams_open{region="eu",node="b"}"#, "10x40"),
            (r#"evergate_streams_open{region="eu",node="c"}"#, "10x40"),
        ],
    ),
    case(
        "EvergateReconnectStorm",
        "ticket",
        9,
        &[
            (r#"evergate_streams_total{region="eu",resume="exact"}"#, "0x5 0+2000x10"),
            (r#"evergate_streams_open{region="eu"}"#, "4000x20"),
        ],
        &[
            (r#"evergate_streams_total{region="eu",resume="exact"}"#, "0+500x20"),
            (r#"evergate_streams_open{region="eu"}"#, "4000x20"),
        ],
    ),
    case(
        "EvergateClientsStall",
        "ticket",
        20,
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+12x30"),
            (r#"evergate_streams_open{region="eu"}"#, "5000x30"),
        ],
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+8x30"),
            (r#"evergate_streams_open{region="eu"}"#, "5000x30"),
        ],
    ),
    case(
        "EvergateClientsStall",
        "ticket",
        20,
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+3x30"),
            (r#"evergate_streams_open{region="eu"}"#, "100x30"),
        ],
        // So few that it means nothing.
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+1x30"),
            (r#"evergate_streams_open{region="eu"}"#, "100x30"),
        ],
    ),
    case(
        "EvergatePlacesUnwritten",
        "ticket",
        20,
        &[(r#"evergate_cursor_writes_failed_total{node="a"}"#, "0+100x30")],
        &[(r#"evergate_cursor_writes_failed_total{node="a"}"#, "0x5 100x30")],
    ),
    case(
        "EvergateVersionsMixed",
        "ticket",
        150,
        &[
            (r#"evergate_build_info{region="eu",node="a",version="1"}"#, "1x200"),
            (r#"evergate_build_info{region="eu",node="b",version="2"}"#, "1x200"),
        ],
        &[
            (r#"evergate_build_info{region="eu",node="a",version="1"}"#, "1x50 _x150"),
            (r#"evergate_build_info{region="eu",node="b",version="2"}"#, "1x200"),
        ],
    ),
    case(
        "EvergateControlLeaderless",
        "page",
        5,
        &[(r#"evergate_raft_has_leader{region="eu",node="c"}"#, "0x10")],
        &[(r#"evergate_raft_has_leader{region="eu",node="c"}"#, "1x4 0x0 1x10")],
    ),
    case(
        "EvergateControlNodeMissing",
        "ticket",
        20,
        &[
            (r#"evergate_raft_has_leader{node="a"}"#, "1x30"),
            (r#"evergate_raft_has_leader{node="b"}"#, "1x30"),
            (r#"evergate_raft_members{node="a"}"#, "3x30"),
        ],
        // A restart.
        &[
            (r#"evergate_raft_has_leader{node="a"}"#, "1x30"),
            (r#"evergate_raft_has_leader{node="b"}"#, "1x10 0x3 1x20"),
            (r#"evergate_raft_members{node="a"}"#, "2x30"),
        ],
    ),
    case(
        "EvergateControlElections",
        "ticket",
        40,
        &[(r#"evergate_raft_term{node="a"}"#, "3x10 4+1x30")],
        &[(r#"evergate_raft_term{node="a"}"#, "3x20 5x30")],
    ),
    case(
        "EvergateControlLags",
        "ticket",
        20,
        &[(r#"evergate_raft_lag_entries{region="eu",node="a"}"#, "101x30")],
        // It catches up.
        &[(r#"evergate_raft_lag_entries{region="eu",node="a"}"#, "5000-500x10 0x20")],
    ),
    case(
        "EvergateControlFsyncSlow",
        "ticket",
        30,
        &[
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="0.1"}"#, "0+10x40"),
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="0.25"}"#, "0+100x40"),
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="+Inf"}"#, "0+100x40"),
        ],
        &[
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="0.1"}"#, "0+100x40"),
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="0.25"}"#, "0+100x40"),
            (r#"evergate_raft_fsync_seconds_bucket{region="eu",node="a",le="+Inf"}"#, "0+100x40"),
        ],
    ),
    case(
        "EvergateViewStale",
        "ticket",
        10,
        &[(r#"evergate_view_age_seconds{region="eu",node="a"}"#, "0x3 60+60x20")],
        &[(r#"evergate_view_age_seconds{region="eu",node="a"}"#, "0x6 60x0 0x20")],
    ),
    case(
        "EvergateLeaseNotHeld",
        "page",
        10,
        &[
            (r#"evergate_lease_held{region="eu",node="a"}"#, "0x20"),
            (r#"evergate_ready{region="eu",node="a"}"#, "1x20"),
            (r#"evergate_raft_has_leader{region="eu",node="c"}"#, "1x20"),
        ],
        // Nobody could hold it: another alert tells.
        &[
            (r#"evergate_lease_held{region="eu",node="a"}"#, "0x20"),
            (r#"evergate_ready{region="eu",node="a"}"#, "1x20"),
            (r#"evergate_raft_has_leader{region="eu",node="c"}"#, "0x20"),
        ],
    ),
    case(
        "EvergateRingsDisagree",
        "page",
        10,
        &[
            (r#"evergate_ring_digest{node="a"}"#, "7x20"),
            (r#"evergate_ring_digest{node="b"}"#, "8x20"),
            (r#"evergate_ring_version{node="a"}"#, "3x20"),
            (r#"evergate_ring_version{node="b"}"#, "3x20"),
        ],
        // One is behind.
        &[
            (r#"evergate_ring_digest{node="a"}"#, "7x20"),
            (r#"evergate_ring_digest{node="b"}"#, "8x20"),
            (r#"evergate_ring_version{node="a"}"#, "3x20"),
            (r#"evergate_ring_version{node="b"}"#, "4x20"),
        ],
    ),
    case(
        "EvergateNodesLost",
        "ticket",
        20,
        &[(r#"evergate_cluster_nodes{node="c",state="lost"}"#, "1x30")],
        &[
            (r#"evergate_cluster_nodes{node="c",state="lost"}"#, "0x5 1x5 0x20"),
            (r#"evergate_cluster_nodes{node="c",state="draining"}"#, "1x30"),
        ],
    ),
    case(
        "EvergateDrainsWait",
        "ticket",
        90,
        &[(r#"evergate_cluster_drains_waiting{node="c"}"#, "1x100")],
        &[(r#"evergate_cluster_drains_waiting{node="c"}"#, "0x30 1x50 0x20")],
    ),
    case(
        "EvergateClientsMisplaced",
        "ticket",
        70,
        &[
            (r#"evergate_clients_placed_total{region="eu",place="misplaced"}"#, "0+100x100"),
            (r#"evergate_clients_placed_total{region="eu",place="own"}"#, "0+60x100"),
        ],
        &[
            (r#"evergate_clients_placed_total{region="eu",place="misplaced"}"#, "0+60x100"),
            (r#"evergate_clients_placed_total{region="eu",place="own"}"#, "0+100x100"),
        ],
    ),
];

fn rules() -> String {
    fs::read_to_string(checkout().join("helm/evergate/rules/evergate.yaml")).expect("readable")
}

/// The alerts of the file.
fn alerts() -> BTreeSet<String> {
    rules().lines().filter_map(|line| line.trim().strip_prefix("- alert: ")).map(str::to_owned).collect()
}

/// The same, each with its severity: an alert that first asks and then calls has two rules.
fn alerts_by_severity() -> BTreeSet<(String, String)> {
    let rules = rules();
    let of_alerts = rules.split("- alert: ").skip(1).map(|rule| {
        let name = rule.lines().next().unwrap_or_default().to_owned();
        let severity = rule.split_once("severity: ").expect("each has one").1;
        (name, severity.chars().take_while(char::is_ascii_lowercase).collect())
    });
    of_alerts.collect()
}

/// How fast an error budget is used, over several stretches of time.
struct Burn {
    severity: &'static str,
    /// Minutes, how many times the ordinary traffic comes, and how many times what the budget allows goes wrong.
    fires: &'static [(u32, f64, f64)],
    /// What is close to it.
    silent: &'static [(u32, f64, f64)],
}

/// Of each rule its two windows apart: what fires one of them lets the other rest.
const BURNS: &[Burn] = &[
    // An hour and five minutes; over six hours it is little.
    Burn {
        severity: "page",
        fires: &[(415, 1.0, 0.0), (66, 1.0, 20.0)],
        silent: &[(415, 1.0, 0.0), (66, 1.0, 10.0)],
    },
    // Six hours and half an hour; never fast enough for the other.
    Burn { severity: "page", fires: &[(430, 1.0, 8.0)], silent: &[(430, 1.0, 5.0)] },
    // A day and two hours; over three days there was far more traffic, and all was well.
    Burn {
        severity: "ticket",
        fires: &[(360, 100.0, 0.0), (1450, 1.0, 4.0)],
        silent: &[(360, 100.0, 0.0), (1450, 1.0, 2.5)],
    },
    // Three days and six hours; never fast enough for the other.
    Burn { severity: "ticket", fires: &[(430, 1.0, 2.0)], silent: &[(430, 1.0, 0.8)] },
    // In so little traffic it means nothing.
    Burn { severity: "page", fires: &[(430, 1.0, 20.0)], silent: &[(430, 0.00001, 20.0)] },
    Burn { severity: "ticket", fires: &[(430, 1.0, 20.0)], silent: &[(430, 0.00001, 20.0)] },
];

/// A service level, and the counters that tell of it.
struct Level {
    alert: &'static str,
    /// Which part may go wrong.
    budget: f64,
    /// In a minute.
    traffic: f64,
    /// What goes wrong, if that is counted.
    wrong: Option<&'static str>,
    /// What goes well.
    well: &'static str,
    /// All of it, if that is counted.
    all: Option<&'static str>,
}

const LEVELS: &[Level] = &[
    Level {
        alert: "EvergateConnectBudgetBurns",
        budget: 0.00005,
        traffic: 100_000.0,
        wrong: Some(r#"evergate_busy_total{region="eu",reason="full"}"#),
        well: r#"evergate_streams_total{region="eu",resume="live"}"#,
        all: None,
    },
    Level {
        alert: "EvergateDeliveryBudgetBurns",
        budget: 0.05,
        traffic: 1000.0,
        wrong: None,
        well: r#"evergate_delivery_seconds_bucket{region="eu",le="0.21"}"#,
        all: Some(r#"evergate_delivery_seconds_count{region="eu"}"#),
    },
    Level {
        alert: "EvergateCompletenessBudgetBurns",
        budget: 0.00002,
        traffic: 100_000.0,
        wrong: Some(r#"evergate_lost_events_total{region="eu",reason="trimmed"}"#),
        well: r#"evergate_delivered_events_total{region="eu"}"#,
        all: None,
    },
];

/// A counter that rises by so much in each of so many minutes, as promtool reads it.
fn counter(rises: impl Iterator<Item = (u32, f64)>) -> String {
    let (mut value, mut notation) = (0.0, String::new());
    for (minutes, rise) in rises {
        write!(notation, "{value}+{rise}x{} ", minutes - 1).expect("a string");
        value += rise * f64::from(minutes);
    }
    notation.trim_end().to_owned()
}

impl Level {
    /// What its counters tell while the budget burns so.
    fn series(&self, burn: &[(u32, f64, f64)]) -> Vec<(String, String)> {
        let rises = |part: &dyn Fn(f64) -> f64| {
            counter(burn.iter().map(|&(minutes, traffic, times)| {
                (minutes, self.traffic * traffic * part(times * self.budget))
            }))
        };
        let mut series = vec![(self.well.to_owned(), rises(&|wrong| 1.0 - wrong))];
        series.extend(self.wrong.map(|name| (name.to_owned(), rises(&|wrong| wrong))));
        series.extend(self.all.map(|name| (name.to_owned(), rises(&|_| 1.0))));
        series
    }
}

/// Why clients are told to come back later, where they are the cause themselves: nobody's budget is used up by it.
const OWN_FAULTS: &[&str] = &[
    "connecting too fast",
    "connecting too fast with this token",
    "too many streams from this address",
    "too many streams of this client",
    "too many streams with this token",
    "too many new clients from this address",
];
/// Where this side has not room enough.
const OUR_FAULTS: &[&str] = &["too many connect to this stream", "too many subscribers of this stream"];

/// The time series of one scene, at whose end the alert must or must not fire.
///
/// promtool compares alerts whole, labels and all, so it is asked for their number instead.
fn scene<S: AsRef<str>>(
    file: &mut String,
    (alert, severity): (&str, &str),
    minute: u32,
    series: &[(S, S)],
    fires: bool,
) {
    writeln!(file, "  - interval: 1m\n    input_series:").expect("a string");
    for (name, values) in series {
        let (name, values) = (name.as_ref(), values.as_ref());
        writeln!(file, "      - series: '{name}'\n        values: '{values}'").expect("a string");
    }
    let firing = format!("alertname=\"{alert}\",severity=\"{severity}\",alertstate=\"firing\"");
    let query = format!("count(ALERTS{{{firing}}}) > bool 0 or vector(0)");
    writeln!(
        file,
        "    promql_expr_test:\n      - expr: '{query}'\n        eval_time: {minute}m\n        exp_samples: \
         [{{labels: '{{}}', value: {}}}]",
        u8::from(fires),
    )
    .expect("a string");
}

/// What promtool says of these scenes, with the rules looked at every so many minutes; nothing if all is as it should be.
fn told(promtool: &Path, scenes: &str, every: u32) -> Option<String> {
    let folder = tempfile::tempdir().expect("a folder can be made");
    let rules = rules().replace("interval: 30s", &format!("interval: {every}m"));
    fs::write(folder.path().join("rules.yaml"), rules).expect("the folder is ours");
    let file = format!("rule_files: [rules.yaml]\nevaluation_interval: {every}m\ntests:\n{scenes}");
    fs::write(folder.path().join("tests.yaml"), file).expect("the folder is ours");
    let told = Command::new(promtool)
        .args(["test", "rules", "tests.yaml"])
        .current_dir(folder.path())
        .output()
        .expect("promtool starts");
    let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    (!told.status.success()).then_some(said)
}

#[test]
fn each_alert_fires_for_what_it_is_about_and_for_nothing_else() {
    let test = "each_alert_fires_for_what_it_is_about_and_for_nothing_else";
    let Some(promtool) = system(test, &["promtool"]) else { return };
    let of_cases = CASES.iter().map(|case| (case.alert, case.severity));
    let of_levels = LEVELS.iter().flat_map(|level| BURNS.iter().map(|burn| (level.alert, burn.severity)));
    let tested: BTreeSet<_> =
        of_cases.chain(of_levels).map(|(alert, severity)| (alert.to_owned(), severity.to_owned())).collect();
    assert_eq!(tested, alerts_by_severity(), "every rule has a scene, and every scene a rule");

    let mut scenes = String::new();
    for case in CASES {
        let of = (case.alert, case.severity);
        scene(&mut scenes, of, case.minute, case.fires, true);
        scene(&mut scenes, of, case.minute, case.silent, false);
    }
    assert_eq!(told(&promtool, &scenes, 1), None);
}

#[test]
fn budgets_burn_by_each_pair_of_windows() {
    let Some(promtool) = system("budgets_burn_by_each_pair_of_windows", &["promtool"]) else { return };
    let mut scenes = String::new();
    for level in LEVELS {
        for burn in BURNS {
            let of = (level.alert, burn.severity);
            for (course, fires) in [(burn.fires, true), (burn.silent, false)] {
                let minutes: u32 = course.iter().map(|(minutes, ..)| minutes).sum();
                scene(&mut scenes, of, minutes - 1, &level.series(course), fires);
            }
        }
    }
    // They last for hours, and nothing here depends on the minute.
    assert_eq!(told(&promtool, &scenes, 5), None);
}

#[test]
fn who_is_the_cause_uses_up_nobodys_budget() {
    let Some(promtool) = system("who_is_the_cause_uses_up_nobodys_budget", &["promtool"]) else { return };
    let mut scenes = String::new();
    let faults = OWN_FAULTS.iter().map(|reason| (reason, false));
    for (reason, fires) in faults.chain(OUR_FAULTS.iter().map(|reason| (reason, true))) {
        for severity in ["page", "ticket"] {
            let series = [
                (format!("evergate_busy_total{{region=\"eu\",reason=\"{reason}\"}}"), "0+10x120".to_owned()),
                (r#"evergate_streams_total{region="eu",resume="live"}"#.to_owned(), "0+1000x120".to_owned()),
            ];
            scene(&mut scenes, ("EvergateConnectBudgetBurns", severity), 70, &series, fires);
        }
    }
    assert_eq!(told(&promtool, &scenes, 1), None);

    // All of them, as the sources have them.
    let source = fs::read_to_string(checkout().join("crates/edge/src/http/limits.rs")).expect("readable");
    let words = source.split_once("fn reason(self)").expect("it is there").1;
    let words = words.split_once("\n    }").expect("it ends").0;
    let of_source: BTreeSet<_> = words.split('"').skip(1).step_by(2).collect();
    assert_eq!(of_source, OWN_FAULTS.iter().chain(OUR_FAULTS).copied().collect());
    // And wherever they are left out, it is by the same words.
    let boards =
        fs::read_to_string(checkout().join("helm/evergate/dashboards/overview.json")).expect("readable");
    let text = format!("{}{}", rules(), boards.replace("\\\"", "\""));
    let left_out = text.split("evergate_busy_total{").skip(1).filter_map(|rest| {
        let matchers = rest.split('}').next().unwrap_or_default();
        matchers.split_once("reason!~\"").map(|(_, words)| words.split('"').next().unwrap_or_default())
    });
    let left_out: Vec<_> = left_out.collect();
    // Twice in each of seven recording rules, once in each of two alerts, and in a panel.
    assert_eq!(left_out.len(), 17, "{left_out:?}");
    assert_eq!(left_out.iter().collect::<BTreeSet<_>>().len(), 1, "{left_out:?}");
}

#[test]
fn each_alert_has_a_page_and_each_page_an_alert() {
    let folder = checkout().join("docs/operating/alerts");
    let pages: BTreeSet<String> = fs::read_dir(&folder)
        .expect("there are pages")
        .map(|entry| entry.expect("readable").file_name().to_string_lossy().replace(".md", ""))
        .collect();
    assert_eq!(pages, alerts());
    let linked = rules();
    for alert in alerts() {
        assert!(linked.contains(&format!("runbook_url: docs/operating/alerts/{alert}.md")), "{alert}");
        let page = fs::read_to_string(folder.join(format!("{alert}.md"))).expect("readable");
        for heading in ["**What it means.**", "**Who notices.**", "**Look at**", "**Do**"] {
            assert!(page.contains(heading), "{alert} lacks {heading}");
        }
    }
}
