#!/usr/bin/env python3
"""Writes the Grafana dashboards of the chart: scripts/monitoring/dashboards.py [FOLDER].

One definition a panel; what all panels have in common stands once. A test compares the committed
files with what this writes, and runs every query in a real Prometheus.
"""

import json
import pathlib
import sys

DATASOURCE = {"type": "prometheus", "uid": "${datasource}"}
# What a dashboard's series can be chosen by, at its top: label, and what it is called. Each narrows those after it.
VARIABLES = [
    ("job", "Job"), ("region", "Region"), ("zone", "Zone"), ("instance", "Instance"), ("node", "Node, or pod"),
]
CHOSEN = ",".join(f'{name}=~"${name}"' for name, _ in VARIABLES)
# Clients that are told to come back later and are the cause themselves: the same words as in the rules.
OWN_FAULT = "connecting too fast.*|too many streams.*|too many new clients.*|replaced"
WIDTH, HEIGHT = 24, 8


def panel(title, unit, description, *queries, kind="timeseries", width=12, stack=False, limits=None):
    """A panel. `queries` are (legend, PromQL); `limits` colours from these values on."""
    steps = [{"color": "green", "value": None}]
    for value, color in limits or []:
        steps.append({"color": color, "value": value})
    custom = {"fillOpacity": 10, "lineWidth": 1, "showPoints": "never"}
    if stack:
        custom["stacking"] = {"mode": "normal", "group": "A"}
    made = {
        "type": kind,
        "title": title,
        "description": description,
        "datasource": DATASOURCE,
        "fieldConfig": {
            "defaults": {"unit": unit, "min": 0, "thresholds": {"mode": "absolute", "steps": steps}},
            "overrides": [],
        },
        "targets": [
            {
                "datasource": DATASOURCE,
                "expr": query.replace("CHOSEN", CHOSEN).replace("[R]", "[$__rate_interval]"),
                "legendFormat": legend,
                "refId": chr(ord("A") + number),
                "exemplar": kind == "timeseries",
            }
            for number, (legend, query) in enumerate(queries)
        ],
        "_width": width,
    }
    if kind == "timeseries":
        made["fieldConfig"]["defaults"]["custom"] = custom
        made["options"] = {"legend": {"displayMode": "list", "placement": "bottom"}, "tooltip": {"mode": "multi"}}
    if kind == "stat":
        made["options"] = {"reduceOptions": {"calcs": ["lastNotNull"]}, "colorMode": "value", "graphMode": "area"}
    if kind == "heatmap":
        made["options"] = {"calculate": False, "yAxis": {"unit": unit}, "cellGap": 1}
        for target in made["targets"]:
            target["format"] = "heatmap"
    return made


def row(title, *panels):
    """Panels under a heading, laid out from left to right."""
    return title, panels


def variable(name, query, label):
    return {
        "type": "query",
        "name": name,
        "label": label,
        "datasource": DATASOURCE,
        "query": {"query": query, "refId": name},
        "refresh": 2,
        "multi": True,
        "includeAll": True,
        "allValue": ".+",
        "sort": 1,
    }


def values_of(at):
    """The query for the values of a variable, by those before it."""
    before = ",".join(f'{name}=~"${name}"' for name, _ in VARIABLES[:at])
    series = f"evergate_build_info{{{before}}}" if before else "evergate_build_info"
    return f"label_values({series}, {VARIABLES[at][0]})"


def dashboard(uid, title, description, *rows):
    panels, y, number = [], 0, 0
    for heading, members in rows:
        number += 1
        panels.append(
            {
                "type": "row",
                "id": number,
                "title": heading,
                "collapsed": False,
                "panels": [],
                "gridPos": {"x": 0, "y": y, "w": WIDTH, "h": 1},
            }
        )
        y, x = y + 1, 0
        for member in members:
            number += 1
            width = member.pop("_width")
            if x + width > WIDTH:
                x, y = 0, y + HEIGHT
            panels.append({"id": number, "gridPos": {"x": x, "y": y, "w": width, "h": HEIGHT}, **member})
            x += width
        y += HEIGHT
    return {
        "uid": uid,
        "title": title,
        "description": description,
        "tags": ["evergate"],
        "schemaVersion": 39,
        "version": 1,
        "editable": False,
        "graphTooltip": 1,
        "refresh": "30s",
        "time": {"from": "now-1h", "to": "now"},
        "timezone": "",
        "templating": {
            "list": [
                {"type": "datasource", "name": "datasource", "label": "Data source", "query": "prometheus"},
            ]
            + [variable(name, values_of(at), label) for at, (name, label) in enumerate(VARIABLES)]
        },
        "annotations": {
            "list": [
                {
                    "name": "Versions",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "blue",
                    "expr": f"evergate_build_info{{{CHOSEN}}} unless evergate_build_info offset 1m",
                    "titleFormat": "{{node}} runs {{version}}",
                },
                {
                    "name": "Failovers",
                    "datasource": DATASOURCE,
                    "enable": True,
                    "iconColor": "red",
                    "expr": f"sum by (node) (increase(evergate_redis_gates_opened_total{{{CHOSEN}}}[1m])) > 0",
                    "titleFormat": "{{node}} opened epochs",
                },
            ]
        },
        "links": [
            {"type": "dashboards", "title": "Evergate", "tags": ["evergate"], "asDropdown": True, "keepTime": True}
        ],
        "panels": panels,
    }


def quantiles(metric, by=""):
    """The usual three of a histogram."""
    by = f", {by}" if by else ""
    return [
        (f"p{q}", f"histogram_quantile({q / 100}, sum by (le{by}) (rate({metric}_bucket{{CHOSEN}}[R])))")
        for q in (50, 95, 99)
    ]


OVERVIEW = dashboard(
    "evergate-overview",
    "Evergate / Overview",
    "Is it well? Subscribers, events, latency and what was missed, over all chosen regions.",
    row(
        "Now",
        panel("Subscribers", "short", "Event streams that are open.",
              ("subscribers", "sum(evergate_streams_open{CHOSEN})"), kind="stat", width=4),
        panel("Processes ready", "short", "Processes whose /readyz answers 200.",
              ("ready", "sum(evergate_ready{CHOSEN})"), kind="stat", width=4),
        panel("Draining", "short", "Processes that were asked to end and have not yet.",
              ("draining", "sum(evergate_draining{CHOSEN})"), kind="stat", width=4, limits=[(1, "yellow")]),
        panel("Troubles", "short", "Things outside the processes that are wrong; /readyz names them.",
              ("troubles", "sum(evergate_troubles{CHOSEN})"), kind="stat", width=4, limits=[(1, "red")]),
        panel("Publishing", "eps", "Events taken, by second.",
              ("published", 'sum(rate(evergate_publish_events_total{CHOSEN,result="published"}[R]))'),
              kind="stat", width=4),
        panel("Missed, told", "short", "Events that subscribers were told they missed, in the last hour.",
              ("missed", "sum(increase(evergate_lost_events_total{CHOSEN}[1h]))"),
              kind="stat", width=4, limits=[(1, "yellow")]),
    ),
    row(
        "Subscribers",
        panel("Subscribers by region", "short", "A sudden fall is a cut; what ended them is on the board Resume.",
              ("{{region}}", "sum by (region) (evergate_streams_open{CHOSEN})"), stack=True),
        panel("Connects that succeed", "percentunit", "Streams begun over all who asked, without those who were too fast themselves.",
              ("success", 'sum(rate(evergate_streams_total{CHOSEN}[R])) / (sum(rate(evergate_streams_total{CHOSEN}[R]))'
               f' + (sum(rate(evergate_busy_total{{CHOSEN,reason!~"{OWN_FAULT}"}}[R])) or vector(0)))')),
    ),
    row(
        "Events",
        panel("Published and delivered", "eps", "Delivered counts an event once for every subscriber.",
              ("published", 'sum(rate(evergate_publish_events_total{CHOSEN,result="published"}[R]))'),
              ("delivered", "sum(rate(evergate_delivered_events_total{CHOSEN}[R]))")),
        panel("Accepted to written", "s", "To subscribers who were up to date. Goal: p95 below 210 ms.",
              *quantiles("evergate_delivery_seconds"), limits=[(0.21, "red")]),
        panel("Answers to publishers", "s", "From a submission's arrival to its answer.",
              *quantiles("evergate_publish_seconds")),
        panel("Submissions not taken", "eps", "By what publishers were told.",
              ("{{result}}", 'sum by (result) (rate(evergate_publish_events_total{CHOSEN,result!~"published|duplicate"}[R]))')),
    ),
)

EDGES = dashboard(
    "evergate-edges",
    "Evergate / Edges",
    "How full each process is, and what it does with its cores.",
    row(
        "Load",
        panel("Subscribers by process", "short", "They should be alike: a balancer that hashes badly shows here.",
              ("{{node}}", "sum by (node) (evergate_streams_open{CHOSEN})")),
        panel("Connections of those allowed", "percentunit", "Above 0.85 for long: add processes.",
              ("{{node}}", "evergate_connections_open{CHOSEN} / evergate_connections_max{CHOSEN}"),
              limits=[(0.85, "red")]),
        panel("Fullest against average", "none", "Subscribers of the fullest process over the average.",
              ("skew", "max(evergate_streams_open{CHOSEN}) / avg(evergate_streams_open{CHOSEN})"), limits=[(2, "red")]),
        panel("Parked connections", "percentunit", "Connections whose sockets the engine writes to itself: the cheap ones.",
              ("{{node}}", "evergate_connections_parked{CHOSEN} / evergate_connections_open{CHOSEN}")),
    ),
    row(
        "Resources",
        panel("CPU", "none", "Cores in use.", ("{{node}}", "rate(process_cpu_seconds_total{CHOSEN}[R])")),
        panel("Memory", "bytes", "Resident.", ("{{node}}", "process_resident_memory_bytes{CHOSEN}")),
        panel("Memory a subscriber", "bytes", "Resident memory over subscribers: about half a kilobyte once there are thousands.",
              ("{{node}}", "process_resident_memory_bytes{CHOSEN} / evergate_streams_open{CHOSEN}")),
        panel("Descriptors of those allowed", "percentunit", "Each connection takes one.",
              ("{{node}}", "process_open_fds{CHOSEN} / process_max_fds{CHOSEN}"), limits=[(0.85, "red")]),
        panel("Memory of what is allowed", "percentunit", "Above what the limit leaves free, streams are refused or ended.",
              ("{{node}}", "evergate_memory_used_bytes{CHOSEN} / (evergate_memory_limit_bytes{CHOSEN} > 0)"), limits=[(0.9, "red")]),
        panel("Tasks", "short", "Follows connections that are not parked.", ("{{node}}", "evergate_runtime_tasks{CHOSEN}")),
    ),
    row(
        "The door",
        panel("Connections accepted", "cps", "A peak without a deploy is a reconnect storm.",
              ("{{node}}", "rate(evergate_connections_total{CHOSEN}[R])")),
        panel("Pauses of accepting", "cps", "Those who come wait in the listener's queue meanwhile.",
              ("{{reason}}", "sum by (reason) (rate(evergate_accept_pauses_total{CHOSEN}[R]))")),
        panel("Closed unanswered", "cps", "By reason.",
              ("{{reason}}", "sum by (reason) (rate(evergate_connections_refused_total{CHOSEN}[R]))")),
        panel("gRPC connections closed unanswered", "cps", "Of publishers and other nodes.",
              ("{{node}}", "sum by (node) (rate(evergate_grpc_connections_refused_total{CHOSEN}[R]))")),
        panel("Not let in", "cps", "By what was wrong with the token; where tokens are asked for.",
              ("{{reason}}", "sum by (reason) (rate(evergate_access_denied_total{CHOSEN}[R]))")),
        panel("Certificates end in", "s", "The first of each node's to end. Two weeks before, somebody is told.",
              ("{{node}}", "min by (node) (evergate_tls_certificate_not_after_seconds{CHOSEN}) - time()")),
        panel("Spans", "cps", "Of kept traces, by what became of them.",
              ("{{result}}", "sum by (result) (rate(evergate_spans_total{CHOSEN}[R]))")),
        panel("Calls passed on", "cps", "Pings and acknowledgements for streams of another process.",
              ("{{call}} {{outcome}}", "sum by (call, outcome) (rate(evergate_calls_passed_on_total{CHOSEN}[R]))")),
    ),
)

LATENCY = dashboard(
    "evergate-latency",
    "Evergate / Delivery latency",
    "Where the time goes between a publisher and the last subscriber.",
    row(
        "Accepted to written",
        panel("Distribution", "s", "Each live delivery, by how long after being accepted it was written.",
              ("{{le}}", "sum by (le) (increase(evergate_delivery_seconds_bucket{CHOSEN}[R]))"), kind="heatmap"),
        panel("By process, p99", "s", "One process alone: its cores, or its way to Redis.",
              ("{{node}}", "histogram_quantile(0.99, sum by (le, node) (rate(evergate_delivery_seconds_bucket{CHOSEN}[R])))")),
        panel("Within 210 ms", "percentunit", "Share of the live deliveries; the goal is 0.95.",
              ("share", 'sum(rate(evergate_delivery_seconds_bucket{CHOSEN,le="0.21"}[R])) / sum(rate(evergate_delivery_seconds_count{CHOSEN}[R]))')),
    ),
    row(
        "Stages",
        panel("Publisher to answer, p99", "s", "By transport; holds the log's own time.",
              ("{{transport}}", "histogram_quantile(0.99, sum by (le, transport) (rate(evergate_publish_seconds_bucket{CHOSEN}[R])))")),
        panel("Writing and syncing, p99", "s", "Of a log on disk.",
              ("{{node}}", "histogram_quantile(0.99, sum by (le, node) (rate(evergate_log_fsync_seconds_bucket{CHOSEN}[R])))")),
        panel("Events a system call", "none", "Events written over calls that wrote: rises under load, which is what makes bursts cheap.",
              ("{{node}}", "sum by (node) (rate(evergate_delivered_events_total{CHOSEN}[R])) / sum by (node) (rate(evergate_sends_total{CHOSEN}[R]))")),
        panel("Bytes written", "Bps", "To subscribers, heads of answers left out.",
              ("{{node}}", "sum by (node) (rate(evergate_delivered_bytes_total{CHOSEN}[R]))")),
    ),
    row(
        "Slow readers",
        panel("Delivered late", "eps", "To subscribers that lay behind: slow, or just resumed.",
              ("{{node}}", 'sum by (node) (rate(evergate_delivered_events_total{CHOSEN,to="behind"}[R]))')),
        panel("Disconnected or given up", "cps", "By a stream's policy, or because the client took nothing any more.",
              ("policy", "sum(rate(evergate_slow_disconnects_total{CHOSEN}[R]))"),
              ("stalled", 'sum(rate(evergate_connections_ended_total{CHOSEN,reason="stalled"}[R]))')),
    ),
)

RESUME = dashboard(
    "evergate-resume",
    "Evergate / Resume and completeness",
    "How subscribers came back, and what they were told they missed.",
    row(
        "Coming back",
        panel("Streams begun", "cps", "By how they went on from before.",
              ("{{resume}}", "sum by (resume) (rate(evergate_streams_total{CHOSEN}[R]))"), stack=True),
        panel("Streams ended", "cps", "By reason; client-gone for those that were not ended from this side.",
              ("{{reason}}", "sum by (reason) (rate(evergate_streams_ended_total{CHOSEN}[R]))"), stack=True),
        panel("First frame", "s", "From the request to its answer: half, and 95 of 100.",
              ("half", "histogram_quantile(0.5, sum by (le) (rate(evergate_first_frame_seconds_bucket{CHOSEN}[R])))"),
              ("95", "histogram_quantile(0.95, sum by (le) (rate(evergate_first_frame_seconds_bucket{CHOSEN}[R])))")),
        panel("Pages of the log", "cps", "Taken by those who lay behind their ring.",
              ("{{from}}", "sum by (from) (rate(evergate_replay_pages_total{CHOSEN}[R]))"), stack=True),
        panel("Pages from the cache", "percentunit", "Of those taken: what somebody before had read already.",
              ("share", 'sum(rate(evergate_replay_pages_total{CHOSEN,from="cache"}[R])) / sum(rate(evergate_replay_pages_total{CHOSEN}[R]))')),
        panel("Ended in an hour", "short", "By reason: what cuts streams, and how often.",
              ("{{reason}}", "sum by (reason) (increase(evergate_streams_ended_total{CHOSEN}[1h]))"), stack=True),
        panel("Told to come back later", "cps", "By reason.",
              ("{{reason}}", "sum by (reason) (rate(evergate_busy_total{CHOSEN}[R]))"), stack=True),
    ),
    row(
        "Completeness",
        panel("Notices of a gap", "cps", "One for each evergate.gap.",
              ("{{reason}}", "sum by (reason) (rate(evergate_gaps_total{CHOSEN}[R]))"), stack=True),
        panel("Events told as missed", "eps", "Where their number can be known.",
              ("{{reason}}", "sum by (reason) (rate(evergate_lost_events_total{CHOSEN}[R]))"), stack=True),
        panel("Completeness", "percentunit", "Events delivered over those due. Goal: 0.99998.",
              ("completeness", "sum(rate(evergate_delivered_events_total{CHOSEN}[R])) / (sum(rate(evergate_delivered_events_total{CHOSEN}[R]))"
               " + sum(rate(evergate_lost_events_total{CHOSEN}[R])))")),
        panel("Holes repaired", "cps", "In what the log told, each by one read.",
              ("{{node}}", "rate(evergate_tail_repairs_total{CHOSEN}[R])")),
    ),
    row(
        "Kept places",
        panel("Written", "cps", "At the most one a client and flush.",
              ("written", "sum(rate(evergate_cursor_writes_total{CHOSEN}[R]))"),
              ("failed", "sum(rate(evergate_cursor_writes_failed_total{CHOSEN}[R]))")),
        panel("Waiting", "short", "Moved and not written yet.", ("{{node}}", "evergate_cursors_waiting{CHOSEN}")),
        panel("Given up, or late", "cps", "Those clients see events again, or are remembered later.",
              ("given up", "sum(rate(evergate_cursor_hints_dropped_total{CHOSEN}[R]))"),
              ("late", "sum(rate(evergate_cursors_opened_late_total{CHOSEN}[R]))")),
        panel("Acknowledgements and pings", "cps", "From clients that send them.",
              ("acks", "sum(rate(evergate_acks_total{CHOSEN}[R]))"), ("pings", "sum(rate(evergate_pings_total{CHOSEN}[R]))")),
    ),
)

LOG = dashboard(
    "evergate-log",
    "Evergate / The log",
    "Redis as the processes see it, or the disk of a single one.",
    row(
        "Redis",
        panel("Links", "short", "1 while up.",
              ("{{node}} {{shard}} {{link}}", "evergate_redis_connected{CHOSEN}")),
        panel("Connections made", "cps", "A steady rate is a link that does not hold.",
              ("{{node}} {{shard}}", "sum by (node, shard) (rate(evergate_redis_connects_total{CHOSEN}[R]))")),
        panel("Answers, 99 of 100", "s", "By what is asked.",
              ("{{command}}", "histogram_quantile(0.99, sum by (le, command) (rate(evergate_redis_command_seconds_bucket{CHOSEN}[R])))")),
        panel("Questions that failed", "cps", "No answer in time, a broken link, or an error of Redis' own.",
              ("{{kind}}", "sum by (kind) (rate(evergate_redis_errors_total{CHOSEN}[R]))"), stack=True),
        panel("Not committed", "short", "Events that wait for a replica.",
              ("{{node}} {{shard}}", "evergate_redis_uncommitted_events{CHOSEN}")),
        panel("Events a call", "none", "Median; the more, the cheaper each.",
              ("{{node}}", "histogram_quantile(0.5, sum by (le, node) (rate(evergate_redis_call_events_bucket{CHOSEN}[R])))")),
        panel("Appends repeated", "cps", "Their fate was unknown, or Redis was not ready.",
              ("{{node}}", "rate(evergate_redis_append_retries_total{CHOSEN}[R])")),
        panel("Epochs opened", "short", "In five minutes; a jump is a failover.",
              ("{{node}}", "increase(evergate_redis_gates_opened_total{CHOSEN}[5m])")),
        panel("Holes in live channels", "cps", "Redis dropped what it told; repaired by a read.",
              ("{{node}}", "rate(evergate_redis_live_holes_total{CHOSEN}[R])")),
    ),
    row(
        "Disk",
        panel("Size", "bytes", "Journal and tables.", ("{{node}}", "evergate_log_disk_bytes{CHOSEN}")),
        panel("Events a sync", "none", "Median; grows with load.",
              ("{{node}}", "histogram_quantile(0.5, sum by (le, node) (rate(evergate_log_group_events_bucket{CHOSEN}[R])))")),
        panel("Full or read-only", "short", "1 while so.",
              ("{{node}} full", "evergate_log_full{CHOSEN}"), ("{{node}} read-only", "evergate_log_read_only{CHOSEN}")),
        panel("Streams followed", "short", "What the log is asked about every second.",
              ("{{node}}", "evergate_streams_followed{CHOSEN}")),
    ),
)

ROLLOUT = dashboard(
    "evergate-rollout",
    "Evergate / Rollout and drain",
    "What a deploy does to subscribers.",
    row(
        "Processes",
        panel("Versions", "short", "Processes by version.", ("{{version}}", "count by (version) (evergate_build_info{CHOSEN})"), stack=True),
        panel("Ready and draining", "short", "By process.",
              ("{{node}} ready", "evergate_ready{CHOSEN}"), ("{{node}} draining", "evergate_draining{CHOSEN}")),
    ),
    row(
        "Subscribers on the move",
        panel("Subscribers by process", "short", "They leave one and arrive at others.",
              ("{{node}}", "evergate_streams_open{CHOSEN}"), stack=True),
        panel("Ended by a drain", "cps", "The pace of the drain.",
              ("{{node}}", 'sum by (node) (rate(evergate_streams_ended_total{CHOSEN,reason="shutdown"}[R]))')),
        panel("Begun elsewhere", "cps", "The pace at which the others take them in.",
              ("{{node}}", "sum by (node) (rate(evergate_streams_total{CHOSEN}[R]))")),
        panel("Share that came back exactly", "percentunit", "Of those who brought a position.",
              ("exact", 'sum(rate(evergate_streams_total{CHOSEN,resume="exact"}[R])) / sum(rate(evergate_streams_total{CHOSEN,resume=~"exact|stored|gap"}[R]))')),
    ),
)

SLO = dashboard(
    "evergate-slo",
    "Evergate / Service levels",
    "How fast the error budgets are used: 1 uses a budget up in exactly its thirty days.",
    row(
        "Burn rates",
        *(
            panel(title, "none", f"Goal: {goal}.",
                  *((window, f'max(slo:sli_error:ratio_rate{window}{{slo="{slo}",region=~"$region"}}) / {budget}')
                    for window in ("1h", "6h", "3d")), width=8, limits=[(1, "yellow"), (6, "red")])
            for slo, title, goal, budget in (
                ("connect", "Connecting", "99.995 % of connects succeed", "0.00005"),
                ("delivery", "Delivery", "95 % of live deliveries within 210 ms", "0.05"),
                ("completeness", "Completeness", "99.998 % of events reach their subscribers", "0.00002"),
            )
        ),
    ),
    row(
        "Budgets and alerts",
        panel("Budget left", "percentunit", "Of thirty days, at the pace of the last three.",
              ("{{slo}}", '1 - max by (slo) (slo:sli_error:ratio_rate3d{region=~"$region"}) / on (slo)'
               ' (label_replace(vector(0.00005), "slo", "connect", "", "") or label_replace(vector(0.05), "slo", "delivery", "", "")'
               ' or label_replace(vector(0.00002), "slo", "completeness", "", ""))')),
        panel("Alerts firing", "short", "By name.",
              ("{{alertname}}", 'count by (alertname) (ALERTS{alertname=~"Evergate.*",alertstate="firing"}) or vector(0)')),
    ),
)

CONTROL = dashboard(
    "evergate-control",
    "Evergate / Control plane",
    "The group of control nodes, what it agrees on, and who follows it.",
    row(
        "Now",
        panel("Leaders", "short", "Control nodes that lead: 1. 0 for seconds is an election.",
              ("leaders", "sum(evergate_raft_is_leader{CHOSEN})"), kind="stat", width=4),
        panel("Control nodes that know one", "short", "Of those that there should be, which is the next panel.",
              ("nodes", "sum(evergate_raft_has_leader{CHOSEN})"), kind="stat", width=4),
        panel("Members", "short", "Of the control group, those without a vote included.",
              ("members", "max(evergate_raft_members{CHOSEN})"), kind="stat", width=4),
        panel("Nodes here", "short", "Edges and relays that are there and take work.",
              ("here", 'max(evergate_cluster_nodes{CHOSEN,state="here"})'), kind="stat", width=4),
        panel("Nodes lost", "short", "Not heard of, without a goodbye.",
              ("lost", 'max(evergate_cluster_nodes{CHOSEN,state="lost"})'), kind="stat", width=4, limits=[(1, "red")]),
        panel("Oldest view", "s", "How long ago the process that knows least heard of a leader. It serves on meanwhile.",
              ("age", "max(evergate_view_age_seconds{CHOSEN})"), kind="stat", width=4, limits=[(5, "yellow"), (30, "red")]),
    ),
    row(
        "The group",
        panel("Term", "short", "Rises with each election.", ("{{node}}", "evergate_raft_term{CHOSEN}")),
        panel("Elections", "short", "In an hour, as each node saw them.",
              ("{{node}}", "increase(evergate_raft_elections_total{CHOSEN}[1h])")),
        panel("Entries", "short", "In the log of each node, and applied by it.",
              ("{{node}} last", "evergate_raft_last_entries{CHOSEN}"),
              ("{{node}} applied", "evergate_raft_applied_entries{CHOSEN}")),
        panel("Furthest behind", "short", "Entries that the furthest member lacks, as its leader knows.",
              ("{{node}}", "evergate_raft_lag_entries{CHOSEN}")),
        panel("Silence of the majority", "s", "Since a leader last heard from a majority; at the election time it loses its lead.",
              ("{{node}}", "evergate_raft_quorum_silence_seconds{CHOSEN}"), limits=[(1.5, "red")]),
        panel("Writing and syncing, p99", "s", "One entry, on the disk of each node.",
              ("{{node}}", "histogram_quantile(0.99, sum by (le, node) (rate(evergate_raft_fsync_seconds_bucket{CHOSEN}[R])))"),
              limits=[(0.15, "red")]),
        panel("Commands", "cps", "Of operators and of leases, by what came of them.",
              ("{{outcome}}", "sum by (outcome) (rate(evergate_control_commands_total{CHOSEN}[R]))"), stack=True),
    ),
    row(
        "The cluster",
        panel("Nodes", "short", "As the control nodes know.",
              ("{{state}}", "max by (state) (evergate_cluster_nodes{CHOSEN})"), stack=True),
        panel("Leases", "short", "Held by each control node; together, all nodes that are there.",
              ("{{node}}", "evergate_control_leases{CHOSEN}"), stack=True),
        panel("Followers", "short", "Who is told of changes by each control node.",
              ("{{node}}", "evergate_control_followers{CHOSEN}"), stack=True),
        panel("Drains that wait", "short", "For their turn.", ("waiting", "max(evergate_cluster_drains_waiting{CHOSEN})")),
    ),
    row(
        "Views and places",
        panel("Age of views", "s", "At each process: since a control node that knows a leader was heard.",
              ("{{node}}", "evergate_view_age_seconds{CHOSEN}"), limits=[(5, "yellow")]),
        panel("Versions of views", "short", "Lines that part for more than a second: somebody is not reached.",
              ("{{node}}", "evergate_view_version{CHOSEN}")),
        panel("Leases held", "short", "1 at every process that belongs to the cluster.",
              ("{{node}}", "evergate_lease_held{CHOSEN}")),
        panel("Clients by place", "cps", "How near to their place on the ring clients came.",
              ("{{place}}", "sum by (place) (rate(evergate_clients_placed_total{CHOSEN}[R]))"), stack=True),
    ),
)

BOARDS = [OVERVIEW, EDGES, LATENCY, RESUME, LOG, ROLLOUT, SLO, CONTROL]


def main():
    default = pathlib.Path(__file__).resolve().parents[2] / "helm/evergate/dashboards"
    folder = pathlib.Path(sys.argv[1]) if len(sys.argv) > 1 else default
    folder.mkdir(parents=True, exist_ok=True)
    for board in BOARDS:
        name = board["uid"].removeprefix("evergate-") + ".json"
        (folder / name).write_text(json.dumps(board, indent=2, ensure_ascii=False) + "\n")


if __name__ == "__main__":
    main()
