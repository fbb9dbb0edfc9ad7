//! Rules between settings, checked on the finished stack of layers.

use std::fmt::Display;

use super::layer::{Key, Layer, Written};
use super::mistake::{Mistake, Place};
use super::value::{LogChoice, Value};

mod tls;

/// Pairs of which the first must not be more than the second.
const ORDERED: [(&str, &str); 6] = [
    ("sse.retry_min", "sse.retry_max"),
    ("sse.busy_retry_min", "sse.busy_retry_max"),
    ("publish.payload_bytes_max", "publish.batch_bytes_max"),
    ("shutdown.drain", "shutdown.deadline"),
    ("control.heartbeat", "control.election_min"),
    ("control.election_min", "control.election_max"),
];

const LISTENERS: [&str; 3] = ["http.address", "grpc.address", "admin.address"];

/// Notes every rule that is broken. A setting whose own value is mistaken breaks none.
pub(crate) fn check(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    for (low, high) in ORDERED {
        ordered(stack, low, high, mistakes);
    }
    for (index, second) in LISTENERS.iter().enumerate() {
        for first in &LISTENERS[..index] {
            distinct(stack, first, second, mistakes);
        }
    }
    some_stream(stack, mistakes);
    some_proxy(stack, mistakes);
    others_only(stack, mistakes);
    shared_log(stack, mistakes);
    replicated_log(stack, mistakes);
    keys_for_tokens(stack, mistakes);
    safe_cookie(stack, mistakes);
    located_clients(stack, mistakes);
    tls::check(stack, mistakes);
}

/// Rules that could never hold.
fn located_clients(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, file, control) = ("cluster.geography", "cluster.geoip_file", "cluster.control");
    let Some((Value::List(rules), place)) = get(stack, key) else { return };
    if rules.is_empty() {
        return;
    }
    if let Some((Value::List(controls), _)) = get(stack, control)
        && controls.is_empty()
    {
        let message = format!("says where clients belong in a cluster, and {control} names none");
        mistakes.push(Mistake::new(place.clone(), key, message));
    } else if let Some((Value::Path(None), _)) = get(stack, file)
        && rules.iter().any(|rule| rule.starts_with("country:") || rule.starts_with("continent:"))
    {
        let message = format!("countries and continents are known by {file} only, which is not given");
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

fn ordered(stack: &Layer, low: &'static str, high: &'static str, mistakes: &mut Vec<Mistake>) {
    let (Some((low_value, low_place)), Some((high_value, high_place))) = (get(stack, low), get(stack, high))
    else {
        return;
    };
    if quantity(low_value) <= quantity(high_value) {
        return;
    }
    // Blamed on the one that was written: a default is nobody's mistake.
    if *low_place == Place::Default {
        let message = format!("{high_value} is less than {low} ({})", cited(low_value, low_place));
        mistakes.push(Mistake::new(high_place.clone(), high, message));
    } else {
        let message = format!("{low_value} is more than {high} ({})", cited(high_value, high_place));
        mistakes.push(Mistake::new(low_place.clone(), low, message));
    }
}

fn distinct(stack: &Layer, first: &'static str, second: &'static str, mistakes: &mut Vec<Mistake>) {
    let (
        Some((Value::Address(first_address), first_place)),
        Some((Value::Address(second_address), second_place)),
    ) = (get(stack, first), get(stack, second))
    else {
        return;
    };
    if first_address != second_address || first_address.port() == 0 {
        return;
    }
    if *second_place == Place::Default {
        let message = format!("the same address as {second} ({})", cited(second_address, second_place));
        mistakes.push(Mistake::new(first_place.clone(), first, message));
    } else {
        let message = format!("the same address as {first} ({})", cited(first_address, first_place));
        mistakes.push(Mistake::new(second_place.clone(), second, message));
    }
}

fn some_stream(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let key = "streams.create";
    if let Some((Value::Switch(false), place)) = get(stack, key)
        && stack.streams().next().is_none()
    {
        let message = "false, but no [streams.\"name\"] table lists a stream, so none could exist";
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

fn some_proxy(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, proxies) = ("http.proxy_protocol", "http.trusted_proxies");
    if let Some((Value::Choice(choice), place)) = get(stack, key)
        && *choice != "off"
        && let Some((Value::Networks(trusted), _)) = get(stack, proxies)
        && trusted.is_empty()
    {
        let message = format!("{choice}, but {proxies} is empty, so nobody would be believed");
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

/// A node that is its own peer would pass calls on to itself.
fn others_only(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, own) = ("cluster.peers", "node");
    if let Some((Value::Peers(peers), place)) = get(stack, key)
        && let Some((Value::Name(node), node_place)) = get(stack, own)
        && peers.iter().any(|peer| peer.node == *node)
    {
        let message = format!("names this node itself, {} ({})", node, cited(own, node_place));
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

/// During an upgrade two processes use the log.
fn shared_log(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, log) = ("upgrade.socket", "log");
    let Some((Value::Path(Some(_)), place)) = get(stack, key) else { return };
    let Some((Value::Log(choice), log_place)) = get(stack, log) else { return };
    let why = match choice {
        LogChoice::Memory => "what is in the memory of one process no successor can take over",
        LogChoice::Disk(_) => {
            "a log on the disk is one process's at a time; let systemd hold the listeners instead, see operating/upgrade.md"
        }
        LogChoice::Redis(_) => return,
    };
    let message = format!("needs a log in Redis, but {log} is {}: {why}", cited(choice, log_place));
    mistakes.push(Mistake::new(place.clone(), key, message));
}

/// No other log has replicas.
fn replicated_log(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let Some((Value::Log(choice), log_place)) = get(stack, "log") else { return };
    if matches!(choice, LogChoice::Redis(_)) {
        return;
    }
    for stream in stack.streams() {
        let key = Key::OfStream { stream: stream.clone(), name: "level" };
        if let Some(Written { value: Some(Value::Choice(level)), place }) = stack.get(&key)
            && *level != "HOME"
        {
            let message = format!("{level} needs a log in Redis, but log is {}", cited(choice, log_place));
            mistakes.push(Mistake::new(place.clone(), key.to_string(), message));
        }
    }
}

/// Without a key nobody could be let in, and with keys that nobody asks for somebody thinks it is safe.
fn keys_for_tokens(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (mode, keys) = ("access.mode", "access.keys");
    let Some((Value::Choice(choice), place)) = get(stack, mode) else { return };
    let Some((Value::List(sources), keys_place)) = get(stack, keys) else { return };
    if *choice == "tokens" && sources.is_empty() {
        let message = format!("tokens, but {keys} is empty, so nobody could be let in");
        mistakes.push(Mistake::new(place.clone(), mode, message));
    }
    if *choice == "open" && !sources.is_empty() {
        let message =
            format!("there are keys, but {mode} is {}, so nobody is asked for a token", cited(choice, place));
        mistakes.push(Mistake::new(keys_place.clone(), keys, message));
    }
}

/// A browser takes a cookie with such a name only from a page that came by TLS.
fn safe_cookie(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let key = "access.cookie";
    if let Some((Value::Name(name), place)) = get(stack, key)
        && !name.is_empty()
        && !name.starts_with("__Host-")
        && !name.starts_with("__Secure-")
    {
        let message = format!(
            "{name:?} does not begin with \"__Host-\" or \"__Secure-\", so browsers would send it over plain HTTP, too"
        );
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

fn get<'a>(stack: &'a Layer, key: &'static str) -> Option<(&'a Value, &'a Place)> {
    match stack.get(&Key::General(key)) {
        Some(Written { value: Some(value), place }) => Some((value, place)),
        Some(Written { value: None, .. }) | None => None,
    }
}

fn quantity(value: &Value) -> Option<u128> {
    match value {
        Value::Duration(duration) => Some(duration.as_millis()),
        Value::Size(number) | Value::Count(number) => Some(u128::from(*number)),
        Value::Name(_)
        | Value::Address(_)
        | Value::Switch(_)
        | Value::Choice(_)
        | Value::Origins(_)
        | Value::Networks(_)
        | Value::Peers(_)
        | Value::Server(_)
        | Value::Log(_)
        | Value::Directives(_)
        | Value::List(_)
        | Value::Path(_)
        | Value::Paths(_)
        | Value::Producers(_) => None,
    }
}

/// A value of another setting, with where it comes from.
fn cited(value: impl Display, place: &Place) -> String {
    format!("{value}, {place}")
}
