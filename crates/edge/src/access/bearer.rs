//! Where a request has its token.

use std::borrow::Cow;

use evergate_access::Refusal;
use http::{HeaderMap, header};

use crate::access::Denied;
use crate::http::Query;

/// The parameter that holds a ticket.
const TICKET: &str = "ticket";

/// The parameter that holds a token, where that is allowed.
const QUERY: &str = "access_token";

/// A request as far as it concerns who sent it.
pub(crate) struct Asked<'a> {
    pub(crate) headers: &'a HeaderMap,
    /// The query; `None` where it is not read, as in a publish.
    pub(crate) query: Option<&'a Query>,
    /// Whether the request was caused by a page that may bring its cookies along.
    pub(crate) cookies: bool,
}

/// Where else than in `Authorization` a token may be.
#[derive(Debug, Clone, Default)]
pub(super) struct Places {
    pub(super) cookie: Option<String>,
    pub(super) query: bool,
}

/// The ticket of a request, if it has one; then it must have no token beside it.
pub(crate) fn ticket<'a>(asked: &Asked<'a>) -> Result<Option<&'a str>, Denied> {
    let Some(query) = asked.query else { return Ok(None) };
    let ticket = alone(query.all(TICKET))?;
    let more = asked.headers.contains_key(header::AUTHORIZATION) || query.first(QUERY).is_some();
    if ticket.is_some() && more { Err(TWICE) } else { Ok(ticket) }
}

impl Places {
    /// The token of a request, if it has one. It must not have two, of which proxies and we might take
    /// different ones; but a cookie, which comes by itself, gives way to whatever was sent on purpose.
    pub(super) fn find<'a>(&self, asked: &Asked<'a>) -> Result<Option<Cow<'a, str>>, Denied> {
        let in_header = bearer(asked.headers)?;
        let in_query = match asked.query.filter(|_| self.query) {
            Some(query) => alone(query.all(QUERY))?,
            None => None,
        };
        match (in_header, in_query) {
            (Some(_), Some(_)) => Err(TWICE),
            (Some(token), None) | (None, Some(token)) => Ok(Some(Cow::Borrowed(token))),
            (None, None) => match self.cookie.as_deref().filter(|_| asked.cookies) {
                Some(name) => Ok(alone(cookies(asked.headers, name))?.map(Cow::Borrowed)),
                None => Ok(None),
            },
        }
    }
}

const TWICE: Denied = Denied::Refused(Refusal::Malformed("it is given twice"));

/// The token in `Authorization`. Another scheme than Bearer is no token of ours, and refused like a wrong
/// one: whoever sends it believes that it counts.
fn bearer(headers: &HeaderMap) -> Result<Option<&str>, Denied> {
    let values = headers.get_all(header::AUTHORIZATION).iter();
    let Some(value) = alone(values)? else { return Ok(None) };
    let scheme = value.as_bytes().get(..7);
    let is_bearer = scheme.is_some_and(|scheme| scheme.eq_ignore_ascii_case(b"bearer "));
    match value.to_str() {
        Ok(text) if is_bearer => Ok(Some(text[7..].trim_matches(' '))),
        Ok(_) | Err(_) => Err(Denied::Refused(Refusal::Malformed("Authorization is not Bearer"))),
    }
}

/// The values of the cookies of a name: RFC 6265, section 5.4.
fn cookies<'a>(headers: &'a HeaderMap, name: &str) -> impl Iterator<Item = &'a str> {
    let pairs = headers.get_all(header::COOKIE).iter().filter_map(|value| value.to_str().ok());
    pairs.flat_map(|value| value.split(';')).filter_map(move |pair| {
        let (own, value) = pair.trim_matches(' ').split_once('=')?;
        (own == name).then_some(value)
    })
}

fn alone<T>(mut all: impl Iterator<Item = T>) -> Result<Option<T>, Denied> {
    let first = all.next();
    if all.next().is_some() { Err(TWICE) } else { Ok(first) }
}

#[cfg(test)]
mod tests {
    use super::*;
    use http::HeaderValue;

    fn find(
        places: &Places,
        fields: &[(&'static str, &'static str)],
        query: &str,
        cookies: bool,
    ) -> Result<Option<String>, Denied> {
        let mut headers = HeaderMap::new();
        for (name, value) in fields {
            headers.append(*name, HeaderValue::from_static(value));
        }
        let query = Query::parse(query).expect("UTF-8");
        let found = places.find(&Asked { headers: &headers, query: Some(&query), cookies });
        found.map(|token| token.map(Cow::into_owned))
    }

    fn all() -> Places {
        Places { cookie: Some("__Host-evergate".to_owned()), query: true }
    }

    #[test]
    fn a_token_is_found_where_it_may_be() {
        let token = |name: &str| Ok(Some(name.to_owned()));
        let cookie = ("cookie", "a=b; __Host-evergate=c.c.c; x=y");
        assert_eq!(find(&all(), &[("authorization", "Bearer a.b.c")], "", true), token("a.b.c"));
        assert_eq!(find(&all(), &[("authorization", "bEARER  a.b.c ")], "", true), token("a.b.c"));
        assert_eq!(find(&all(), &[], "access_token=q.q.q&key=a", true), token("q.q.q"));
        assert_eq!(find(&all(), &[cookie], "", true), token("c.c.c"));
        assert_eq!(find(&all(), &[cookie], "", false), Ok(None), "a page that may not");
        assert_eq!(find(&all(), &[cookie, ("authorization", "Bearer a")], "", true), token("a"));
        assert_eq!(find(&all(), &[cookie], "access_token=q", true), token("q"));
        assert_eq!(find(&Places::default(), &[cookie], "access_token=q", true), Ok(None), "off");
        assert_eq!(find(&all(), &[("cookie", "evergate=c; X__Host-evergate=d")], "", true), Ok(None));
    }

    #[test]
    fn two_tokens_are_none_and_another_scheme_is_no_silence() {
        for (fields, query) in [
            (&[("authorization", "Bearer a"), ("authorization", "Bearer a")][..], ""),
            (&[("authorization", "Bearer a")], "access_token=a"),
            (&[], "access_token=a&access_token=b"),
            (&[("cookie", "__Host-evergate=a; __Host-evergate=b")], ""),
            (&[("cookie", "__Host-evergate=a"), ("cookie", "__Host-evergate=b")], ""),
            (&[("authorization", "Basic YTpi")], ""),
            (&[("authorization", "Bearer")], ""),
            (&[("authorization", "")], ""),
        ] {
            let found = find(&all(), fields, query, true);
            assert!(matches!(found, Err(Denied::Refused(Refusal::Malformed(_)))), "{fields:?} {query}");
        }
    }
}
