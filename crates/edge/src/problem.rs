//! Refusals as RFC 9457 problem details: what is wrong, where, and what would be right.

use std::time::Duration;

use bytes::Bytes;
use evergate_domain::Allowance;
use http::{HeaderValue, Response, StatusCode, header};
use http_body_util::Full;
use serde::Serialize;

use crate::meter;

/// A refusal that lasts: the same request will be refused again, unless `retry_after` says when not.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Problem {
    status: StatusCode,
    /// A stable word for programs, also the end of the problem's `type`.
    code: &'static str,
    title: &'static str,
    detail: String,
    errors: Vec<FieldError>,
    retry_after: Option<Duration>,
    /// What is left of the client's budget.
    allowance: Option<Allowance>,
    /// What would be right: the methods for a 405, the media types for a 415.
    instead: Option<&'static str>,
    /// How to prove who one is, for a 401 or 403.
    challenge: Option<HeaderValue>,
}

/// What is wrong with one part of the request.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
pub(crate) struct FieldError {
    /// The header, query parameter or field, as in `query.from`, `events[3].key`.
    pub(crate) field: String,
    /// What is wrong with it.
    pub(crate) detail: String,
    /// The line of a newline-delimited body, from 1.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) line: Option<usize>,
}

impl FieldError {
    /// `field` is at fault, because of `detail`.
    #[expect(clippy::needless_pass_by_value, reason = "callers hand over errors and texts alike")]
    pub(crate) fn new(field: impl Into<String>, detail: impl ToString) -> Self {
        Self { field: field.into(), detail: detail.to_string(), line: None }
    }

    /// On this line of the body, from 1.
    pub(crate) fn on_line(mut self, line: usize) -> Self {
        self.line = Some(line);
        self
    }

    /// All of them in one sentence, or as many as a person reads and a header field carries.
    pub(crate) fn summary(errors: &[Self]) -> String {
        const BYTES_MAX: usize = 800;
        let mut summary = String::new();
        for (index, error) in errors.iter().enumerate() {
            let one = match error.line {
                Some(line) => format!("line {line}: {}: {}", error.field, error.detail),
                None => format!("{}: {}", error.field, error.detail),
            };
            if index > 0 {
                if summary.len() + one.len() > BYTES_MAX {
                    return format!("{summary}; and {} more", errors.len() - index);
                }
                summary.push_str("; ");
            }
            summary.push_str(&one);
        }
        summary
    }
}

impl Problem {
    /// A refusal with this status; `code` is stable, `title` its constant sentence, `detail` this
    /// occurrence's.
    pub(crate) fn new(
        status: StatusCode,
        code: &'static str,
        title: &'static str,
        detail: impl Into<String>,
    ) -> Self {
        Self {
            status,
            code,
            title,
            detail: detail.into(),
            errors: Vec::new(),
            retry_after: None,
            allowance: None,
            instead: None,
            challenge: None,
        }
    }

    /// 400: parts of the request are malformed.
    pub(crate) fn bad_request(errors: Vec<FieldError>) -> Self {
        let detail = FieldError::summary(&errors);
        Self {
            errors,
            ..Self::new(StatusCode::BAD_REQUEST, "bad-request", "The request is malformed", detail)
        }
    }

    /// Names the parts at fault.
    pub(crate) fn with_errors(mut self, errors: Vec<FieldError>) -> Self {
        self.errors = errors;
        self
    }

    /// The same request may succeed after this time.
    pub(crate) fn retry_after(mut self, after: Duration) -> Self {
        self.retry_after = Some(after);
        self
    }

    /// Tells what is left of the client's budget, unless it tells of one already: that is used up.
    pub(crate) fn with_allowance(mut self, allowance: Option<Allowance>) -> Self {
        self.allowance = self.allowance.or(allowance);
        self
    }

    /// Says how to prove who one is.
    pub(crate) fn with_challenge(mut self, challenge: HeaderValue) -> Self {
        self.challenge = Some(challenge);
        self
    }

    /// 405, naming the methods that are allowed.
    pub(crate) fn method_not_allowed(allow: &'static str) -> Self {
        Self {
            instead: Some(allow),
            ..Self::new(
                StatusCode::METHOD_NOT_ALLOWED,
                "method-not-allowed",
                "The method is not allowed here",
                format!("allowed: {allow}"),
            )
        }
    }

    /// 415, naming the media types that are accepted.
    pub(crate) fn unsupported_media_type(accept: &'static str, detail: impl Into<String>) -> Self {
        Self {
            instead: Some(accept),
            ..Self::new(
                StatusCode::UNSUPPORTED_MEDIA_TYPE,
                "unsupported-media-type",
                "The media type of the body is not supported",
                detail,
            )
        }
    }

    /// The status.
    pub(crate) fn status(&self) -> StatusCode {
        self.status
    }

    /// The stable word.
    pub(crate) fn code(&self) -> &'static str {
        self.code
    }

    /// The answer on the wire.
    pub(crate) fn into_response(self) -> Response<Full<Bytes>> {
        #[derive(Serialize)]
        struct Body<'a> {
            r#type: String,
            title: &'a str,
            status: u16,
            detail: &'a str,
            code: &'a str,
            #[serde(skip_serializing_if = "<[_]>::is_empty")]
            errors: &'a [FieldError],
        }
        let body = serde_json::to_vec(&Body {
            r#type: format!("urn:evergate:problem:{}", self.code),
            title: self.title,
            status: self.status.as_u16(),
            detail: &self.detail,
            code: self.code,
            errors: &self.errors,
        })
        .expect("strings and numbers always serialise");
        let mut response = Response::new(Full::new(Bytes::from(body)));
        *response.status_mut() = self.status;
        let headers = response.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/problem+json"));
        headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
        if let Some(after) = self.retry_after {
            // Whole seconds, and never 0, which would invite a retry at once.
            headers.insert(
                header::RETRY_AFTER,
                HeaderValue::from(after.as_millis().div_ceil(1000).max(1) as u64),
            );
        }
        if let Some(allowance) = &self.allowance {
            meter::tell(headers, allowance);
        }
        if let Some(challenge) = self.challenge {
            headers.insert(header::WWW_AUTHENTICATE, challenge);
        }
        if let Some(instead) = self.instead {
            let name =
                if self.status == StatusCode::METHOD_NOT_ALLOWED { header::ALLOW } else { header::ACCEPT };
            headers.insert(name, HeaderValue::from_static(instead));
        }
        response
    }
}
