//! The hops that proxies note in a request: `X-Forwarded-For`, or `Forwarded` (RFC 7239).
//!
//! Pure. Which of the two the proxies here write has to be told, and only that one is read: a proxy
//! passes the other one on as the client sent it. Which hop is believed is not decided here.

use std::net::{IpAddr, Ipv6Addr, SocketAddr, SocketAddrV6};

use http::{HeaderMap, header};

use crate::config::ForwardedHeader;

const X_FORWARDED_FOR: &str = "x-forwarded-for";

/// The hops, the nearest first. `None` is one that its teller did not know or that cannot be read.
pub(crate) fn hops(headers: &HeaderMap, which: ForwardedHeader) -> Vec<Option<IpAddr>> {
    let mut hops = Vec::new();
    match which {
        ForwardedHeader::None => {}
        ForwardedHeader::XForwardedFor => {
            // Several fields are one list, in their order.
            for value in headers.get_all(X_FORWARDED_FOR) {
                match value.to_str() {
                    Ok(text) => hops.extend(text.split(',').map(|hop| node(hop.trim()))),
                    Err(_) => hops.push(None),
                }
            }
        }
        ForwardedHeader::Forwarded => {
            for value in headers.get_all(header::FORWARDED) {
                match value.to_str().ok().and_then(elements) {
                    Some(elements) => hops.extend(elements),
                    // Where its elements begin and end, nobody can say.
                    None => hops.push(None),
                }
            }
        }
    }
    hops.reverse();
    hops
}

/// The `for=` of each element of a `Forwarded` field; `None` if it is malformed.
fn elements(text: &str) -> Option<Vec<Option<IpAddr>>> {
    let mut hops = vec![None];
    // Whether the element has its `for=`: a second one would be somebody else's.
    let mut told = false;
    let mut rest = text.trim();
    loop {
        rest = rest.trim_start();
        if let Some((name, behind)) = rest.split_once('=').filter(|(name, _)| is_token(name)) {
            let (value, behind) = value(behind)?;
            if name.eq_ignore_ascii_case("for") {
                if told {
                    return None;
                }
                told = true;
                *hops.last_mut()? = node(&value);
            }
            rest = behind.trim_start();
        }
        match rest.as_bytes().first() {
            None => return Some(hops),
            Some(b';') => {}
            Some(b',') => {
                hops.push(None);
                told = false;
            }
            Some(_) => return None,
        }
        rest = &rest[1..];
    }
}

/// A token or a quoted string, and what is behind it.
fn value(text: &str) -> Option<(String, &str)> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find([';', ',', ' ', '\t']).unwrap_or(text.len());
        let (token, rest) = text.split_at(end);
        return is_token(token).then(|| (token.to_owned(), rest));
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, char)) = chars.next() {
        match char {
            '"' => return Some((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next()?.1),
            _ => value.push(char),
        }
    }
    None
}

fn is_token(text: &str) -> bool {
    !text.is_empty()
        && text.bytes().all(|byte| byte.is_ascii_alphanumeric() || b"!#$%&'*+-.^_`|~".contains(&byte))
}

/// An address with or without a port, in the forms that are met: `192.0.2.1`, `192.0.2.1:80`,
/// `2001:db8::1`, `[2001:db8::1]`, `[2001:db8::1]:80`. A port may be a name.
fn node(text: &str) -> Option<IpAddr> {
    if let Ok(address) = text.parse::<IpAddr>() {
        return Some(address);
    }
    if let Ok(address) = text.parse::<SocketAddr>() {
        return match address {
            // A scope is of the teller's own machine.
            SocketAddr::V6(v6) if SocketAddrV6::scope_id(&v6) != 0 => None,
            SocketAddr::V4(_) | SocketAddr::V6(_) => Some(address.ip()),
        };
    }
    if let Some(bracketed) = text.strip_prefix('[') {
        let (address, port) = bracketed.split_once(']')?;
        let port_fits = port.is_empty() || port.strip_prefix(':').is_some_and(is_obscure_port);
        return address.parse::<Ipv6Addr>().ok().filter(|_| port_fits).map(IpAddr::from);
    }
    let (address, port) = text.split_once(':')?;
    address.parse::<std::net::Ipv4Addr>().ok().filter(|_| is_obscure_port(port)).map(IpAddr::from)
}

/// `_name`, where the teller hides the port.
fn is_obscure_port(text: &str) -> bool {
    text.strip_prefix('_').is_some_and(is_token)
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;
    use proptest::prelude::*;

    fn read(which: ForwardedHeader, fields: &[(&'static str, &str)]) -> Vec<String> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_bytes(value.as_bytes()).expect("a field"));
        }
        let hops = hops(&headers, which);
        hops.iter().map(|hop| hop.map_or("-".to_owned(), |hop| hop.to_string())).collect()
    }

    fn listed(text: &str) -> Vec<String> {
        read(ForwardedHeader::XForwardedFor, &[("x-forwarded-for", text)])
    }

    fn forwarded(text: &str) -> Vec<String> {
        read(ForwardedHeader::Forwarded, &[("forwarded", text)])
    }

    #[test]
    fn the_nearest_hop_comes_first_in_every_form_it_is_written() {
        assert_eq!(
            listed("192.0.2.1, 198.51.100.1:4711,[2001:db8::1]:80 ,2001:db8::2,[2001:db8::3]"),
            ["2001:db8::3", "2001:db8::2", "2001:db8::1", "198.51.100.1", "192.0.2.1"]
        );
        assert_eq!(
            listed("unknown, , 1.2.3, _hidden, 192.0.2.01, fe80::1%eth0, [fe80::1%1]:1, [::1"),
            ["-"; 8]
        );
    }

    #[test]
    fn several_fields_are_one_list() {
        let fields = [("x-forwarded-for", "192.0.2.1, 192.0.2.2"), ("x-forwarded-for", "192.0.2.3")];
        assert_eq!(read(ForwardedHeader::XForwardedFor, &fields), ["192.0.2.3", "192.0.2.2", "192.0.2.1"]);
        assert_eq!(read(ForwardedHeader::Forwarded, &fields), [""; 0], "only the one that is written here");
        assert_eq!(read(ForwardedHeader::None, &fields), [""; 0]);
    }

    #[test]
    fn the_standard_field_is_read_with_its_quotes() {
        assert_eq!(
            forwarded("for=192.0.2.43, For=\"[2001:db8:cafe::17]:4711\""),
            ["2001:db8:cafe::17", "192.0.2.43"]
        );
        assert_eq!(forwarded("for=192.0.2.60;proto=http;by=203.0.113.43"), ["192.0.2.60"]);
        assert_eq!(forwarded("by=\"a, for=6.6.6.6; \\\"\" ; for=\"192.0.2.1:_p\""), ["192.0.2.1"]);
        assert_eq!(forwarded("for=unknown, proto=https, for=_secret"), ["-"; 3]);
    }

    #[test]
    fn a_field_whose_parts_nobody_can_tell_is_one_unknown_hop() {
        for text in [
            "for=\"192.0.2.1",
            "for=192.0.2.1;for=192.0.2.2",
            "for=192.0.2.1 192.0.2.2",
            "for=[::1]",
            "192.0.2.1",
            "for=",
        ] {
            assert_eq!(forwarded(text), ["-"], "{text}");
        }
        let fields = [("forwarded", "for=\"unclosed"), ("forwarded", "for=192.0.2.1")];
        assert_eq!(
            read(ForwardedHeader::Forwarded, &fields),
            ["192.0.2.1", "-"],
            "a line of its own is whole"
        );
    }

    proptest! {
        /// Whatever a client sent before, what a proxy appends is the nearest hop or the trail ends.
        #[test]
        fn what_is_appended_is_the_nearest(forged in "[ -~]{0,60}", hop: u32) {
            let hop = IpAddr::from(hop.to_be_bytes()).to_string();
            prop_assert_eq!(&listed(&format!("{forged}, {hop}"))[0], &hop);
            let standard = &forwarded(&format!("{forged}, for={hop}"))[0];
            prop_assert!(*standard == hop || standard == "-", "{}", standard);
        }

        #[test]
        fn any_bytes_are_read(bytes: Vec<u8>) {
            let Ok(value) = HeaderValue::from_bytes(&bytes) else { return Ok(()) };
            let mut headers = HeaderMap::new();
            headers.insert("x-forwarded-for", value.clone());
            headers.insert("forwarded", value);
            hops(&headers, ForwardedHeader::XForwardedFor);
            hops(&headers, ForwardedHeader::Forwarded);
        }
    }
}
