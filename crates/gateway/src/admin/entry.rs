//! Who may see the admin page: whoever has the token, by HTTP Basic, which a browser asks for by itself and
//! sends along with everything the page asks for, its event stream included.

use std::net::IpAddr;
use std::path::Path;

use axum::http::{HeaderMap, StatusCode, header};
use axum::response::Response;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evergate_control::AdminToken;

use super::problem;
use crate::wiring::admin_token;

/// By what the page is guarded.
#[derive(Clone)]
pub(crate) enum Entry {
    /// There is no page: nobody has said who may see it.
    Closed,
    /// Whoever is on this machine: for development.
    Here,
    /// Whoever brings this.
    Token(AdminToken),
}

impl Entry {
    /// By the file that holds the token, if there is one; else only for development, on this machine.
    pub(crate) fn of(token_file: Option<&Path>, development: bool, at: IpAddr) -> anyhow::Result<Self> {
        match token_file {
            Some(path) => Ok(Self::Token(admin_token("admin.token_file", path)?)),
            None if development && at.is_loopback() => Ok(Self::Here),
            None => Ok(Self::Closed),
        }
    }

    /// Lets a request in, or says why not.
    pub(super) fn admit(&self, headers: &HeaderMap) -> Result<(), Box<Response>> {
        match self {
            Self::Closed => Err(Box::new(problem(
                StatusCode::FORBIDDEN,
                "there is no admin page without admin.token_file",
            ))),
            // A page of elsewhere whose name leads here has another name still.
            Self::Here if is_local(headers) => Ok(()),
            Self::Here => {
                Err(Box::new(problem(StatusCode::FORBIDDEN, "ask for it by an address of this machine")))
            }
            Self::Token(token) => {
                if brought(headers).is_some_and(|brought| token.is(&brought)) {
                    return Ok(());
                }
                let mut refused =
                    problem(StatusCode::UNAUTHORIZED, "expected the admin token as the password");
                let scheme = header::HeaderValue::from_static("Basic realm=\"evergate\", charset=\"UTF-8\"");
                refused.headers_mut().insert(header::WWW_AUTHENTICATE, scheme);
                Err(Box::new(refused))
            }
        }
    }
}

fn is_local(headers: &HeaderMap) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok()).unwrap_or_default();
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        Some(_) | None => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    bare == "localhost" || bare.parse::<IpAddr>().is_ok_and(|address| address.is_loopback())
}

/// The password of Basic, whoever the user, or a bearer token.
fn brought(headers: &HeaderMap) -> Option<String> {
    let value = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
    let (scheme, rest) = value.split_once(' ')?;
    if scheme.eq_ignore_ascii_case("bearer") {
        return Some(rest.trim().to_owned());
    }
    if !scheme.eq_ignore_ascii_case("basic") {
        return None;
    }
    let text = String::from_utf8(STANDARD.decode(rest.trim()).ok()?).ok()?;
    Some(text.split_once(':')?.1.to_owned())
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    const HERE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    fn with(name: header::HeaderName, value: &str) -> HeaderMap {
        let mut headers = HeaderMap::new();
        headers.insert(name, value.parse().unwrap());
        headers
    }

    fn status(entry: &Entry, headers: &HeaderMap) -> u16 {
        entry.admit(headers).map_or_else(|refused| refused.status().as_u16(), |()| 200)
    }

    #[test]
    fn whoever_has_the_token_comes_in() {
        let entry = Entry::Token(AdminToken::new("0123456789abcdef"));
        let basic = |text: &str| format!("Basic {}", STANDARD.encode(text));
        let asked = |value: &str| status(&entry, &with(header::AUTHORIZATION, value));
        assert_eq!(asked(&basic("ann:0123456789abcdef")), 200);
        assert_eq!(asked(&basic(":0123456789abcdef")), 200);
        assert_eq!(asked("Bearer 0123456789abcdef"), 200);
        for wrong in
            [&basic("ann:0123456789abcdee"), &basic("0123456789abcdef"), "Basic !", "Bearer ", "token"]
        {
            assert_eq!(asked(wrong), 401, "{wrong}");
        }
        assert_eq!(status(&entry, &HeaderMap::new()), 401);
    }

    #[test]
    fn without_a_token_only_development_on_this_machine_has_a_page() {
        let open = Entry::of(None, true, HERE).unwrap();
        for (host, expected) in [
            ("127.0.0.1:8082", 200),
            ("localhost:8082", 200),
            ("[::1]:8082", 200),
            ("rebound.example:8082", 403),
            ("192.0.2.1:8082", 403),
        ] {
            assert_eq!(status(&open, &with(header::HOST, host)), expected, "{host}");
        }
        for (development, at) in [(false, HERE), (true, "192.0.2.1".parse().unwrap())] {
            let closed = Entry::of(None, development, at).unwrap();
            assert_eq!(status(&closed, &with(header::HOST, "127.0.0.1")), 403);
        }
    }

    #[test]
    fn a_token_that_can_be_guessed_is_refused() {
        let file = tempfile::NamedTempFile::new().unwrap();
        for (text, good) in
            [("0123456789abcdef\n", true), ("short\n", false), ("0123456789 abcdef", false), ("", false)]
        {
            std::fs::write(file.path(), text).unwrap();
            assert_eq!(Entry::of(Some(file.path()), true, HERE).is_ok(), good, "{text:?}");
        }
        assert!(Entry::of(Some(Path::new("/nowhere/token")), true, HERE).is_err());
    }
}
