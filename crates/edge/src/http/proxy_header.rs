//! The PROXY protocol, versions 1 and 2: what a balancer says about a connection before its first byte.
//!
//! Pure. Whether the one who says so is to be believed is not decided here.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// What version 1 begins with.
const TEXT: &[u8] = b"PROXY ";

/// The longest line of version 1, its end included.
const TEXT_BYTES_MAX: usize = 107;

/// What version 2 begins with; nothing else that is spoken here does.
const SIGNATURE: &[u8] = b"\r\n\r\n\0\r\nQUIT\n";

/// Signature, command, family, length.
const BINARY_HEAD_BYTES: usize = 16;

/// What of version 2 is read at all. Beside two addresses there are only certificates of the client's
/// that anybody would put into it, and nobody here asks for those.
pub(crate) const BYTES_MAX: usize = 4096;

/// What the first bytes of a connection are.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Begins {
    /// With a whole header of this many bytes. `None`: it is the balancer's own connection, or from
    /// somewhere without an address.
    With { bytes: usize, source: Option<IpAddr> },
    /// With something that may yet become one.
    Unfinished,
    /// With something else.
    Without,
    /// With a header that is wrong.
    Wrong(&'static str),
}

/// Judges the first bytes of a connection.
pub(crate) fn judge(seen: &[u8]) -> Begins {
    if seen.starts_with(SIGNATURE) {
        binary(seen)
    } else if seen.starts_with(TEXT) {
        text(seen)
    } else if SIGNATURE.starts_with(seen) || TEXT.starts_with(seen) {
        Begins::Unfinished
    } else {
        Begins::Without
    }
}

fn text(seen: &[u8]) -> Begins {
    let within = &seen[..seen.len().min(TEXT_BYTES_MAX)];
    let Some(end) = within.windows(2).position(|pair| pair == b"\r\n") else {
        return if seen.len() < TEXT_BYTES_MAX {
            Begins::Unfinished
        } else {
            Begins::Wrong("a line without end")
        };
    };
    let bytes = end + 2;
    let Ok(line) = std::str::from_utf8(&seen[TEXT.len()..end]) else {
        return Begins::Wrong("a line that is no text");
    };
    let words: Vec<_> = line.split(' ').collect();
    let source = match words[..] {
        // Whatever else stands there is to be passed over.
        ["UNKNOWN", ..] => return Begins::With { bytes, source: None },
        ["TCP4", source, destination, from, to] => {
            let read = |text: &str| text.parse::<Ipv4Addr>().ok().map(IpAddr::from);
            read(source).filter(|_| read(destination).is_some() && is_port(from) && is_port(to))
        }
        ["TCP6", source, destination, from, to] => {
            let read = |text: &str| text.parse::<Ipv6Addr>().ok().map(IpAddr::from);
            read(source).filter(|_| read(destination).is_some() && is_port(from) && is_port(to))
        }
        _ => None,
    };
    match source {
        Some(source) => Begins::With { bytes, source: Some(source) },
        None => Begins::Wrong("a line of another form"),
    }
}

fn is_port(text: &str) -> bool {
    text.bytes().all(|byte| byte.is_ascii_digit()) && text.parse::<u16>().is_ok()
}

fn binary(seen: &[u8]) -> Begins {
    let Some((head, rest)) = seen.split_first_chunk::<BINARY_HEAD_BYTES>() else { return Begins::Unfinished };
    let [command, family] = [head[12], head[13]];
    let length = usize::from(u16::from_be_bytes([head[14], head[15]]));
    let bytes = BINARY_HEAD_BYTES + length;
    if bytes > BYTES_MAX {
        return Begins::Wrong("more than is read");
    }
    let Some(block) = rest.get(..length) else { return Begins::Unfinished };
    let source = match (command, family) {
        // LOCAL: the balancer itself, asking after our health.
        (0x20, _) => None,
        (0x21, 0x11) => match block.first_chunk::<12>() {
            Some(&[a, b, c, d, ..]) => Some(Ipv4Addr::new(a, b, c, d).into()),
            None => return Begins::Wrong("too short for its addresses"),
        },
        (0x21, 0x21) => match block.first_chunk::<36>().and_then(|both| both.first_chunk::<16>()) {
            Some(source) => Some(Ipv6Addr::from_octets(*source).into()),
            None => return Begins::Wrong("too short for its addresses"),
        },
        // An unknown family or a socket of the system's own.
        (0x21, 0x00 | 0x31) => None,
        (0x21, _) => return Begins::Wrong("a family that is not spoken here"),
        _ => return Begins::Wrong("a version or command that does not exist"),
    };
    Begins::With { bytes, source }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn with(bytes: usize, source: &str) -> Begins {
        Begins::With { bytes, source: source.parse().ok() }
    }

    /// A header of version 2.
    fn v2(command: u8, family: u8, block: &[u8]) -> Vec<u8> {
        let length = u16::try_from(block.len()).expect("short").to_be_bytes();
        [SIGNATURE, &[command, family], &length, block].concat()
    }

    #[test]
    fn lines_are_read_as_the_standard_writes_them() {
        for (line, source) in [
            ("PROXY TCP4 192.0.2.1 198.51.100.1 56324 443\r\n", "192.0.2.1"),
            ("PROXY TCP6 2001:db8::1 2001:db8::2 1 65535\r\n", "2001:db8::1"),
            ("PROXY UNKNOWN\r\n", ""),
            ("PROXY UNKNOWN ffff:f...f:ffff ffff:f...f:ffff 65535 65535\r\n", ""),
        ] {
            assert_eq!(judge(line.as_bytes()), with(line.len(), source), "{line}");
            let followed = [line, "GET / HTTP/1.1\r\n\r\n"].concat();
            assert_eq!(judge(followed.as_bytes()), with(line.len(), source), "{line}");
        }
    }

    #[test]
    fn binary_headers_are_read_as_the_standard_writes_them() {
        let v4 = [192, 0, 2, 1, 198, 51, 100, 1, 0, 80, 1, 187];
        let header = v2(0x21, 0x11, &v4);
        assert_eq!(judge(&header), with(28, "192.0.2.1"));
        let and_more = v2(0x21, 0x11, &[&v4[..], &[4, 0, 1, 0]].concat());
        assert_eq!(judge(&and_more), with(32, "192.0.2.1"), "what follows the addresses is passed over");
        let source = "2001:db8::1".parse::<Ipv6Addr>().expect("an address").octets();
        assert_eq!(judge(&v2(0x21, 0x21, &[&source[..], &[0; 20]].concat())), with(52, "2001:db8::1"));
        assert_eq!(judge(&v2(0x20, 0, &[])), with(16, ""));
        assert_eq!(judge(&v2(0x20, 0x11, &v4)), with(28, ""), "LOCAL has no client, whatever it says");
        assert_eq!(judge(&v2(0x21, 0x31, &[0; 216])), with(232, ""));
    }

    #[test]
    fn what_is_wrong_is_wrong_and_not_waited_for() {
        for line in [
            "PROXY TCP4 192.0.2.1 198.51.100.1 56324\r\n",
            "PROXY TCP4 192.0.2.1  198.51.100.1 1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 +1 2\r\n",
            "PROXY TCP4 192.0.2.1 198.51.100.1 1 65536\r\n",
            "PROXY TCP4 2001:db8::1 2001:db8::2 1 2\r\n",
            "PROXY TCP4 192.0.2.001 198.51.100.1 1 2\r\n",
            "PROXY UDP4 192.0.2.1 198.51.100.1 1 2\r\n",
            "PROXY \r\n",
        ] {
            assert!(matches!(judge(line.as_bytes()), Begins::Wrong(_)), "{line}");
        }
        assert!(matches!(judge(&[b"PROXY TCP4 ", &[b'1'; 200][..]].concat()), Begins::Wrong(_)));
        for wrong in [
            v2(0x21, 0x11, &[0; 11]),
            v2(0x21, 0x21, &[0; 35]),
            v2(0x22, 0x11, &[0; 12]),
            v2(0x11, 0x11, &[0; 12]),
            v2(0x21, 0x12, &[0; 12]),
        ] {
            assert!(matches!(judge(&wrong), Begins::Wrong(_)), "{wrong:?}");
        }
        // Refused before anybody waits for all of it.
        let long = [SIGNATURE, &[0x21, 0x11, 0xff, 0xff]].concat();
        assert!(matches!(judge(&long), Begins::Wrong(_)));
    }

    proptest! {
        #[test]
        fn any_bytes_are_judged(bytes: Vec<u8>, kind in 0..3) {
            let prefix = [&b""[..], TEXT, SIGNATURE][usize::try_from(kind).expect("small")];
            let seen = [prefix, &bytes].concat();
            if let Begins::With { bytes, .. } = judge(&seen) {
                prop_assert!(bytes <= seen.len() && bytes <= BYTES_MAX);
            }
        }

        /// A judgement is final: more bytes never change it, fewer never contradict it.
        #[test]
        fn where_it_is_cut_changes_nothing(source: [u8; 12], binary: bool, more: Vec<u8>) {
            let header = if binary {
                v2(0x21, 0x11, &source)
            } else {
                format!("PROXY TCP4 {} 192.0.2.9 {} 443\r\n", Ipv4Addr::new(source[0], source[1], source[2], source[3]), source[4]).into_bytes()
            };
            let whole = judge(&header);
            let right = Some(IpAddr::from([source[0], source[1], source[2], source[3]]));
            prop_assert_eq!(whole, Begins::With { bytes: header.len(), source: right });
            for cut in 0..header.len() {
                prop_assert_eq!(judge(&header[..cut]), Begins::Unfinished);
            }
            prop_assert_eq!(judge(&[&header[..], &more].concat()), whole);
        }
    }
}
