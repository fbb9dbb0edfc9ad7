//! Rules between the settings of TLS. What is in the files is not looked at here.

use super::{Mistake, Place, cited, get};
use crate::config::layer::Layer;
use crate::config::value::Value;

const CERTIFICATES: &str = "tls.certificate_files";
const KEYS: &str = "tls.key_files";

/// The listeners that can speak TLS: the switch, what is asked of clients, and by which roots.
const LISTENERS: [[&str; 3]; 2] = [
    ["http.tls", "http.client_certificates", "http.client_ca_file"],
    ["grpc.tls", "grpc.client_certificates", "grpc.client_ca_file"],
];

/// Notes every rule that is broken.
pub(super) fn check(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    pairs(stack, mistakes);
    for [switch, asked, ca] in LISTENERS {
        secured(stack, switch, mistakes);
        asking(stack, [switch, asked, ca], mistakes);
    }
    somebody(stack, mistakes);
    resumption(stack, mistakes);
    early_data(stack, mistakes);
    cluster(stack, mistakes);
    producers(stack, mistakes);
}

fn pairs(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (Some((certificates, place)), Some((keys, keys_place))) =
        (paths(stack, CERTIFICATES), paths(stack, KEYS))
    else {
        return;
    };
    if certificates == keys {
        return;
    }
    let (key, place, other) =
        if certificates > 0 { (CERTIFICATES, place, KEYS) } else { (KEYS, keys_place, CERTIFICATES) };
    let message = format!(
        "{certificates} certificates and {keys} keys: each certificate needs its key at the same place of {other}"
    );
    mistakes.push(Mistake::new(place.clone(), key, message));
}

/// TLS without a certificate.
fn secured(stack: &Layer, switch: &'static str, mistakes: &mut Vec<Mistake>) {
    if let Some((true, place)) = on(stack, switch)
        && let Some((0, _)) = paths(stack, CERTIFICATES)
    {
        let message = format!("on, but {CERTIFICATES} names no certificate to show");
        mistakes.push(Mistake::new(place.clone(), switch, message));
    }
}

/// Clients that are to prove themselves where they cannot, or by nobody's word.
fn asking(stack: &Layer, [switch, asked, ca]: [&'static str; 3], mistakes: &mut Vec<Mistake>) {
    let (Some((choice, place)), Some((Value::Path(roots), roots_place)), Some((secured, _))) =
        (choice(stack, asked), get(stack, ca), on(stack, switch))
    else {
        return;
    };
    match (choice, roots, secured) {
        ("off", Some(_), _) => {
            let message = format!("nobody would be judged by it, as {asked} is off");
            mistakes.push(Mistake::new(roots_place.clone(), ca, message));
        }
        ("off", None, _) | (_, Some(_), true) => {}
        (_, _, false) => {
            let message = format!("{choice}, but clients can show a certificate only where {switch} is on");
            mistakes.push(Mistake::new(place.clone(), asked, message));
        }
        (_, None, true) => {
            let message = format!("{choice}, but {ca} names nobody whose certificates are believed");
            mistakes.push(Mistake::new(place.clone(), asked, message));
        }
    }
}

/// Certificates that nobody would ever be shown.
fn somebody(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    if let Some((1.., place)) = paths(stack, CERTIFICATES)
        && LISTENERS.iter().all(|[switch, ..]| matches!(on(stack, switch), Some((false, _))))
    {
        let switches: Vec<_> = LISTENERS.iter().map(|[switch, ..]| format!("{switch} = \"on\"")).collect();
        let message = format!("nobody would be shown it; write {}", switches.join(" or "));
        mistakes.push(Mistake::new(place.clone(), CERTIFICATES, message));
    }
}

/// Secrets for tickets that are not given out.
fn resumption(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, how) = ("tls.ticket_secrets_file", "tls.resumption");
    if let Some((Value::Path(Some(_)), place)) = get(stack, key)
        && let Some((chosen, chosen_place)) = choice(stack, how)
        && chosen != "tickets"
    {
        let message = format!("no tickets are given out, as {how} is {}", cited(chosen, chosen_place));
        mistakes.push(Mistake::new(place.clone(), key, message));
    }
}

/// Early data that could be taken twice, or never.
fn early_data(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let (key, how) = ("tls.early_data_bytes_max", "tls.resumption");
    let Some((Value::Size(1..), place)) = get(stack, key) else { return };
    let Some((chosen, chosen_place)) = choice(stack, how) else { return };
    let why = match chosen {
        "sessions" => return,
        "tickets" => {
            "a ticket is good at every edge and as often as it is shown, so early data that was recorded could be taken again"
        }
        _ => "nobody comes back with a session then, and nobody else has early data",
    };
    let chosen = cited(chosen, chosen_place);
    let message = format!("{how} is {chosen}: {why}; it needs {how} = \"sessions\"");
    mistakes.push(Mistake::new(place.clone(), key, message));
}

/// Nodes that could not prove themselves to each other.
fn cluster(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    let [ca, certificate, key] = ["cluster.ca_file", "cluster.certificate_file", "cluster.key_file"];
    let (Some(has_ca), Some(has_certificate), Some(has_key)) =
        (path(stack, ca), path(stack, certificate), path(stack, key))
    else {
        return;
    };
    let halves = [(certificate, has_certificate, key, has_key), (key, has_key, certificate, has_certificate)];
    for (this, (given, place), other, (other_given, _)) in halves {
        if given && !other_given {
            mistakes.push(Mistake::new(place.clone(), this, format!("is of no use without {other}")));
        }
    }
    if has_ca.0 && matches!(on(stack, "grpc.tls"), Some((false, _))) {
        let message = "nodes can show a certificate only where grpc.tls is on";
        mistakes.push(Mistake::new(has_ca.1.clone(), ca, message));
    }
    if !has_ca.0
        && let Some((Value::Peers(peers), place)) = get(stack, "cluster.peers")
        && let Some(peer) = peers.iter().find(|peer| peer.grpc.scheme_str() == Some("https"))
    {
        let message = format!("{}: without {ca} there is nobody who vouches for it", peer.node);
        mistakes.push(Mistake::new(place.clone(), "cluster.peers", message));
    }
    let key = "cluster.control";
    if let Some((Value::List(places), place)) = get(stack, key) {
        let secured = places.iter().filter(|place| place.starts_with("https:")).count();
        if secured > 0 && !has_ca.0 {
            let message = format!("without {ca} there is nobody who vouches for control nodes");
            mistakes.push(Mistake::new(place.clone(), key, message));
        }
        if secured > 0 && secured < places.len() {
            let message = "some speak TLS and some do not: a group of control nodes does all of it or none";
            mistakes.push(Mistake::new(place.clone(), key, message));
        }
    }
}

/// Producers bound to certificates that nobody is asked for.
fn producers(stack: &Layer, mistakes: &mut Vec<Mistake>) {
    if let Some((Value::Producers(producers), place)) = get(stack, "publish.producers")
        && !producers.is_empty()
        && LISTENERS.iter().all(|[_, asked, _]| matches!(choice(stack, asked), Some(("off", _))))
    {
        let asked: Vec<_> = LISTENERS.iter().map(|[_, asked, _]| *asked).collect();
        let message = format!("nobody is asked for a certificate, as {} are off", asked.join(" and "));
        mistakes.push(Mistake::new(place.clone(), "publish.producers", message));
    }
}

/// Whether a path is given.
fn path<'a>(stack: &'a Layer, key: &'static str) -> Option<(bool, &'a Place)> {
    match get(stack, key)? {
        (Value::Path(path), place) => Some((path.is_some(), place)),
        _ => None,
    }
}

fn paths<'a>(stack: &'a Layer, key: &'static str) -> Option<(usize, &'a Place)> {
    match get(stack, key)? {
        (Value::Paths(paths), place) => Some((paths.len(), place)),
        _ => None,
    }
}

fn choice<'a>(stack: &'a Layer, key: &'static str) -> Option<(&'static str, &'a Place)> {
    match get(stack, key)? {
        (Value::Choice(choice), place) => Some((choice, place)),
        _ => None,
    }
}

fn on<'a>(stack: &'a Layer, key: &'static str) -> Option<(bool, &'a Place)> {
    choice(stack, key).map(|(choice, place)| (choice == "on", place))
}
