//! A client's call about its stream, and what can become of it.

use std::time::Duration;

use evergate_access::Refusal;
use evergate_proto::edge::v1 as proto;
use http::{HeaderValue, StatusCode};
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use crate::access::Denied;
use crate::problem::{FieldError, Problem};

/// When to repeat a call whose stream's edge did not answer.
const RETRY_AFTER: Duration = Duration::from_secs(2);

/// What a client says about a stream.
#[derive(Clone)]
pub(crate) enum Call {
    /// It lives.
    Ping(proto::PingRequest),
    /// It has worked through everything up to a position.
    Acknowledge(proto::AcknowledgeRequest),
    /// It has a fresh token.
    Renew(proto::RenewRequest),
}

/// Why a call was of no effect.
#[derive(Debug, thiserror::Error)]
pub(crate) enum CallError {
    /// Whoever would have the stream says that there is none.
    #[error("there is no such connection")]
    Gone,
    /// The client's mistake.
    #[error("the call is malformed: {}", FieldError::summary(_0))]
    Invalid(Vec<FieldError>),
    /// The token is not taken.
    #[error("{0}")]
    Unauthorized(String),
    /// The token does not keep the stream.
    #[error("{0}")]
    Forbidden(String),
    /// The call came to an edge that the id does not name: a mistake in a list of peers.
    #[error("the connection belongs to node {node}, not to {here}")]
    Misdirected { node: String, here: String },
    /// The edge that has the stream, or had it, cannot be asked; a retry may reach it.
    #[error("node {node} cannot be asked now: {why}")]
    Unreachable { node: String, why: String },
}

impl Call {
    /// The connection that it is about.
    pub(crate) fn connection(&self) -> &str {
        match self {
            Self::Ping(ping) => &ping.connection,
            Self::Acknowledge(acknowledge) => &acknowledge.connection,
            Self::Renew(renew) => &renew.connection,
        }
    }

    /// In a word, for the metrics.
    pub(super) fn word(&self) -> &'static str {
        match self {
            Self::Ping(_) => "ping",
            Self::Acknowledge(_) => "acknowledge",
            Self::Renew(_) => "renew",
        }
    }
}

impl CallError {
    /// This part of the call is malformed.
    pub(super) fn invalid(field: &str, detail: impl ToString) -> Self {
        Self::Invalid(vec![FieldError::new(field, detail)])
    }

    /// What another edge is told.
    pub(super) fn into_status(self) -> Status {
        let message = self.to_string();
        match self {
            Self::Gone => Status::not_found(message),
            Self::Invalid(errors) => {
                let violations =
                    errors.into_iter().map(|error| FieldViolation::new(error.field, error.detail));
                let details = ErrorDetails::with_bad_request(violations.collect::<Vec<_>>());
                Status::with_error_details(Code::InvalidArgument, message, details)
            }
            Self::Unauthorized(_) => Status::unauthenticated(message),
            Self::Forbidden(_) => Status::permission_denied(message),
            Self::Misdirected { .. } => Status::failed_precondition(message),
            Self::Unreachable { .. } => Status::unavailable(message),
        }
    }

    /// What another edge has said. Only four of its answers are about the call; all others mean that it
    /// could not judge it.
    pub(super) fn told_by(node: &str, status: &Status) -> Self {
        let violations = status.get_details_bad_request().map(|bad| bad.field_violations).unwrap_or_default();
        if status.code() == Code::NotFound {
            Self::Gone
        } else if status.code() == Code::Unauthenticated {
            Self::Unauthorized(status.message().to_owned())
        } else if status.code() == Code::PermissionDenied {
            Self::Forbidden(status.message().to_owned())
        } else if status.code() == Code::InvalidArgument && !violations.is_empty() {
            let errors = violations.into_iter().map(|bad| FieldError::new(bad.field, bad.description));
            Self::Invalid(errors.collect())
        } else {
            let why = format!("{:?}: {}", status.code(), status.message());
            Self::Unreachable { node: node.to_owned(), why }
        }
    }

    /// What it means for whoever came with a ticket.
    pub(crate) fn denied(&self) -> Denied {
        match self {
            Self::Misdirected { .. } | Self::Unreachable { .. } => Denied::KeysAway,
            Self::Gone | Self::Invalid(_) | Self::Unauthorized(_) | Self::Forbidden(_) => {
                Denied::Refused(Refusal::Malformed("the ticket was used, has run out, or never was one"))
            }
        }
    }

    /// What the client is told.
    pub(crate) fn into_problem(self) -> Problem {
        match self {
            Self::Gone => Problem::new(
                StatusCode::NOT_FOUND,
                "no-such-connection",
                "There is no such connection",
                "no open stream has this name; open one with the same client_id to go on",
            ),
            Self::Invalid(errors) => Problem::bad_request(errors),
            Self::Unauthorized(why) => {
                Problem::new(StatusCode::UNAUTHORIZED, "unauthorized", "Who asks is not known", why)
                    .with_challenge(HeaderValue::from_static(
                        "Bearer realm=\"evergate\", error=\"invalid_token\"",
                    ))
            }
            Self::Forbidden(why) => {
                Problem::new(StatusCode::FORBIDDEN, "forbidden", "Who asks may not do this", why)
            }
            // Nothing about the nodes: that is for the operator, who finds it in the log.
            Self::Misdirected { .. } | Self::Unreachable { .. } => Problem::new(
                StatusCode::SERVICE_UNAVAILABLE,
                "owner-unreachable",
                "The edge that has the stream cannot be reached",
                "nobody here can tell what became of the stream; repeat the call, or open the stream anew",
            )
            .retry_after(RETRY_AFTER),
        }
    }
}

impl From<Denied> for CallError {
    fn from(denied: Denied) -> Self {
        match denied {
            Denied::Missing | Denied::Refused(_) => Self::Unauthorized(denied.to_string()),
            Denied::Forbidden => Self::Forbidden(denied.to_string()),
            Denied::KeysAway => {
                Self::Unreachable { node: "with the keys".to_owned(), why: denied.to_string() }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_wrong_arrives_as_it_was_said() {
        let said = CallError::invalid("cursor", "\"$\" is no cursor");
        let CallError::Invalid(errors) = CallError::told_by("b", &said.into_status()) else {
            unreachable!("the client's mistake stays the client's")
        };
        assert_eq!(errors, [FieldError::new("cursor", "\"$\" is no cursor")]);
    }

    #[test]
    fn only_the_owner_s_own_word_ends_a_stream_for_its_client() {
        assert!(matches!(CallError::told_by("b", &CallError::Gone.into_status()), CallError::Gone));
        let misdirected = CallError::Misdirected { node: "b".to_owned(), here: "c".to_owned() };
        for status in [
            misdirected.into_status(),
            Status::unavailable("connection refused"),
            Status::unimplemented("an older version"),
            Status::deadline_exceeded("late"),
            // Not about a field of ours.
            Status::invalid_argument("compression"),
        ] {
            let told = CallError::told_by("b", &status);
            assert!(matches!(told, CallError::Unreachable { .. }), "{status:?}");
            assert_eq!(told.into_problem().status(), StatusCode::SERVICE_UNAVAILABLE);
        }
    }
}
