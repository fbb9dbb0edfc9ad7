//! What is printed: tables for people, the same in JSON for programs.

use evergate_domain::UnixMillis;
use evergate_domain::cluster::{Change, ClusterSettings, FORMAT, Lease, Node, Rings, StreamPolicy, View};
use evergate_proto::control::v1 as proto;
use serde_json::{Value, json};

use crate::printable::Printable;

/// Columns as wide as what stands in them.
fn table<const N: usize>(head: [&str; N], rows: Vec<[String; N]>) -> String {
    let rows: Vec<[String; N]> =
        rows.into_iter().map(|row| row.map(|cell| Printable(&cell).to_string())).collect();
    let width = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([head[column].len()]).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..N).map(width).collect();
    let mut text = String::new();
    for row in std::iter::once(head.map(str::to_owned)).chain(rows) {
        let cells = row.iter().zip(&widths).map(|(cell, width)| format!("{cell:width$}"));
        text.push_str(cells.collect::<Vec<_>>().join("  ").trim_end());
        text.push('\n');
    }
    text
}

/// What a node is doing, in a word.
pub(crate) fn state(node: &Node, view: &View) -> &'static str {
    let drain = view.drains().get(&node.name);
    match (node.lease, node.draining, drain) {
        (Lease::Lost, _, _) => "lost",
        (Lease::Held, true, Some(_)) => "draining",
        (Lease::Held, true, None) => "drained",
        (Lease::Held, false, Some(_)) => "to be drained",
        (Lease::Held, false, None) => "here",
    }
}

fn http(node: &Node) -> String {
    node.addresses.http.as_ref().map_or_else(|| "-".to_owned(), ToString::to_string)
}

pub(super) fn nodes(view: &View) -> String {
    let rows = view.nodes().values().map(|node| {
        [
            node.name.to_string(),
            node.role.as_str().to_owned(),
            node.region.to_string(),
            node.zone.to_string(),
            state(node, view).to_owned(),
            node.weight.to_string(),
            node.capacity.to_string(),
            node.version.clone(),
            http(node),
        ]
    });
    let head = ["NODE", "ROLE", "REGION", "ZONE", "STATE", "WEIGHT", "CAPACITY", "VERSION", "HTTP"];
    table(head, rows.collect())
}

pub(super) fn nodes_json(view: &View) -> Value {
    let nodes = view.nodes().values().map(|node| {
        json!({
            "node": node.name.as_str(),
            "role": node.role.as_str(),
            "region": node.region.as_str(),
            "zone": node.zone.as_str(),
            "state": state(node, view),
            "weight": node.weight.get(),
            "capacity": node.capacity,
            "admits_per_second": node.admits_per_second,
            "version": node.version,
            "format": node.format,
            "incarnation": node.incarnation,
            "http": node.addresses.http.as_ref().map(ToString::to_string),
            "grpc": node.addresses.grpc.as_ref().map(ToString::to_string),
            "admin": node.addresses.admin.as_ref().map(ToString::to_string),
        })
    });
    json!({ "version": view.version(), "nodes": nodes.collect::<Vec<_>>() })
}

pub(super) fn rings(rings: &Rings) -> String {
    let rows = rings.by_region().iter().flat_map(|(region, ring)| {
        ring.edges().map(|(edge, zone, weight)| {
            let share = format!("{:.1} %", ring.share(edge) * 100.0);
            [region.to_string(), edge.to_string(), zone.to_string(), weight.to_string(), share]
        })
    });
    let text = table(["REGION", "EDGE", "ZONE", "WEIGHT", "SHARE"], rows.collect());
    format!("{text}\nring version {}, digest {}\n", rings.version(), rings.digest())
}

pub(super) fn rings_json(rings: &Rings) -> Value {
    let regions = rings.by_region().iter().map(|(region, ring)| {
        let edges = ring.edges().map(|(edge, zone, weight)| {
            json!({
                "edge": edge.as_str(), "zone": zone.as_str(), "weight": weight.get(), "share": ring.share(edge),
            })
        });
        json!({
            "region": region.as_str(),
            "digest": ring.digest().to_string(),
            "edges": edges.collect::<Vec<_>>(),
        })
    });
    json!({
        "ring_version": rings.version(),
        "digest": rings.digest().to_string(),
        "regions": regions.collect::<Vec<_>>(),
    })
}

pub(super) fn status(status: &proto::StatusResponse, view: &View) -> String {
    let count = |is: &dyn Fn(&Node) -> bool| view.nodes().values().filter(|node| is(node)).count();
    let leader = if status.leader.is_empty() { "none: nothing can be changed" } else { &status.leader };
    let lines = [
        ("cluster", status.cluster.clone()),
        ("asked", status.node.clone()),
        ("leader", leader.to_owned()),
        ("view", format!("version {}, digest {:016x}", status.version, status.digest)),
        ("ring", format!("version {}, digest {:016x}", status.ring_version, status.ring_digest)),
        ("format", format_line(status.format, format_possible(view))),
        (
            "nodes",
            format!(
                "{}, of which {} take clients and {} are lost",
                view.nodes().len(),
                count(&Node::takes_clients),
                count(&|node| node.lease == Lease::Lost)
            ),
        ),
        (
            "rebalance",
            view.rebalance().map_or_else(
                || "none".to_owned(),
                |plan| format!("of {}, waits for {} edges", plan.region, plan.left.len()),
            ),
        ),
        (
            "drains",
            format!(
                "{} under way, {} waiting",
                view.drains().values().filter(|drain| drain.running).count(),
                view.drains().values().filter(|drain| !drain.running).count()
            ),
        ),
    ];
    lines.iter().map(|(what, is)| format!("{what:9} {}\n", Printable(is))).collect()
}

pub(super) fn status_json(status: &proto::StatusResponse, view: &View) -> Value {
    let drains = view
        .drains()
        .values()
        .map(|drain| json!({ "node": drain.node.as_str(), "running": drain.running, "order": drain.order }));
    json!({
        "cluster": status.cluster,
        "asked": status.node,
        "leader": Some(&status.leader).filter(|leader| !leader.is_empty()),
        "version": status.version,
        "digest": format!("{:016x}", status.digest),
        "ring_version": status.ring_version,
        "ring_digest": format!("{:016x}", status.ring_digest),
        "format": status.format,
        "format_possible": format_possible(view),
        "nodes": view.nodes().len(),
        "drains": drains.collect::<Vec<_>>(),
        "rebalance": view.rebalance().map(|plan| json!({
            "region": plan.region.as_str(),
            "plan": plan.plan,
            "waits_for": plan.left.iter().map(ToString::to_string).collect::<Vec<_>>(),
        })),
    })
}

/// The newest format that this program and all nodes of the view understand. What control nodes do is asked when it is
/// raised.
fn format_possible(view: &View) -> u32 {
    view.nodes().values().map(|node| node.format).fold(FORMAT, u32::min)
}

fn format_line(agreed: u32, possible: u32) -> String {
    if possible <= agreed {
        return agreed.to_string();
    }
    format!(
        "{agreed}; all nodes understand {possible}, and what it brings begins with `evergate cluster format {possible}`"
    )
}

fn bound(value: Option<u64>) -> String {
    value.map_or_else(|| "none".to_owned(), |value| value.to_string())
}

fn words(policy: &StreamPolicy) -> [String; 6] {
    let age_s = policy.retention.age.map(|age| age.as_secs());
    [
        bound(policy.retention.events),
        bound(policy.retention.bytes),
        bound(age_s),
        policy.level.as_str().to_owned(),
        format!("{:?}", policy.slow_reader),
        format!("{:?}", policy.after_degradation),
    ]
}

pub(super) fn policies(view: &View) -> String {
    let rows = view.policies().iter().map(|(stream, policy)| {
        let [events, bytes, age, level, slow, after] = words(policy);
        [stream.to_string(), events, bytes, age, level, slow, after]
    });
    let head = ["STREAM", "EVENTS", "BYTES", "AGE S", "LEVEL", "SLOW READER", "AFTER DEGRADATION"];
    let settings = numbers(view.settings()).map(|(name, number)| format!("{name:20} {number}\n"));
    format!("{}\n{}", table(head, rows.collect()), settings.concat())
}

pub(super) fn limits(view: &View) -> String {
    let rows = view
        .limits()
        .iter()
        .map(|(name, limit)| [name.clone(), limit.per_second.to_string(), limit.burst.to_string()]);
    table(["LIMIT", "PER SECOND", "BURST"], rows.collect())
}

pub(super) fn limits_json(view: &View) -> Value {
    let limits = view
        .limits()
        .iter()
        .map(|(name, limit)| json!({ "limit": name, "per_second": limit.per_second, "burst": limit.burst }));
    json!({ "limits": limits.collect::<Vec<_>>() })
}

/// What holds for the cluster, by name.
fn numbers(settings: &ClusterSettings) -> [(&'static str, u64); 7] {
    [
        ("lease_ms", settings.lease_ms.into()),
        ("hysteresis_ms", settings.hysteresis_ms.into()),
        ("drains_at_once", settings.drains_at_once.into()),
        ("drain_share_permille", settings.drain_share_permille.into()),
        ("bound_permille", settings.bound_permille.into()),
        ("retry_ms_max", settings.retry_ms_max.into()),
        ("rebalance_after_ms", settings.rebalance_after_ms.into()),
    ]
}

pub(super) fn regions(view: &View) -> String {
    let rows = view.regions().values().map(|region| {
        let zones: Vec<_> = region.zones.iter().map(ToString::to_string).collect();
        let host = region.public_host.clone().unwrap_or_else(|| "-".to_owned());
        [region.name.to_string(), host, zones.join(" ")]
    });
    table(["REGION", "HOST", "ZONES"], rows.collect())
}

pub(super) fn regions_json(view: &View) -> Value {
    let regions = view.regions().values().map(|region| {
        let zones: Vec<_> = region.zones.iter().map(ToString::to_string).collect();
        json!({ "region": region.name.as_str(), "host": region.public_host, "zones": zones })
    });
    regions.collect()
}

pub(super) fn policies_json(view: &View) -> Value {
    let policies = view.policies().iter().map(|(stream, policy)| {
        let [_, _, _, level, slow, after] = words(policy);
        json!({
            "stream": stream.as_str(),
            "events": policy.retention.events,
            "bytes": policy.retention.bytes,
            "age_s": policy.retention.age.map(|age| age.as_secs()),
            "level": level,
            "slow_reader": slow,
            "after_degradation": after,
        })
    });
    let cluster: serde_json::Map<_, _> =
        numbers(view.settings()).into_iter().map(|(name, number)| (name.to_owned(), number.into())).collect();
    json!({ "streams": policies.collect::<Vec<_>>(), "cluster": cluster })
}

fn standing(member: &proto::ControlMember, leader: u64) -> &'static str {
    match (member.id == leader, member.voter) {
        (true, _) => "leads",
        (false, true) => "votes",
        (false, false) => "follows",
    }
}

pub(super) fn members(group: &proto::MembersResponse) -> String {
    let rows = group.members.iter().map(|member| {
        [
            member.id.to_string(),
            member.address.clone(),
            standing(member, group.leader).to_owned(),
            member.matched.map_or_else(|| "-".to_owned(), |matched| matched.to_string()),
        ]
    });
    let text = table(["ID", "ADDRESS", "STANDING", "ENTRIES"], rows.collect());
    let proto::MembersResponse { asked, term, last, applied, .. } = group;
    let stopped = match group.stopped.as_str() {
        "" => String::new(),
        why => format!("node {asked} takes no part any more: {}\n", Printable(why)),
    };
    format!(
        "{text}\nterm {term}; node {asked} has {last} entries, of which {applied} have taken effect\n{stopped}"
    )
}

pub(super) fn members_json(group: &proto::MembersResponse) -> Value {
    let members = group.members.iter().map(|member| {
        json!({
            "id": member.id,
            "address": member.address,
            "standing": standing(member, group.leader),
            "entries": member.matched,
        })
    });
    json!({
        "asked": group.asked,
        "leader": Some(group.leader).filter(|leader| *leader > 0),
        "term": group.term,
        "last": group.last,
        "applied": group.applied,
        "snapshot": group.snapshot,
        "stopped": Some(&group.stopped).filter(|why| !why.is_empty()),
        "members": members.collect::<Vec<_>>(),
    })
}

/// All that is agreed on. What has no words of its own yet is written as a change.
pub(super) fn snapshot(view: &View, entries: &[proto::AuditEntry]) -> Value {
    json!({
        "version": view.version(),
        "digest": view.digest().to_string(),
        "nodes": nodes_json(view)["nodes"],
        "policies": policies_json(view),
        "limits": limits_json(view)["limits"],
        "regions": regions_json(view),
        "rings": rings_json(&Rings::of(view)),
        "all": view.contents().iter().map(change).collect::<Vec<_>>(),
        "audit": audit_json(entries),
    })
}

pub(super) fn audit(entries: &[proto::AuditEntry]) -> String {
    let rows = entries.iter().map(|entry| {
        [
            entry.version.to_string(),
            UnixMillis::new(entry.at_ms).to_string(),
            entry.by.clone(),
            entry.what.clone(),
        ]
    });
    table(["VERSION", "AT", "BY", "WHAT"], rows.collect())
}

pub(super) fn audit_json(entries: &[proto::AuditEntry]) -> Value {
    let entries = entries.iter().map(|entry| {
        json!({
            "version": entry.version,
            "at": UnixMillis::new(entry.at_ms).to_string(),
            "by": entry.by,
            "what": entry.what,
        })
    });
    entries.collect()
}

/// A change in a line.
pub(super) fn change(change: &Change) -> String {
    match change {
        Change::Format(format) => format!("format {format}"),
        Change::Settings(settings) => format!("{settings:?}"),
        Change::Region(region) => format!("region {}", region.name),
        Change::RegionGone(region) => format!("region {region} is gone"),
        Change::Node(node) => {
            let lease = match node.lease {
                Lease::Held => "here",
                Lease::Lost => "lost",
            };
            let draining = if node.draining { ", draining" } else { "" };
            format!(
                "{} {} ({}/{}, weight {}) is {lease}{draining}",
                node.role.as_str(),
                node.name,
                node.region,
                node.zone,
                node.weight
            )
        }
        Change::NodeGone(node) => format!("node {node} is gone"),
        Change::Slot(number, slot) => match slot.open() {
            Some(open) => {
                format!("slot {} is at home in {} in epoch {}", number.get(), open.home, open.epoch)
            }
            None => format!("slot {} has no home", number.get()),
        },
        Change::Policy(stream, policy) => format!("policy of {stream}: {policy:?}"),
        Change::PolicyGone(stream) => format!("policy of {stream} is gone"),
        Change::Drain(drain) if drain.running => format!("drain of {} begins", drain.node),
        Change::Drain(drain) => format!("drain of {} waits", drain.node),
        Change::DrainOver(node) => format!("drain of {node} is over"),
        Change::Breaker(name, breaker) => format!("breaker {name:?}: {breaker:?}"),
        Change::BreakerGone(name) => format!("breaker {name:?} is gone"),
        Change::Limit(name, limit) => format!("limit {name:?}: {limit:?}"),
        Change::LimitGone(name) => format!("limit {name:?} is gone"),
        Change::Canary(canary) => format!("{canary:?}"),
        Change::Rebalance(plan) => format!("rebalance of {} begins", plan.region),
        Change::RebalanceDone(node) => format!("{node} has sent away whom the rebalance wanted elsewhere"),
        Change::RebalanceOver => "the rebalance is over".to_owned(),
        Change::Balanced(region) => format!("clients of {region} are sent where they belong"),
    }
}
