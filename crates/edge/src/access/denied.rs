//! What is told to whoever is not let in.

use std::time::Duration;

use evergate_access::Refusal;
use http::{HeaderValue, StatusCode};
use tonic::{Code, Status};

use crate::problem::Problem;

/// When to come again if the keys cannot be had.
pub(crate) const KEYS_AWAY_RETRY: Duration = Duration::from_secs(5);

/// Why somebody may not do something.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Denied {
    /// Without a token it is nobody, and nobody may not.
    #[error("a token is needed")]
    Missing,
    /// The token is not taken.
    #[error("{0}")]
    Refused(#[from] Refusal),
    /// The token does not grant it. Whether there is such a stream is not said.
    #[error("the token does not grant this")]
    Forbidden,
    /// There are no keys to judge a token by; a retry may find some.
    #[error("tokens cannot be judged now")]
    KeysAway,
}

impl Denied {
    /// A word for programs, the end of a problem's `type`.
    pub(crate) fn code(self) -> &'static str {
        match self {
            Self::Missing | Self::Refused(_) => "unauthorized",
            Self::Forbidden => "forbidden",
            Self::KeysAway => "keys-unavailable",
        }
    }

    pub(crate) fn title(self) -> &'static str {
        match self {
            Self::Missing | Self::Refused(_) => "Who asks is not known",
            Self::Forbidden => "Who asks may not do this",
            Self::KeysAway => "Tokens cannot be judged now",
        }
    }

    pub(crate) fn http(self) -> StatusCode {
        match self {
            Self::Missing | Self::Refused(_) => StatusCode::UNAUTHORIZED,
            Self::Forbidden => StatusCode::FORBIDDEN,
            Self::KeysAway => StatusCode::SERVICE_UNAVAILABLE,
        }
    }

    pub(crate) fn grpc(self) -> Code {
        match self {
            Self::Missing | Self::Refused(_) => Code::Unauthenticated,
            Self::Forbidden => Code::PermissionDenied,
            Self::KeysAway => Code::Unavailable,
        }
    }

    /// Counts it, by a word of ours.
    pub(crate) fn count(self) -> Self {
        let reason = match self {
            Self::Missing => "no-token",
            Self::Refused(refusal) => refusal.reason(),
            Self::Forbidden => "forbidden",
            Self::KeysAway => "keys-unavailable",
        };
        metrics::counter!("evergate_access_denied_total", "reason" => reason).increment(1);
        self
    }

    /// The answer over HTTP; RFC 6750, section 3.
    pub(crate) fn into_problem(self) -> Problem {
        let problem = Problem::new(self.http(), self.code(), self.title(), self.to_string());
        match self {
            Self::Missing => problem.with_challenge(HeaderValue::from_static("Bearer realm=\"evergate\"")),
            Self::Refused(refusal) => {
                problem.with_challenge(challenge("invalid_token", &refusal.to_string()))
            }
            Self::Forbidden => problem.with_challenge(challenge("insufficient_scope", &self.to_string())),
            Self::KeysAway => problem.retry_after(KEYS_AWAY_RETRY),
        }
    }

    /// The answer over gRPC.
    pub(crate) fn into_status(self) -> Status {
        Status::new(self.grpc(), self.to_string())
    }
}

/// `description` is a sentence of ours, without quotes.
fn challenge(error: &str, description: &str) -> HeaderValue {
    let value = format!("Bearer realm=\"evergate\", error=\"{error}\", error_description=\"{description}\"");
    value.try_into().expect("sentences of ours are plain")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_refusal_can_be_told_in_a_header() {
        for refusal in [
            Refusal::TooLong,
            Refusal::Malformed("its header is no JWT's"),
            Refusal::Unsupported,
            Refusal::Algorithm,
            Refusal::UnknownKey,
            Refusal::Signature,
            Refusal::Incomplete,
            Refusal::Claim("exp"),
            Refusal::Issuer,
            Refusal::Audience,
            Refusal::Expired,
            Refusal::Early,
            Refusal::Revoked,
        ] {
            let response = Denied::Refused(refusal).into_problem().into_response();
            assert_eq!(response.status(), StatusCode::UNAUTHORIZED);
            let told = response.headers()["www-authenticate"].to_str().expect("plain");
            assert_eq!(told.matches('"').count(), 6, "{told}");
        }
        assert_eq!(Denied::Forbidden.into_problem().status(), StatusCode::FORBIDDEN);
        assert!(Denied::KeysAway.into_problem().into_response().headers().contains_key("retry-after"));
    }
}
