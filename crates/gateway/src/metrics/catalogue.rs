//! Every metric there is, in one table.
//!
//! Their help texts, the series that exist from the start and `docs/metrics.md` come from it. Tests
//! hold it against the sources, and against what a process under traffic really tells.

use super::figure::From::{Access, All, Any, Cluster, Control, Disk, Redis, Tls, View};
use super::figure::Kind::{Counter, Gauge, Histogram};
use super::figure::Values::{As, These};
use super::figure::{Figure, From, Kind, Label};

const fn figure(
    name: &'static str,
    kind: Kind,
    labels: &'static [Label],
    means: &'static str,
    act: &'static str,
) -> Figure {
    Figure { name, kind, labels, from: Any, means, act }
}

impl Figure {
    const fn with(mut self, from: From) -> Self {
        self.from = from;
        self
    }
}

const fn one_of(name: &'static str, values: &'static [&'static str]) -> Label {
    Label { name, values: These(values) }
}

const GAP: &[Label] = &[one_of("reason", &["trimmed", "lost-tail", "unknown", "slow", "policy"])];
const TRANSPORT: Label = one_of("transport", &["http", "grpc", "grpc_stream"]);
const LISTENER: Label = one_of("listener", &["http", "grpc"]);
const LINK: &[Label] = &[
    Label { name: "link", values: As("what the connection is for") },
    Label { name: "shard", values: As("one for each Redis server") },
];

/// All of them, in the order of the page.
pub(crate) static FIGURES: &[Figure] = &[
    figure(
        "evergate_build_info",
        Gauge,
        &[Label { name: "version", values: As("of the binary") }],
        "Always 1; its label says which build runs.",
        "Join it to other series to see them by version; more than one version for long is a rollout that hangs.",
    )
    .with(All),
    figure(
        "evergate_ready",
        Gauge,
        &[],
        "1 while `/readyz` answers 200.",
        "0 for longer than a start or a drain takes: read the process's log.",
    ),
    figure(
        "evergate_draining",
        Gauge,
        &[],
        "1 from the moment the process was asked to end.",
        "Longer than `shutdown.deadline`: the log line of the late phase names what is held.",
    ),
    figure(
        "evergate_troubles",
        Gauge,
        &[],
        "Things that are wrong outside this process, as `/readyz` lists them.",
        "Above 0: read the body of `/readyz`; it names them.",
    ),
    figure(
        "evergate_spans_total",
        Counter,
        &[one_of("result", &["exported", "dropped", "failed"])],
        "Spans of kept traces, by what became of them: taken by the collector, dropped because too many waited, or given up.",
        "`failed`: the collector is away or slow, its own log says why. `dropped` without it: raise `telemetry.sample_one_in` or `telemetry.queue_spans`.",
    ),
    figure(
        "evergate_runtime_tasks",
        Gauge,
        &[],
        "Tasks alive in the runtime.",
        "It follows connections that are not parked; a rise without them is a leak, worth a report.",
    ),
    figure(
        "evergate_connections_open",
        Gauge,
        &[],
        "HTTP connections that are open.",
        "Near `evergate_connections_max`: add processes before clients are told to come back later.",
    ),
    figure(
        "evergate_connections_max",
        Gauge,
        &[],
        "Connections that are accepted at the same time: `http.connections_max`, or what the descriptors allow.",
        "Lower than configured: raise the limit of open files.",
    ),
    figure(
        "evergate_connections_parked",
        Gauge,
        &[],
        "Of the open connections, those whose sockets the fan-out engine writes to itself.",
        "Far fewer than the streams: clients come over HTTP/2, which costs more memory each.",
    ),
    figure(
        "evergate_connections_total",
        Counter,
        &[],
        "HTTP connections accepted.",
        "A jump without a deploy is a reconnect storm: look at what ended the streams before.",
    ),
    figure(
        "evergate_connections_refused_total",
        Counter,
        &[one_of(
            "reason",
            &[
                "connections-of-address",
                "pending-of-address",
                "head-timeout",
                "proxy-untrusted",
                "proxy-missing",
                "proxy-malformed",
                "gone",
                "tls-timeout",
                "tls-refused",
                "tls-expired",
            ],
        )],
        "Connections closed before they were answered.",
        "`proxy-…`: the balancer and `http.proxy_protocol` disagree. `head-timeout`: slow or hostile clients.",
    ),
    figure(
        "evergate_tls_handshakes_total",
        Counter,
        &[
            LISTENER,
            one_of("outcome", &["full", "resumed", "early", "tls-timeout", "tls-refused", "tls-expired", "gone"]),
        ],
        "TLS handshakes, and how they ended; `early` are those of clients that were heard and answered before the end of theirs.",
        "Many `full` after a cut: the edges do not share `tls.ticket_secrets_file`. `tls-refused`: a certificate that clients do not believe, or clients without the one that is asked for.",
    )
    .with(Tls),
    figure(
        "evergate_tls_handshake_seconds",
        Histogram,
        &[LISTENER],
        "How long the TLS handshakes took that succeeded.",
        "Rises when thousands come at once and shake hands in full: the processor is the bound.",
    )
    .with(Tls),
    figure(
        "evergate_tls_certificate_not_after_seconds",
        Gauge,
        &[Label { name: "certificate", values: As("its file") }],
        "When a certificate ends, in seconds of Unix time.",
        "Alert weeks before: who renews it has stopped.",
    )
    .with(Tls),
    figure(
        "evergate_connections_ended_total",
        Counter,
        &[one_of("reason", &["stalled", "unanswered", "flood", "tls-timeout"])],
        "Connections ended because the client took nothing for `http.stall_timeout`, did not answer over HTTP/2, sent too many frames that do nothing, or was heard early and did not end its TLS handshake in time.",
        "A few are phones that lost their network. Many at once: something between here and the clients stopped; `flood` and `tls-timeout`: somebody hostile.",
    ),
    figure(
        "evergate_early_requests_total",
        Counter,
        &[one_of("taken_by", &["edge", "proxy"]), one_of("outcome", &["answered", "refused"])],
        "Requests out of TLS 1.3's early data, taken by an edge or by a proxy in front: answered where they change nothing, else refused with 425.",
        "Many `refused`: a client sends its publishes early and needs a round trip more for it, or somebody sends again what was recorded.",
    ),
    figure(
        "evergate_grpc_connections_refused_total",
        Counter,
        &[],
        "gRPC connections closed at once: their address has all it may.",
        "`limits.grpc_connections_per_address` at work; a steady rate: a publisher that leaks connections.",
    ),
    figure(
        "evergate_grpc_connections_ended_total",
        Counter,
        &[one_of("reason", &["silent", "flood"])],
        "gRPC connections ended for what their peer did: nothing within `http.head_timeout` of its coming, or frame after frame that does nothing.",
        "`silent`: something that only opens ports, such as a balancer's check by TCP that does not close, or an attack. `flood`: an attack, or a client that pings without end.",
    ),
    figure(
        "evergate_grpc_accept_pauses_total",
        Counter,
        &[],
        "Times that no gRPC connection was accepted for a while: all are taken.",
        "Raise `grpc.connections_max`, or look for a publisher that leaks connections.",
    ),
    figure(
        "evergate_accept_pauses_total",
        Counter,
        &[one_of("reason", &["connections", "pending", "rate", "descriptors"])],
        "Times that no connection was accepted for a while; those that came waited in the listener's queue.",
        "`rate` during a storm is the limit at work. `descriptors` should never be seen: raise the limit.",
    ),
    figure(
        "evergate_streams_open",
        Gauge,
        &[],
        "Event streams that are open.",
        "The load of this process. A sudden fall: look at `evergate_streams_ended_total`.",
    ),
    figure(
        "evergate_streams_followed",
        Gauge,
        &[],
        "Streams of the log that somebody here follows.",
        "It is what the log is asked about every second; thousands are fine.",
    ),
    figure(
        "evergate_streams_leased",
        Gauge,
        &[],
        "Open event streams that end unless their client pings.",
        "None if no client asks for `lease=1`.",
    ),
    figure(
        "evergate_streams_total",
        Counter,
        &[one_of("resume", &["live", "exact", "stored", "gap"])],
        "Event streams begun, by how they went on from before.",
        "A growing share of `gap`: clients are away longer than the retention keeps events.",
    ),
    figure(
        "evergate_memory_limit_bytes",
        Gauge,
        &[],
        "What the process may take of memory; 0 without a limit.",
        "`memory.bytes_max`, or the container's limit.",
    ),
    figure(
        "evergate_memory_used_bytes",
        Gauge,
        &[],
        "What is taken of it, without what the kernel gives up by itself.",
        "Over 80 % of the limit new streams are refused, over 95 % streams are ended: add processes, or memory.",
    ),
    figure(
        "evergate_memory_short",
        Gauge,
        &[],
        "How short memory is: 0 not at all, 1 no new streams, 2 streams are ended, 3 nothing is published.",
        "Above 0 for longer than a storm: look for what grows, then add processes, or memory.",
    ),
    figure(
        "evergate_streams_ended_total",
        Counter,
        &[one_of(
            "reason",
            &[
                "shutdown",
                "damaged-log",
                "closed",
                "replaced",
                "lease-expired",
                "token-expired",
                "revoked",
                "overload",
                "rebalance",
                "client-gone",
            ],
        )],
        "Event streams that ended. From this side each ends with a frame that says why; otherwise (`client-gone`) its client has closed it, or its way was cut.",
        "`shutdown` belongs to drains, `rebalance` to what operators asked for. `client-gone` far beyond what is usual: something on the way cuts streams; `evergate doctor` finds it. `damaged-log`: restore the log or let its retention pass.",
    ),
    figure(
        "evergate_first_frame_seconds",
        Histogram,
        &[],
        "From the head of a request for an event stream to its answer, with its first frame.",
        "It holds the resume: a rise with `evergate_replay_pages_total{from=\"log\"}` is a log that reads slowly; without it the process is out of CPU.",
    ),
    figure(
        "evergate_replay_pages_total",
        Counter,
        &[one_of("from", &["cache", "log"])],
        "Pages of the log taken by subscribers that lay behind their ring, read for them or for somebody before them.",
        "Mostly `log` with many resumes: raise `fanout.replay_cache_bytes`. A steady rate with few resumes: raise `fanout.ring_events`.",
    ),
    figure(
        "evergate_busy_total",
        Counter,
        &[Label { name: "reason", values: As("as told in `evergate.busy`") }],
        "Subscribers told to come back later.",
        "`full`: add processes. Everything else names what is away or too fast.",
    ),
    figure(
        "evergate_pings_total",
        Counter,
        &[],
        "Pings taken for streams of this process.",
        "Follows the streams with a lease.",
    ),
    figure(
        "evergate_gaps_total",
        Counter,
        GAP,
        "Losses told to subscribers, one for each `evergate.gap`.",
        "`trimmed`: lengthen the retention. `lost-tail`: a failover lost what was not replicated. `slow`: a policy at work.",
    ),
    figure(
        "evergate_lost_events_total",
        Counter,
        GAP,
        "Events that subscribers were told they missed, where their number can be known: before filters, once for each subscriber.",
        "Over `evergate_delivered_events_total` it is the completeness. The reasons are those of `evergate_gaps_total`.",
    ),
    figure(
        "evergate_slow_disconnects_total",
        Counter,
        &[],
        "Subscribers disconnected by the policy `disconnect` of their stream.",
        "They come back by their cursor; if it is many, the policy or the audience does not fit the stream.",
    ),
    figure(
        "evergate_tail_repairs_total",
        Counter,
        &[],
        "Holes in what the log told, each repaired by one read.",
        "A few at reconnects of Redis. A steady rate: Redis drops this client's output; raise its Pub/Sub limit.",
    ),
    figure(
        "evergate_delivery_seconds",
        Histogram,
        &[],
        "From an event's acceptance to its being written, once for each subscriber that was up to date.",
        "The goal is 95 % within 0.21 s. The acceptance is stamped by the process that took the publish: clocks that differ show here.",
    ),
    figure(
        "evergate_delivered_events_total",
        Counter,
        &[one_of("to", &["up-to-date", "behind"])],
        "Events written, once for each subscriber; `behind` to those who had just resumed, or are slow.",
        "A large share of `behind` without resumes: slow readers, or this process is short of CPU.",
    ),
    figure(
        "evergate_delivered_bytes_total",
        Counter,
        &[],
        "Bytes written to subscribers, framing and compression included, heads of answers left out.",
        "Towards the network's rate: turn on `sse.compression`, or add processes.",
    ),
    figure(
        "evergate_sends_total",
        Counter,
        &[],
        "System calls that wrote to parked connections.",
        "Over `evergate_delivered_events_total` it is the share that could not ride together; falls under load.",
    ),
    figure(
        "evergate_events_deflated_total",
        Counter,
        &[],
        "Events compressed, each once for all its subscribers.",
        "Costs CPU once an event and framing, whatever the audience.",
    ),
    figure(
        "evergate_publish_events_total",
        Counter,
        &[
            TRANSPORT,
            one_of(
                "result",
                &[
                    "published",
                    "duplicate",
                    "bad-request",
                    "too-large",
                    "unknown-stream",
                    "level-unavailable",
                    "sequence-too-old",
                    "not-its-producer",
                    "short-of-memory",
                    "unauthorized",
                    "forbidden",
                    "keys-unavailable",
                    "behind",
                    "rate-limited",
                    "log-full",
                    "log-unavailable",
                    "shutting-down",
                ],
            ),
        ],
        "Events handed in, by transport and what became of them.",
        "`log-unavailable` and `log-full` page somebody: publishers are waiting. `duplicate` after a fault is as it should be.",
    ),
    figure(
        "evergate_publish_seconds",
        Histogram,
        &[TRANSPORT],
        "From a submission's arrival to its answer.",
        "It holds the log's own time: compare it with the fsync or the calls to Redis.",
    ),
    figure(
        "evergate_acks_total",
        Counter,
        &[],
        "Acknowledgements taken for streams of this process.",
        "Follows the clients with `acks=1`.",
    ),
    figure(
        "evergate_calls_passed_on_total",
        Counter,
        &[
            one_of("call", &["ping", "acknowledge", "renew"]),
            one_of("outcome", &["done", "gone", "invalid", "denied", "unreachable"]),
        ],
        "Calls about a stream of another process, passed on to it.",
        "`unreachable`: this process cannot reach that one's gRPC port.",
    ),
    figure(
        "evergate_cursors_waiting",
        Gauge,
        &[],
        "Kept places that moved and are not written yet.",
        "It swings within one flush. A steady rise: the store is away or too slow.",
    ),
    figure(
        "evergate_cursors_late",
        Gauge,
        &[],
        "Streams that were opened while the store did not take their place over, and wait for it to.",
        "Above 0: the store of the places is away; look at the log's Redis or disk.",
    ),
    figure(
        "evergate_cursors_opened_late_total",
        Counter,
        &[],
        "Streams that were opened while the store did not take their place over.",
        "A steady rate: the store of the places is too slow.",
    ),
    figure(
        "evergate_cursor_writes_total",
        Counter,
        &[],
        "Kept places written.",
        "At the most one a client and flush, never one an event.",
    ),
    figure(
        "evergate_cursor_writes_failed_total",
        Counter,
        &[],
        "Kept places that could not be written and wait for the next flush.",
        "The store is away; who comes back meanwhile sees events again, and loses none.",
    ),
    figure(
        "evergate_cursor_hints_dropped_total",
        Counter,
        &[],
        "Kept places given up because too many waited.",
        "Those clients see events again when they come back.",
    ),
    figure(
        "evergate_log_fsync_seconds",
        Histogram,
        &[],
        "Writing and syncing one group commit.",
        "The floor of every publish. Slow: the disk, or somebody else on it.",
    )
    .with(Disk),
    figure(
        "evergate_log_group_events",
        Histogram,
        &[],
        "Events made durable by one sync.",
        "Grows with load, and with it the rate; one by one means publishers wait for each answer.",
    )
    .with(Disk),
    figure(
        "evergate_log_disk_bytes",
        Gauge,
        &[],
        "Size of the log's journal and tables.",
        "Towards the disk's size: shorten the retention, or enlarge the disk.",
    )
    .with(Disk),
    figure(
        "evergate_log_full",
        Gauge,
        &[],
        "1 while appends are refused for want of disk space.",
        "Make room; publishers are told to retry, subscribers are served.",
    )
    .with(Disk),
    figure(
        "evergate_log_read_only",
        Gauge,
        &[],
        "1 after a write failed with unknown outcome, until restart.",
        "Restart it once the disk is well again.",
    )
    .with(Disk),
    figure(
        "evergate_redis_connected",
        Gauge,
        LINK,
        "1 while the link to Redis is up.",
        "0: `/readyz` names the server. Live streams stay open; publishers are told to retry.",
    )
    .with(Redis),
    figure(
        "evergate_redis_connects_total",
        Counter,
        LINK,
        "Connections made to Redis.",
        "A steady rate is a link that does not hold.",
    )
    .with(Redis),
    figure(
        "evergate_redis_append_retries_total",
        Counter,
        &[],
        "Append calls repeated because their fate was unknown or Redis was not ready.",
        "Rises with each failover, and then rests. The repeat cannot double an event.",
    )
    .with(Redis),
    figure(
        "evergate_redis_command_seconds",
        Histogram,
        &[one_of(
            "command",
            &[
                "append", "commit", "wait", "resume", "tails", "status", "locate", "cursors_take", "cursors_write", "other",
            ],
        )],
        "From a question to Redis to its answer, by what is asked: the functions of the log's library, and `wait` for replicas.",
        "All of them slow: Redis or the network. `append` alone: large batches, or `appendfsync always` on a slow disk. `wait`: a replica that lags.",
    )
    .with(Redis),
    figure(
        "evergate_redis_errors_total",
        Counter,
        &[one_of("kind", &["timeout", "link", "server", "other"])],
        "Questions to Redis that got no answer in time, whose connection broke, or that were answered by an error.",
        "`timeout` and `link`: Redis or the network to it. `server`: what Redis refuses; its memory, its replicas and its log say why. A few with each failover are ordinary.",
    )
    .with(Redis),
    figure(
        "evergate_redis_uncommitted_events",
        Gauge,
        &[Label { name: "shard", values: As("one for each Redis server") }],
        "Events of followed streams that are in the log and wait for a replica, when tails were last compared.",
        "Above 0 for long: no replica confirms, and subscribers are shown nothing newer. Look at the replicas' links.",
    )
    .with(Redis),
    figure(
        "evergate_redis_gates_opened_total",
        Counter,
        &[],
        "Epochs that this node opened, one a slot and failover.",
        "A jump is a failover or a restart of Redis; a steady rate is a primary that keeps changing.",
    )
    .with(Redis),
    figure(
        "evergate_redis_live_holes_total",
        Counter,
        &[],
        "Holes found in live channels, each repaired by one range read.",
        "A steady rate: raise `client-output-buffer-limit pubsub`.",
    )
    .with(Redis),
    figure(
        "evergate_redis_call_events",
        Histogram,
        &[],
        "Events appended by one call.",
        "Grows with load; the more, the cheaper each.",
    )
    .with(Redis),
    figure(
        "evergate_redis_confirm_batches",
        Histogram,
        &[],
        "Append calls confirmed by one WAIT for a replica.",
        "Grows with load; only above level `HOME`.",
    )
    .with(Redis),
    figure(
        "evergate_streams_with_token",
        Gauge,
        &[],
        "Open event streams whose token is watched for its expiry.",
        "Follows the subscribers that are not anonymous.",
    )
    .with(Any),
    figure(
        "evergate_access_keys",
        Gauge,
        &[],
        "Keys that tokens are checked with.",
        "0: nobody with a token is let in; look at `evergate_access_keys_unread_total`.",
    )
    .with(Access),
    figure(
        "evergate_access_keys_unread_total",
        Counter,
        &[],
        "Times that keys could not be read; those that were read before go on.",
        "A steady rate: the key server or the file is away, and its rotation will be missed.",
    )
    .with(Access),
    figure(
        "evergate_access_denied_total",
        Counter,
        &[Label { name: "reason", values: As("a word for what was wrong with it") }],
        "Requests turned away, by why.",
        "`expired` by the thousand: clients do not renew. A new reason after a deploy: issuer, audience or keys changed.",
    )
    .with(Access),
    figure(
        "evergate_reauths_total",
        Counter,
        &[],
        "Fresh tokens taken for streams of this process.",
        "Follows the streams with a token.",
    )
    .with(Access),
    figure(
        "evergate_clients_placed_total",
        Counter,
        &[one_of("place", &["own", "alternative", "misplaced", "other-region"])],
        "Clients that came, by how near to their place on the ring.",
        "A large share of `misplaced`: the balancer does not have the ring, or hides the clients' addresses. Of `other-region`: they were led past the region where they are.",
    )
    .with(Cluster),
    figure(
        "evergate_streams_to_move",
        Gauge,
        &[],
        "Streams that a rebalance of the region will still end here, because their clients belong to other edges.",
        "Falls to 0 while one is under way. It stands still: the edges where they belong let nobody in.",
    )
    .with(Cluster),
    figure(
        "evergate_geoip_lookups_total",
        Counter,
        &[one_of("outcome", &["found", "unknown"])],
        "Addresses looked up in the database of `cluster.geoip_file`.",
        "Mostly `unknown`: proxies hide the clients' addresses, or the database is of another kind.",
    )
    .with(Cluster),
    figure(
        "evergate_geoip_built_timestamp_seconds",
        Gauge,
        &[],
        "When that database was built; 0 without one.",
        "Older than a month: its updates do not arrive.",
    )
    .with(Cluster),
    figure(
        "evergate_lease_held",
        Gauge,
        &[],
        "1 while a control node holds this process's lease.",
        "0 for long: it is out of the ring; look at the control nodes.",
    )
    .with(Cluster),
    figure(
        "evergate_view_version",
        Gauge,
        &[],
        "The version of the view that this process has.",
        "Processes that differ for more than a second do not reach the control nodes.",
    )
    .with(View),
    figure(
        "evergate_view_age_seconds",
        Gauge,
        &[],
        "How long ago a control node that knows a leader was last heard.",
        "Above 5: nothing that is agreed on gets here; the process serves on by what it knows. Look at the control nodes, and at the way to them.",
    )
    .with(Cluster),
    figure(
        "evergate_ring_version",
        Gauge,
        &[],
        "The version of the placement ring in that view.",
        "Changes when an edge comes, goes or is drained.",
    )
    .with(View),
    figure(
        "evergate_ring_digest",
        Gauge,
        &[],
        "The last 32 bits of the digest of all rings.",
        "Different at two processes with the same `evergate_ring_version`: they place clients differently, which is a defect. Report it.",
    )
    .with(View),
    figure(
        "evergate_cluster_nodes",
        Gauge,
        &[one_of("state", &["here", "draining", "lost"])],
        "Nodes of the cluster, as this control node knows.",
        "`lost` for long: bring them back, or `evergate cluster forget` them.",
    )
    .with(Control),
    figure(
        "evergate_cluster_rebalance_waits_for",
        Gauge,
        &[],
        "Edges that a rebalance waits for; 0 while there is none.",
        "For long: `evergate_streams_to_move` tells which edge still has many; `evergate cluster rebalance --cancel` ends it.",
    )
    .with(Control),
    figure(
        "evergate_cluster_drains_waiting",
        Gauge,
        &[],
        "Nodes that are to be drained and wait for their turn.",
        "For long: the node that is being drained does not end, or a region has no other edge.",
    )
    .with(Control),
    figure(
        "evergate_control_leases",
        Gauge,
        &[],
        "Nodes whose leases this control node holds.",
        "Summed over the group: all nodes that are there. All at one control node: the others cannot be reached from the edges.",
    )
    .with(Control),
    figure(
        "evergate_control_followers",
        Gauge,
        &[],
        "Streams over which this control node tells nodes and operators what is agreed on.",
        "Follows the nodes of the cluster.",
    )
    .with(Control),
    figure(
        "evergate_ring_mismatches_total",
        Counter,
        &[],
        "Rings of nodes whose leases this control node holds that were another one than its own, of the same version; each once.",
        "Ever rising is a defect: the log output names the node. Report it.",
    )
    .with(Control),
    figure(
        "evergate_control_commands_total",
        Counter,
        &[one_of("outcome", &["done", "refused", "failed", "unknown"])],
        "Commands that were brought to this control node, of operators and of leases.",
        "`failed`: no leader, or no majority. `unknown`: look whether they were done before you repeat them.",
    )
    .with(Control),
    figure(
        "evergate_raft_term",
        Gauge,
        &[],
        "The term this node is in.",
        "Rising steadily: leaders do not last; look at the network and at `evergate_raft_fsync_seconds`.",
    )
    .with(Control),
    figure(
        "evergate_raft_elections_total",
        Counter,
        &[],
        "Terms that began while this node looked, by an election each.",
        "More than a few a day: leaders do not last; look at the network and at `evergate_raft_fsync_seconds`.",
    )
    .with(Control),
    figure(
        "evergate_raft_is_leader",
        Gauge,
        &[],
        "1 while this node leads.",
        "Summed over the group it is 1; 0 for seconds is an election.",
    )
    .with(Control),
    figure(
        "evergate_raft_has_leader",
        Gauge,
        &[],
        "1 while this node knows of a leader.",
        "0 for long: too few nodes reach each other; nothing can be changed, and streams go on.",
    )
    .with(Control),
    figure(
        "evergate_raft_last_entries",
        Gauge,
        &[],
        "Entries in this node's log.",
        "Grows with changes, of which there are few.",
    )
    .with(Control),
    figure(
        "evergate_raft_applied_entries",
        Gauge,
        &[],
        "Entries that this node has applied.",
        "Behind `evergate_raft_last_entries` for long: it catches up, or is stuck.",
    )
    .with(Control),
    figure(
        "evergate_raft_members",
        Gauge,
        &[],
        "Nodes of the group, learners included.",
        "Other than planned: finish the change of members.",
    )
    .with(Control),
    figure(
        "evergate_raft_quorum_silence_seconds",
        Gauge,
        &[],
        "How long ago a leader last heard from a majority.",
        "Towards the election time: it is about to lose its lead.",
    )
    .with(Control),
    figure(
        "evergate_raft_lag_entries",
        Gauge,
        &[],
        "How far the furthest member lies behind, as its leader knows.",
        "Rising: that node is away or slow.",
    )
    .with(Control),
    figure(
        "evergate_raft_fsync_seconds",
        Histogram,
        &[],
        "Writing and syncing one entry of the log.",
        "Above a tenth of the election time: give it a disk of its own.",
    )
    .with(Control),
    figure(
        "evergate_raft_strangers_total",
        Counter,
        &[],
        "Calls of the control group that were refused, as the caller's certificate is for no node of it.",
        "Above 0: a control node with a wrong certificate, which its log output names; or somebody with an edge's key tries to be one.",
    )
    .with(Control),
    figure(
        "evergate_control_connections_ended_total",
        Counter,
        &[one_of("reason", &["silent", "flood"])],
        "Connections to a control node ended for what their peer did: nothing for five seconds, or frame after frame that does nothing.",
        "`silent`: something that only opens ports, or an attack. `flood`: an attack.",
    )
    .with(Control),
];
