//! The rules: that each alert fires for what it is about, and is silent when all is well, by promtool.

use std::collections::BTreeSet;
use std::fmt::Write as _;
use std::fs;
use std::process::Command;

use evergate_tests::clients::{checkout, system};

/// A series over time in promtool's notation: `10+5x20` is 10, 15, 20 … a minute apart.
type Series = (&'static str, &'static str);

/// An alert, what makes it fire at some minute, and what is close to it and does not.
struct Case {
    alert: &'static str,
    minute: u32,
    fires: &'static [Series],
    silent: &'static [Series],
}

const fn case(alert: &'static str, minute: u32, fires: &'static [Series], silent: &'static [Series]) -> Case {
    Case { alert, minute, fires, silent }
}

const CASES: &[Case] = &[
    case(
        "EvergateConnectBudgetBurns",
        70,
        &[
            (r#"evergate_busy_total{region="eu",reason="full"}"#, "0+10x120"),
            (r#"evergate_streams_total{region="eu",resume="live"}"#, "0+1000x120"),
        ],
        // Those who are too fast themselves use up nobody's budget.
        &[
            (r#"evergate_busy_total{region="eu",reason="connecting too fast"}"#, "0+10x120"),
            (r#"evergate_streams_total{region="eu",resume="live"}"#, "0+1000x120"),
        ],
    ),
    case(
        "EvergateDeliveryBudgetBurns",
        70,
        &[
            (r#"evergate_delivery_seconds_bucket{region="eu",le="0.21"}"#, "0+10x120"),
            (r#"evergate_delivery_seconds_count{region="eu"}"#, "0+100x120"),
        ],
        &[
            (r#"evergate_delivery_seconds_bucket{region="eu",le="0.21"}"#, "0+96x120"),
            (r#"evergate_delivery_seconds_count{region="eu"}"#, "0+100x120"),
        ],
    ),
    case(
        "EvergateCompletenessBudgetBurns",
        70,
        &[
            (r#"evergate_lost_events_total{region="eu",reason="trimmed"}"#, "0+10x120"),
            (r#"evergate_delivered_events_total{region="eu"}"#, "0+1000x120"),
        ],
        // What a stream's owner chose is no loss of ours.
        &[
            (r#"evergate_lost_events_total{region="eu",reason="policy"}"#, "0+10x120"),
            (r#"evergate_delivered_events_total{region="eu"}"#, "0+1000x120"),
        ],
    ),
    case("EvergateAbsent", 10, &[("up", "1x20")], &[(r#"evergate_build_info{version="1"}"#, "1x20")]),
    case(
        "EvergateNotReady",
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
        15,
        &[(r#"evergate_draining{node="a"}"#, "1x20")],
        &[(r#"evergate_draining{node="a"}"#, "0x9 1x9 0x10")],
    ),
    case(
        "EvergateTroubled",
        10,
        &[(r#"evergate_troubles{node="a"}"#, "1x20")],
        &[(r#"evergate_troubles{node="a"}"#, "1x3 0x20")],
    ),
    case(
        "EvergatePublishersWait",
        10,
        &[(r#"evergate_publish_events_total{node="a",result="log-full"}"#, "0+5x20")],
        &[(r#"evergate_publish_events_total{node="a",result="bad-request"}"#, "0+5x20")],
    ),
    case(
        "EvergateLogFull",
        2,
        &[(r#"evergate_log_full{node="a"}"#, "1x5")],
        &[(r#"evergate_log_full{node="a"}"#, "0x5")],
    ),
    case(
        "EvergateLogReadOnly",
        2,
        &[(r#"evergate_log_read_only{node="a"}"#, "1x5")],
        &[(r#"evergate_log_read_only{node="a"}"#, "0x5")],
    ),
    case(
        "EvergateFsyncSlow",
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
        5,
        &[(r#"evergate_redis_connected{node="a",shard="s",link="write"}"#, "0x10")],
        &[(r#"evergate_redis_connected{node="a",shard="s",link="write"}"#, "1x4 0x0 1x10")],
    ),
    case(
        "EvergateRedisFlaps",
        16,
        &[(r#"evergate_redis_connects_total{node="a",shard="s",link="write"}"#, "0+2x20")],
        &[(r#"evergate_redis_connects_total{node="a",shard="s",link="write"}"#, "0x10 5x10")],
    ),
    case(
        "EvergateRedisDropsOutput",
        30,
        &[(r#"evergate_redis_live_holes_total{node="a"}"#, "0+10x40")],
        &[(r#"evergate_redis_live_holes_total{node="a"}"#, "0x10 20x30")],
    ),
    case(
        "EvergateTailLost",
        8,
        &[(r#"evergate_gaps_total{region="eu",reason="lost-tail"}"#, "0x5 3x10")],
        &[(r#"evergate_gaps_total{region="eu",reason="trimmed"}"#, "0x5 3x10")],
    ),
    case(
        "EvergateRetentionTooShort",
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
        10,
        &[(r#"process_open_fds{instance="a"}"#, "90x20"), (r#"process_max_fds{instance="a"}"#, "100x20")],
        &[(r#"process_open_fds{instance="a"}"#, "80x20"), (r#"process_max_fds{instance="a"}"#, "100x20")],
    ),
    case(
        "EvergateMemoryShort",
        10,
        &[(r#"evergate_memory_short{node="a"}"#, "0x2 1x12")],
        // A storm that passes.
        &[(r#"evergate_memory_short{node="a"}"#, "0x2 1x3 0x12")],
    ),
    case(
        "EvergateConnectionsSkewed",
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
        20,
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+1200x30"),
            (r#"evergate_streams_open{region="eu"}"#, "1000x30"),
        ],
        &[
            (r#"evergate_connections_ended_total{region="eu",reason="stalled"}"#, "0+12x30"),
            (r#"evergate_streams_open{region="eu"}"#, "1000x30"),
        ],
    ),
    case(
        "EvergatePlacesUnwritten",
        20,
        &[(r#"evergate_cursor_writes_failed_total{node="a"}"#, "0+100x30")],
        &[(r#"evergate_cursor_writes_failed_total{node="a"}"#, "0x5 100x30")],
    ),
    case(
        "EvergateVersionsMixed",
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
        5,
        &[(r#"evergate_raft_has_leader{region="eu",node="c"}"#, "0x10")],
        &[(r#"evergate_raft_has_leader{region="eu",node="c"}"#, "1x4 0x0 1x10")],
    ),
    case(
        "EvergateControlNodeMissing",
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
        40,
        &[(r#"evergate_raft_term{node="a"}"#, "3x10 4+1x30")],
        &[(r#"evergate_raft_term{node="a"}"#, "3x20 5x30")],
    ),
    case(
        "EvergateControlFsyncSlow",
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
        10,
        &[(r#"evergate_view_age_seconds{region="eu",node="a"}"#, "0x3 60+60x20")],
        &[(r#"evergate_view_age_seconds{region="eu",node="a"}"#, "0x6 60x0 0x20")],
    ),
    case(
        "EvergateLeaseNotHeld",
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
        20,
        &[(r#"evergate_cluster_nodes{node="c",state="lost"}"#, "1x30")],
        &[
            (r#"evergate_cluster_nodes{node="c",state="lost"}"#, "0x5 1x5 0x20"),
            (r#"evergate_cluster_nodes{node="c",state="draining"}"#, "1x30"),
        ],
    ),
    case(
        "EvergateDrainsWait",
        90,
        &[(r#"evergate_cluster_drains_waiting{node="c"}"#, "1x100")],
        &[(r#"evergate_cluster_drains_waiting{node="c"}"#, "0x30 1x50 0x20")],
    ),
    case(
        "EvergateClientsMisplaced",
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

/// The time series of one scene, at whose end the alert must or must not fire.
///
/// promtool compares alerts whole, labels and all, so it is asked for their number instead.
fn scene(file: &mut String, case: &Case, series: &[Series], fires: bool) {
    writeln!(file, "  - interval: 1m\n    input_series:").expect("a string");
    for (name, values) in series {
        writeln!(file, "      - series: '{name}'\n        values: '{values}'").expect("a string");
    }
    let (alert, minute) = (case.alert, case.minute);
    let query = format!("count(ALERTS{{alertname=\"{alert}\",alertstate=\"firing\"}}) > bool 0 or vector(0)");
    writeln!(
        file,
        "    promql_expr_test:\n      - expr: '{query}'\n        eval_time: {minute}m\n        exp_samples: \
         [{{labels: '{{}}', value: {}}}]",
        u8::from(fires),
    )
    .expect("a string");
}

#[test]
fn each_alert_fires_for_what_it_is_about_and_for_nothing_else() {
    let Some(promtool) = system("each_alert_fires_for_what_it_is_about_and_for_nothing_else", &["promtool"])
    else {
        return;
    };
    let tested: BTreeSet<String> = CASES.iter().map(|case| case.alert.to_owned()).collect();
    assert_eq!(tested, alerts(), "every alert has a scene, and every scene an alert");

    let folder = tempfile::tempdir().expect("a folder can be made");
    fs::write(folder.path().join("rules.yaml"), rules()).expect("the folder is ours");
    let mut file = "rule_files: [rules.yaml]\nevaluation_interval: 1m\ntests:\n".to_owned();
    for case in CASES {
        scene(&mut file, case, case.fires, true);
        scene(&mut file, case, case.silent, false);
    }
    fs::write(folder.path().join("tests.yaml"), &file).expect("the folder is ours");
    let told = Command::new(promtool)
        .args(["test", "rules", "tests.yaml"])
        .current_dir(folder.path())
        .output()
        .expect("promtool starts");
    let said = format!("{}{}", String::from_utf8_lossy(&told.stdout), String::from_utf8_lossy(&told.stderr));
    assert!(told.status.success(), "{said}");
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
