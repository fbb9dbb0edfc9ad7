//! Which kind of body a request says it has.

use http::{HeaderMap, header};

use crate::config::PublishLimits;
use crate::problem::Problem;

/// What is taken, as in `Accept`.
const ACCEPTED: &str = "application/json, application/x-ndjson, text/*";

/// A kind of body.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Media {
    /// One JSON object.
    Json,
    /// A JSON object a line.
    Lines,
    /// The payload itself.
    Text,
}

impl Media {
    /// Judges `Content-Type` and `Content-Encoding`; 415 if they are not for us.
    pub(super) fn of(headers: &HeaderMap) -> Result<Self, Problem> {
        if let Some(encoding) = headers.get(header::CONTENT_ENCODING)
            && !encoding.as_bytes().eq_ignore_ascii_case(b"identity")
        {
            return Err(unsupported("content encodings are not supported: send the body as it is"));
        }
        let mut values = headers.get_all(header::CONTENT_TYPE).iter();
        let Some(value) = values.next() else {
            return Err(unsupported(&format!("there is no Content-Type; supported are {ACCEPTED}")));
        };
        if values.next().is_some() {
            return Err(unsupported("there is more than one Content-Type"));
        }
        let value = value.to_str().unwrap_or_default();
        let (essence, parameters) = value.split_once(';').unwrap_or((value, ""));
        let essence = essence.trim_ascii().to_ascii_lowercase();
        let media = match essence.as_str() {
            "application/json" => Self::Json,
            "application/x-ndjson" => Self::Lines,
            _ if essence.strip_prefix("text/").is_some_and(is_token) => Self::Text,
            _ => {
                return Err(unsupported(&format!(
                    "Content-Type {essence:?} is not supported; supported are {ACCEPTED}"
                )));
            }
        };
        match charset(parameters) {
            Ok(None) => Ok(media),
            Ok(Some(name)) if matches!(name.as_str(), "utf-8" | "utf8" | "us-ascii") => Ok(media),
            Ok(Some(name)) => Err(unsupported(&format!(
                "charset {name:?} is not supported; supported are utf-8 and us-ascii"
            ))),
            Err(Malformed) => Err(unsupported("the parameters of Content-Type are malformed")),
        }
    }

    /// The largest body that can hold events within the limits, however they are spelled.
    pub(super) fn body_bytes_max(self, limits: PublishLimits) -> usize {
        /// A JSON string spends this many bytes on one at the most: `\u0000`.
        const ESCAPED_MAX: usize = 6;
        /// Member names, punctuation, producer and level of an object, and some white space.
        const OBJECT_BYTES_MAX: usize = 512;
        /// Escaped type and key.
        const NAMES_BYTES_MAX: usize = ESCAPED_MAX * (128 + 256);
        match self {
            Self::Json => ESCAPED_MAX * limits.payload_bytes_max + NAMES_BYTES_MAX + OBJECT_BYTES_MAX,
            Self::Lines => ESCAPED_MAX * limits.batch_bytes_max + OBJECT_BYTES_MAX * limits.batch_events_max,
            Self::Text => limits.payload_bytes_max,
        }
    }
}

fn unsupported(detail: &str) -> Problem {
    Problem::unsupported_media_type(ACCEPTED, detail)
}

#[derive(Debug, PartialEq, Eq)]
struct Malformed;

/// The `charset` among the parameters after the first `;`, in lower case. RFC 9110, section 5.6.6.
fn charset(parameters: &str) -> Result<Option<String>, Malformed> {
    let mut charset = None;
    let mut rest = parameters.trim_ascii_start();
    while !rest.is_empty() {
        if let Some(empty) = rest.strip_prefix(';') {
            rest = empty.trim_ascii_start();
            continue;
        }
        let (name, after) = rest.split_once('=').ok_or(Malformed)?;
        let (value, after) = value(after)?;
        if !is_token(name) {
            return Err(Malformed);
        }
        // A second one could say otherwise; nobody who means well sends it.
        if name.eq_ignore_ascii_case("charset") && charset.replace(value.to_ascii_lowercase()).is_some() {
            return Err(Malformed);
        }
        rest = after.trim_ascii_start();
        if !rest.is_empty() && !rest.starts_with(';') {
            return Err(Malformed);
        }
    }
    Ok(charset)
}

/// A token or a quoted string at the beginning of `text`, and what comes after it.
fn value(text: &str) -> Result<(String, &str), Malformed> {
    let Some(quoted) = text.strip_prefix('"') else {
        let end = text.find(|c| !is_token_char(c)).unwrap_or(text.len());
        let (token, after) = text.split_at(end);
        return if token.is_empty() { Err(Malformed) } else { Ok((token.to_owned(), after)) };
    };
    let mut value = String::new();
    let mut chars = quoted.char_indices();
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Ok((value, &quoted[at + 1..])),
            '\\' => value.push(chars.next().ok_or(Malformed)?.1),
            _ => value.push(c),
        }
    }
    Err(Malformed)
}

fn is_token(text: &str) -> bool {
    !text.is_empty() && text.chars().all(is_token_char)
}

fn is_token_char(c: char) -> bool {
    c.is_ascii_alphanumeric() || "!#$%&'*+-.^_`|~".contains(c)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn of(content_type: &str) -> Option<Media> {
        let mut headers = HeaderMap::new();
        headers.insert(header::CONTENT_TYPE, content_type.parse().expect("a header value"));
        Media::of(&headers).ok()
    }

    #[test]
    fn a_type_is_known_by_its_name_whatever_its_case_and_parameters() {
        for (value, media) in [
            ("application/json", Media::Json),
            ("Application/JSON;charset=UTF-8", Media::Json),
            ("application/json ; charset=\"utf-8\" ; profile=\"a;b=\\\"c\"", Media::Json),
            ("application/x-ndjson;", Media::Lines),
            ("text/plain; charset=us-ascii", Media::Text),
            ("text/vnd.turbo-stream.html", Media::Text),
            ("text/html; Charset=utf8", Media::Text),
        ] {
            assert_eq!(of(value), Some(media), "{value}");
        }
    }

    #[test]
    fn other_types_and_charsets_are_refused() {
        for value in [
            "",
            "json",
            "application/x-www-form-urlencoded",
            "application/octet-stream",
            "application/json5",
            "application/json, text/plain",
            "text",
            "text/",
            "text/a b",
            "multipart/form-data; boundary=x",
            "text/plain; charset=iso-8859-1",
            "text/plain; charset=utf-16",
            "text/plain; charset=",
            "text/plain; charset",
            "text/plain; charset=\"utf-8",
            "text/plain; charset=utf-8; charset=latin1",
            "text/plain; charset=utf-8 oops",
        ] {
            assert_eq!(of(value), None, "{value}");
        }
    }
}
