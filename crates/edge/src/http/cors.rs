//! Which pages may talk to us: an explicit list, checked before anything else.

use http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};

use crate::config::CorsOrigins;
use crate::http::answer::{Answer, empty, set};
use crate::problem::Problem;

const ALLOW_METHODS: &str = "GET, HEAD, POST";
const ALLOW_HEADERS: &str = "Accept, Authorization, Cache-Control, Content-Type, Last-Event-ID, \
     Evergate-Key, Evergate-Level, Evergate-Producer, Evergate-Type, traceparent, X-Requested-With";
const EXPOSE_HEADERS: &str =
    "X-Trace-ID, traceparent, Retry-After, X-RateLimit-Limit, X-RateLimit-Remaining, X-RateLimit-Reset";

const REQUEST_PRIVATE_NETWORK: &str = "access-control-request-private-network";
const ALLOW_PRIVATE_NETWORK: &str = "access-control-allow-private-network";

/// What the origin of a request means for its answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// No page of another origin is involved.
    SameOrigin,
    /// Allowed, and the answer says so.
    Allowed {
        /// `*` or the origin itself.
        origin: HeaderValue,
        /// Whether cookies may come along.
        credentials: bool,
    },
    /// Not on the list.
    Refused,
}

/// Judges the `Origin` of a request.
pub(crate) fn judge(origins: &CorsOrigins, headers: &HeaderMap, uri: &Uri) -> Verdict {
    let Some(origin) = headers.get(header::ORIGIN) else { return Verdict::SameOrigin };
    let listed = match origins {
        CorsOrigins::None => None,
        CorsOrigins::Any => Some((HeaderValue::from_static("*"), false)),
        CorsOrigins::Listed(list) => {
            list.iter().any(|allowed| allowed.as_bytes() == origin.as_bytes()).then(|| (origin.clone(), true))
        }
    };
    match listed {
        Some((origin, credentials)) => Verdict::Allowed { origin, credentials },
        None if is_own(origin, headers, uri) => Verdict::SameOrigin,
        None => Verdict::Refused,
    }
}

/// Whether a page of this very server asks. Browsers send `Origin` with their own page's POSTs too.
fn is_own(origin: &HeaderValue, headers: &HeaderMap, uri: &Uri) -> bool {
    let host = headers.get(header::HOST).and_then(|host| host.to_str().ok());
    let host = host.or_else(|| uri.authority().map(http::uri::Authority::as_str));
    let authority = origin.to_str().ok().and_then(|origin| origin.split_once("://"));
    matches!((host, authority), (Some(host), Some((_, authority))) if host.eq_ignore_ascii_case(authority))
}

/// Whether the page that caused a request, if one did, may bring its cookies along: only one that `Origin`
/// or the browser's own word show to be ours or on the list. A cookie comes by itself, also when a page
/// of somebody else asks, and an `EventSource` asks without a preflight.
pub(crate) fn brings_cookies(verdict: &Verdict, method: &Method, headers: &HeaderMap) -> bool {
    let listed = match verdict {
        Verdict::Allowed { credentials, .. } => return *credentials,
        Verdict::Refused => return false,
        Verdict::SameOrigin => headers.contains_key(header::ORIGIN),
    };
    match headers.get("sec-fetch-site").map(HeaderValue::as_bytes) {
        Some(b"same-origin") => true,
        // Typed by somebody, who types no POST.
        Some(b"none") => method != Method::POST,
        Some(_) => listed,
        // No browser of these days; an older one sends `Origin` with every POST.
        None => listed || method != Method::POST,
    }
}

/// A refusal that no cross-origin page can read, and that does nothing.
pub(crate) fn refusal() -> Problem {
    Problem::new(
        StatusCode::FORBIDDEN,
        "origin-not-allowed",
        "Pages of this origin may not use this server",
        "the request's Origin is not on the server's list",
    )
}

/// Whether a browser only asks what it may do.
pub(crate) fn is_preflight(method: &Method, headers: &HeaderMap) -> bool {
    method == Method::OPTIONS
        && headers.contains_key(header::ORIGIN)
        && headers.contains_key(header::ACCESS_CONTROL_REQUEST_METHOD)
}

/// The answer to a preflight.
pub(crate) fn preflight(verdict: &Verdict, headers: &HeaderMap) -> Answer {
    let mut answer = empty(StatusCode::NO_CONTENT);
    set(&mut answer, header::ACCESS_CONTROL_ALLOW_METHODS, ALLOW_METHODS);
    set(&mut answer, header::ACCESS_CONTROL_ALLOW_HEADERS, ALLOW_HEADERS);
    set(&mut answer, header::ACCESS_CONTROL_MAX_AGE, "7200");
    // A page of the public network asks a server of a private one. Who is on the list may; where any page
    // is let in, none was meant in particular.
    let listed = matches!(verdict, Verdict::Allowed { credentials: true, .. });
    if listed && headers.get(REQUEST_PRIVATE_NETWORK).is_some_and(|asked| asked == "true") {
        answer.headers_mut().insert(ALLOW_PRIVATE_NETWORK, HeaderValue::from_static("true"));
    }
    let varies = "Access-Control-Request-Method, Access-Control-Request-Headers, \
         Access-Control-Request-Private-Network";
    answer.headers_mut().append(header::VARY, HeaderValue::from_static(varies));
    answer
}

/// Marks an answer, whatever it is: errors without these headers look like network failures.
pub(crate) fn mark(answer: &mut Answer, verdict: &Verdict) {
    let headers = answer.headers_mut();
    headers.append(header::VARY, HeaderValue::from_static("Origin"));
    if let Verdict::Allowed { origin, credentials } = verdict {
        headers.insert(header::ACCESS_CONTROL_ALLOW_ORIGIN, origin.clone());
        headers.insert(header::ACCESS_CONTROL_EXPOSE_HEADERS, HeaderValue::from_static(EXPOSE_HEADERS));
        if *credentials {
            headers.insert(header::ACCESS_CONTROL_ALLOW_CREDENTIALS, HeaderValue::from_static("true"));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn verdict(origins: &CorsOrigins, origin: Option<&'static str>) -> Verdict {
        let mut headers = HeaderMap::new();
        headers.insert(header::HOST, HeaderValue::from_static("push.example:8080"));
        if let Some(origin) = origin {
            headers.insert(header::ORIGIN, HeaderValue::from_static(origin));
        }
        judge(origins, &headers, &Uri::from_static("/v1/events"))
    }

    #[test]
    fn an_origin_is_allowed_only_exactly() {
        let listed = CorsOrigins::Listed(vec!["https://app.example".to_owned()]);
        assert!(matches!(
            verdict(&listed, Some("https://app.example")),
            Verdict::Allowed { credentials: true, .. }
        ));
        for other in ["http://app.example", "https://app.example.evil", "https://APP.example", "null"] {
            assert_eq!(verdict(&listed, Some(other)), Verdict::Refused, "{other}");
        }
        assert_eq!(verdict(&listed, None), Verdict::SameOrigin);
    }

    #[test]
    fn the_servers_own_pages_need_no_list() {
        assert_eq!(verdict(&CorsOrigins::None, Some("http://push.example:8080")), Verdict::SameOrigin);
        assert_eq!(verdict(&CorsOrigins::None, Some("http://push.example")), Verdict::Refused);
    }

    #[test]
    fn only_pages_that_may_bring_their_cookies() {
        let listed = CorsOrigins::Listed(vec!["https://app.example".to_owned()]);
        let brings = |origins: &CorsOrigins, method: Method, fields: &[(&'static str, &'static str)]| {
            let mut headers = HeaderMap::new();
            headers.insert(header::HOST, HeaderValue::from_static("push.example"));
            for (name, value) in fields {
                headers.insert(*name, HeaderValue::from_static(value));
            }
            let verdict = judge(origins, &headers, &Uri::from_static("/v1/events"));
            brings_cookies(&verdict, &method, &headers)
        };
        let (get, post) = (|| Method::GET, || Method::POST);
        let (app, own, evil) = (
            ("origin", "https://app.example"),
            ("origin", "https://push.example"),
            ("origin", "https://evil.example"),
        );
        assert!(brings(&listed, get(), &[app]) && brings(&listed, post(), &[app]));
        assert!(brings(&listed, post(), &[own]) && brings(&CorsOrigins::None, post(), &[own]));
        assert!(!brings(&listed, get(), &[evil]) && !brings(&CorsOrigins::Any, get(), &[evil]));
        // As an `EventSource`, or an image, asks without `Origin`.
        for (site, fits) in
            [("same-origin", true), ("same-site", false), ("cross-site", false), ("none", true)]
        {
            assert_eq!(brings(&listed, get(), &[("sec-fetch-site", site)]), fits, "{site}");
        }
        assert!(!brings(&listed, post(), &[("sec-fetch-site", "none")]));
        assert!(brings(&listed, get(), &[]) && !brings(&listed, post(), &[]));
    }

    #[test]
    fn a_private_network_is_opened_to_whom_the_list_names() {
        let mut headers = HeaderMap::new();
        headers.insert(REQUEST_PRIVATE_NETWORK, HeaderValue::from_static("true"));
        let opened = |credentials, headers: &HeaderMap| {
            let origin = HeaderValue::from_static("https://app.example");
            let verdict = Verdict::Allowed { origin, credentials };
            preflight(&verdict, headers).headers().contains_key(ALLOW_PRIVATE_NETWORK)
        };
        assert!(opened(true, &headers) && !opened(false, &headers) && !opened(true, &HeaderMap::new()));
        assert!(!preflight(&Verdict::SameOrigin, &headers).headers().contains_key(ALLOW_PRIVATE_NETWORK));
    }

    #[test]
    fn any_origin_comes_without_credentials() {
        match verdict(&CorsOrigins::Any, Some("https://app.example")) {
            Verdict::Allowed { origin, credentials } => {
                assert_eq!((origin.as_bytes(), credentials), (&b"*"[..], false));
            }
            Verdict::SameOrigin | Verdict::Refused => panic!("not allowed"),
        }
    }
}
