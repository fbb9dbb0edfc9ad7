//! The query of a URI, strictly: what is not UTF-8 is refused, not guessed at.

use std::borrow::Cow;

use percent_encoding::percent_decode_str;

use crate::problem::FieldError;

/// Names and values in order.
#[derive(Debug, Default)]
pub(crate) struct Query(Vec<(String, String)>);

impl Query {
    /// Reads `application/x-www-form-urlencoded`; every part that is not UTF-8 is named.
    pub(crate) fn parse(text: &str) -> Result<Self, Vec<FieldError>> {
        let mut pairs = Vec::new();
        let mut errors = Vec::new();
        for pair in text.split('&').filter(|pair| !pair.is_empty()) {
            let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
            match (decode(name), decode(value)) {
                (Some(name), Some(value)) => pairs.push((name, value)),
                (Some(name), None) => errors.push(FieldError::new(format!("query.{name}"), "is not UTF-8")),
                (None, _) => errors.push(FieldError::new("query", "holds a name that is not UTF-8")),
            }
        }
        if errors.is_empty() { Ok(Self(pairs)) } else { Err(errors) }
    }

    /// The first value of a parameter.
    pub(crate) fn first(&self, name: &str) -> Option<&str> {
        self.0.iter().find(|(n, _)| n == name).map(|(_, value)| value.as_str())
    }

    /// All values of a parameter.
    pub(crate) fn all<'a>(&'a self, name: &'a str) -> impl Iterator<Item = &'a str> {
        self.0.iter().filter(move |(n, _)| n == name).map(|(_, value)| value.as_str())
    }
}

fn decode(text: &str) -> Option<String> {
    let spaced = if text.contains('+') { Cow::from(text.replace('+', " ")) } else { Cow::from(text) };
    percent_decode_str(&spaced).decode_utf8().ok().map(Cow::into_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_decoded_and_kept_in_order() {
        let query = Query::parse("key=a%2Fb+c&key=%C3%A4&flag&from=-3").expect("valid");
        assert_eq!(query.all("key").collect::<Vec<_>>(), ["a/b c", "ä"]);
        assert_eq!(
            (query.first("flag"), query.first("from"), query.first("none")),
            (Some(""), Some("-3"), None)
        );
    }

    #[test]
    fn bytes_that_are_no_text_are_named() {
        let errors = Query::parse("key=%ff&a=1&%fe=1").expect_err("not UTF-8");
        assert_eq!(errors.iter().map(|e| e.field.as_str()).collect::<Vec<_>>(), ["query.key", "query"]);
    }
}
