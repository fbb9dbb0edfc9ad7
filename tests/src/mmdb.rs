//! A small database of addresses in MaxMind's form (version 2.0 of its public specification), with what a
//! test says of networks.

use std::collections::BTreeMap;
use std::net::IpAddr;

/// What a value can be here.
enum Value<'a> {
    Text(&'a str),
    /// Of 16, 32 or 64 bits, as the specification wants each.
    Number(Width, u64),
    Map(Vec<(&'a str, Value<'a>)>),
    List(Vec<Value<'a>>),
}

#[derive(Clone, Copy)]
enum Width {
    Bits16,
    Bits32,
    Bits64,
}

/// A node of the tree: where a bit that is 0, and one that is 1, leads.
type Node = [Option<Next>; 2];

#[derive(Clone, Copy)]
enum Next {
    Node(usize),
    /// Where its record begins in the data.
    Record(usize),
}

/// Between the tree and the data.
const SEPARATOR: [u8; 16] = [0; 16];
const MARKER: &[u8] = b"\xab\xcd\xefMaxMind.com";
/// IPv4 addresses are those of IPv6 below `::/96`.
const IPV4_BITS: usize = 96;

/// A database in which each network (an address and the length of its prefix) has a country and a continent.
#[must_use]
pub fn database(networks: &[(&str, u8, &str, &str)]) -> Vec<u8> {
    let mut nodes: Vec<Node> = vec![[None; 2]];
    let mut data = Vec::new();
    let mut known = BTreeMap::new();
    for &(address, prefix, country, continent) in networks {
        let record = *known.entry((country, continent)).or_insert_with(|| {
            let at = data.len();
            let record = Value::Map(vec![
                ("country", Value::Map(vec![("iso_code", Value::Text(country))])),
                ("continent", Value::Map(vec![("code", Value::Text(continent))])),
            ]);
            encode(&record, &mut data);
            at
        });
        let bits = bits_of(address.parse().expect("an address"), usize::from(prefix));
        let mut at = 0;
        for (depth, &bit) in bits.iter().enumerate() {
            if depth + 1 == bits.len() {
                nodes[at][bit] = Some(Next::Record(record));
                break;
            }
            at = match nodes[at][bit] {
                Some(Next::Node(next)) => next,
                Some(Next::Record(_)) => panic!("{address}/{prefix} lies in a network that came before"),
                None => {
                    nodes.push([None; 2]);
                    let next = nodes.len() - 1;
                    nodes[at][bit] = Some(Next::Node(next));
                    next
                }
            };
        }
    }
    let count = nodes.len();
    let mut file = Vec::new();
    for node in nodes {
        for next in node {
            let record = match next {
                None => count,
                Some(Next::Node(node)) => node,
                Some(Next::Record(at)) => count + SEPARATOR.len() + at,
            };
            let bytes = u32::try_from(record).expect("a small database").to_be_bytes();
            file.extend_from_slice(&bytes[1..]);
        }
    }
    file.extend_from_slice(&SEPARATOR);
    file.extend_from_slice(&data);
    file.extend_from_slice(MARKER);
    let about = Value::Map(vec![
        ("binary_format_major_version", Value::Number(Width::Bits16, 2)),
        ("binary_format_minor_version", Value::Number(Width::Bits16, 0)),
        ("build_epoch", Value::Number(Width::Bits64, 1_700_000_000)),
        ("database_type", Value::Text("Test-Country")),
        ("description", Value::Map(vec![("en", Value::Text("of a test"))])),
        ("ip_version", Value::Number(Width::Bits16, 6)),
        ("languages", Value::List(vec![Value::Text("en")])),
        ("node_count", Value::Number(Width::Bits32, count as u64)),
        ("record_size", Value::Number(Width::Bits16, 24)),
    ]);
    encode(&about, &mut file);
    file
}

fn bits_of(address: IpAddr, prefix: usize) -> Vec<usize> {
    let (bytes, before) = match address {
        IpAddr::V4(address) => (address.octets().to_vec(), IPV4_BITS),
        IpAddr::V6(address) => (address.octets().to_vec(), 0),
    };
    let bits = bytes.iter().flat_map(|byte| (0..8).rev().map(move |bit| usize::from(byte >> bit & 1)));
    std::iter::repeat_n(0, before).chain(bits.take(prefix)).collect()
}

/// A control byte says the type and the size; types above 7 stand in a byte of their own.
fn encode(value: &Value<'_>, into: &mut Vec<u8>) {
    match value {
        Value::Text(text) => {
            head(2, text.len(), into);
            into.extend_from_slice(text.as_bytes());
        }
        Value::Number(width, number) => {
            // Fewer digits are fewer bytes.
            let bytes: Vec<u8> = number.to_be_bytes().into_iter().skip_while(|byte| *byte == 0).collect();
            let kind = match width {
                Width::Bits16 => 5,
                Width::Bits32 => 6,
                Width::Bits64 => 9,
            };
            head(kind, bytes.len(), into);
            into.extend_from_slice(&bytes);
        }
        Value::Map(entries) => {
            head(7, entries.len(), into);
            for (key, value) in entries {
                encode(&Value::Text(key), into);
                encode(value, into);
            }
        }
        Value::List(values) => {
            head(11, values.len(), into);
            values.iter().for_each(|value| encode(value, into));
        }
    }
}

fn head(kind: u8, size: usize, into: &mut Vec<u8>) {
    let size = u8::try_from(size).expect("a small value");
    assert!(size < 29, "a value of this size has a longer head");
    if kind <= 7 {
        into.push(kind << 5 | size);
    } else {
        into.extend_from_slice(&[size, kind - 7]);
    }
}
