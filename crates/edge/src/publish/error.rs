//! Why a submission was not taken, and the one table of what each transport answers for it.

use std::collections::HashMap;
use std::time::Duration;

use evergate_domain::{Level, ProducerId, Seq, StreamName, TooFast};
use evergate_eventlog::{AppendError, Retry};
use evergate_proto::publish::v1 as proto;
use http::StatusCode;
use tonic::{Code, Status};
use tonic_types::{ErrorDetails, FieldViolation, StatusExt as _};

use super::{Faults, Naming, Part};
use crate::access::{Denied, KEYS_AWAY_RETRY};
use crate::meter::Whose;
use crate::problem::{FieldError, Problem};

/// Why events were not published. Nothing of the submission is in the log, unless the variant says
/// that this is unknown.
#[derive(Debug, Clone, thiserror::Error)]
pub(crate) enum PublishError {
    /// Parts of the submission are malformed.
    #[error("the submission is malformed")]
    Invalid(Faults),
    /// It is well-formed, but beyond a limit.
    #[error("the submission is too large")]
    TooLarge(Faults),
    /// Whoever sends it may not.
    #[error("{0}")]
    Denied(Denied),
    /// The stream does not exist, and publishing does not create it.
    #[error("there is no such stream")]
    UnknownStream,
    /// The log cannot keep events of this stream as safe as was demanded.
    #[error("{} is demanded, but events of this stream are kept {}", demanded.as_str(), offered.as_str())]
    LevelUnavailable { stream: StreamName, demanded: Level, offered: Level },
    /// The producer went back further than the log remembers: neither a duplicate nor new.
    #[error(
        "sequence {seq} of producer {producer} is unknown and not above {newest}, its newest in this stream"
    )]
    SequenceTooOld {
        /// Which event, from 0.
        index: usize,
        producer: ProducerId,
        seq: Seq,
        newest: Seq,
    },
    /// The producer is bound to others than who publishes.
    #[error("producer {producer} is not yours: no certificate was shown that may publish as it")]
    NotItsProducer {
        /// Which event, from 0.
        index: usize,
        producer: ProducerId,
    },
    /// An earlier event of the producer was not taken, in the same call. If this one went before
    /// it, a retry of that one would come too late.
    #[error("sequence {seq} of producer {producer} was not taken: repeat it, then this one")]
    Behind { producer: ProducerId, seq: Seq, after: Duration },
    /// A budget is used up for now.
    #[error("{}: {} events are allowed at once", too_fast_whose(*whose), too_fast.allowance.limit)]
    TooFast { whose: Whose, too_fast: TooFast },
    /// The process has no memory left for anything new.
    #[error("the server is short of memory")]
    ShortOfMemory,
    /// The log has no room.
    #[error("the log is full")]
    Full { after: Duration },
    /// The log failed; whether the events are in it is unknown.
    #[error("the log is unavailable; whether the event was taken is unknown")]
    Unavailable { after: Duration },
    /// The log is being closed.
    #[error("the server is shutting down")]
    Closed { after: Duration },
}

/// A row of the table.
struct Row {
    /// A stable word for programs: in problems, metrics and (in capitals) `ErrorInfo`.
    word: &'static str,
    /// The constant sentence of a problem.
    title: &'static str,
    http: StatusCode,
    grpc: Code,
    retry: Retry,
}

/// When to come again if there was no memory left.
const ROOM_RETRY: Duration = Duration::from_secs(5);

/// How many faults a gRPC status names: it travels in header fields, and clients refuse more than
/// 8 to 16 KiB of those.
const VIOLATIONS_MAX: usize = 16;

impl PublishError {
    /// The error for these faults, of which there is at least one.
    pub(super) fn faulty(faults: Faults) -> Self {
        debug_assert!(!faults.is_empty());
        if faults.only_size() { Self::TooLarge(faults) } else { Self::Invalid(faults) }
    }

    /// The error for what comes while the server stops.
    pub(super) fn stopping() -> Self {
        AppendError::Closed.into()
    }

    /// Which event of those that were appended together is at fault, from 0.
    pub(super) fn index(&self) -> usize {
        match self {
            Self::SequenceTooOld { index, .. } | Self::NotItsProducer { index, .. } => *index,
            Self::Invalid(_)
            | Self::TooLarge(_)
            | Self::Denied(_)
            | Self::UnknownStream
            | Self::LevelUnavailable { .. }
            | Self::Behind { .. }
            | Self::TooFast { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => 0,
        }
    }

    /// The table.
    fn row(&self) -> Row {
        let (word, title, http, grpc, retry) = match self {
            Self::Invalid(_) => (
                "bad-request",
                "The request is malformed",
                StatusCode::BAD_REQUEST,
                Code::InvalidArgument,
                Retry::Never,
            ),
            Self::TooLarge(_) => (
                "too-large",
                "The request is too large",
                StatusCode::PAYLOAD_TOO_LARGE,
                Code::InvalidArgument,
                Retry::Never,
            ),
            Self::Denied(denied) => (
                denied.code(),
                denied.title(),
                denied.http(),
                denied.grpc(),
                match denied {
                    Denied::KeysAway => Retry::After(KEYS_AWAY_RETRY),
                    Denied::Missing | Denied::Refused(_) | Denied::Forbidden => Retry::Never,
                },
            ),
            Self::UnknownStream => (
                "unknown-stream",
                "There is no such stream",
                StatusCode::NOT_FOUND,
                Code::NotFound,
                Retry::Never,
            ),
            Self::LevelUnavailable { .. } => (
                "level-unavailable",
                "The level cannot be given",
                StatusCode::CONFLICT,
                Code::FailedPrecondition,
                Retry::Never,
            ),
            Self::SequenceTooOld { .. } => (
                "sequence-too-old",
                "The producer sequence is too old to be judged",
                StatusCode::CONFLICT,
                Code::FailedPrecondition,
                Retry::Never,
            ),
            Self::NotItsProducer { .. } => (
                "not-its-producer",
                "The producer belongs to somebody else",
                StatusCode::FORBIDDEN,
                Code::PermissionDenied,
                Retry::Never,
            ),
            Self::Behind { after, .. } => (
                "behind",
                "An earlier event of the producer was not taken",
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                Retry::After(*after),
            ),
            Self::TooFast { too_fast, .. } => (
                "rate-limited",
                "Too many events at once",
                StatusCode::TOO_MANY_REQUESTS,
                Code::ResourceExhausted,
                Retry::After(too_fast.after),
            ),
            Self::ShortOfMemory => (
                "short-of-memory",
                "The server is short of memory",
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                Retry::After(ROOM_RETRY),
            ),
            Self::Full { after } => (
                "log-full",
                "The log is full",
                StatusCode::INSUFFICIENT_STORAGE,
                Code::ResourceExhausted,
                Retry::After(*after),
            ),
            Self::Unavailable { after } => (
                "log-unavailable",
                "The log is unavailable",
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                Retry::After(*after),
            ),
            Self::Closed { after } => (
                "shutting-down",
                "The server is shutting down",
                StatusCode::SERVICE_UNAVAILABLE,
                Code::Unavailable,
                Retry::After(*after),
            ),
        };
        Row { word, title, http, grpc, retry }
    }

    /// The stable word for it.
    pub(super) fn word(&self) -> &'static str {
        self.row().word
    }

    /// Whether the same submission may succeed later.
    pub(super) fn retry(&self) -> Retry {
        self.row().retry
    }

    /// Where the faults are.
    pub(super) fn fields(&self, naming: Naming<'_>) -> Vec<FieldError> {
        match self {
            Self::Invalid(faults) | Self::TooLarge(faults) => faults.located(naming),
            Self::LevelUnavailable { .. } => vec![naming.locate(0, &Part::Level, &self.to_string())],
            Self::SequenceTooOld { index, .. } => {
                vec![naming.locate(*index, &Part::ProducerSeq, &self.to_string())]
            }
            Self::NotItsProducer { index, .. } => {
                vec![naming.locate(*index, &Part::ProducerId, &self.to_string())]
            }
            Self::Denied(_)
            | Self::UnknownStream
            | Self::Behind { .. }
            | Self::TooFast { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => Vec::new(),
        }
    }

    /// The answer over HTTP.
    pub(super) fn into_problem(self, naming: Naming<'_>) -> Problem {
        let Row { word, title, http, retry, .. } = self.row();
        let fields = self.fields(naming);
        let allowance = match &self {
            Self::TooFast { too_fast, .. } => Some(too_fast.allowance),
            Self::Invalid(_)
            | Self::TooLarge(_)
            | Self::Denied(_)
            | Self::UnknownStream
            | Self::LevelUnavailable { .. }
            | Self::SequenceTooOld { .. }
            | Self::NotItsProducer { .. }
            | Self::Behind { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => None,
        };
        let problem = match self {
            Self::Denied(denied) => return denied.into_problem(),
            Self::Invalid(_) => Problem::bad_request(fields),
            Self::TooLarge(_)
            | Self::UnknownStream
            | Self::LevelUnavailable { .. }
            | Self::SequenceTooOld { .. }
            | Self::NotItsProducer { .. }
            | Self::Behind { .. }
            | Self::TooFast { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => {
                Problem::new(http, word, title, self.message(&fields)).with_errors(fields)
            }
        };
        let problem = problem.with_allowance(allowance);
        debug_assert_eq!((problem.status(), problem.code()), (http, word));
        match retry {
            Retry::Never => problem,
            Retry::After(after) => problem.retry_after(after),
        }
    }

    /// The answer over gRPC.
    pub(super) fn into_status(self, naming: Naming<'_>) -> Status {
        let Row { word, grpc, retry, .. } = self.row();
        let fields = self.fields(naming);
        let message = self.message(&fields);
        let reason = word.replace('-', "_").to_ascii_uppercase();
        let mut details = ErrorDetails::with_error_info(reason.clone(), "evergate", HashMap::new());
        match &self {
            Self::Invalid(_) | Self::TooLarge(_) => {
                let violations = fields.into_iter().take(VIOLATIONS_MAX);
                details.set_bad_request(
                    violations
                        .map(|error| FieldViolation::new(error.field, error.detail))
                        .collect::<Vec<_>>(),
                );
            }
            Self::LevelUnavailable { stream, .. } => {
                details.add_precondition_failure_violation(reason, format!("streams/{stream}"), &message);
            }
            Self::SequenceTooOld { producer, .. } => {
                details.add_precondition_failure_violation(reason, format!("producers/{producer}"), &message);
            }
            Self::Denied(_)
            | Self::UnknownStream
            | Self::NotItsProducer { .. }
            | Self::Behind { .. }
            | Self::TooFast { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => {}
        }
        if let Retry::After(after) = retry {
            details.set_retry_info(Some(after));
        }
        Status::with_error_details(grpc, message, details)
    }

    /// The answer for one event of a `PublishStream`.
    pub(super) fn into_refused(self) -> proto::Refused {
        let Row { grpc, retry, .. } = self.row();
        let fields = self.fields(Naming::Event);
        proto::Refused {
            code: grpc.into(),
            message: self.message(&fields),
            field: fields.into_iter().next().map(|error| error.field).unwrap_or_default(),
            retry_after_ms: match retry {
                Retry::Never => 0,
                Retry::After(after) => u64::try_from(after.as_millis()).unwrap_or(u64::MAX).max(1),
            },
        }
    }

    /// This occurrence in words.
    fn message(&self, fields: &[FieldError]) -> String {
        match self {
            Self::Invalid(_) | Self::TooLarge(_) => FieldError::summary(fields),
            Self::Denied(_)
            | Self::UnknownStream
            | Self::LevelUnavailable { .. }
            | Self::SequenceTooOld { .. }
            | Self::NotItsProducer { .. }
            | Self::Behind { .. }
            | Self::TooFast { .. }
            | Self::ShortOfMemory
            | Self::Full { .. }
            | Self::Unavailable { .. }
            | Self::Closed { .. } => self.to_string(),
        }
    }
}

fn too_fast_whose(whose: Whose) -> &'static str {
    match whose {
        Whose::Address => "this address publishes too fast",
        Whose::Principal => "whom this token names publishes too fast",
        Whose::Stream => "too much is published to this stream",
    }
}

impl From<AppendError> for PublishError {
    /// What the storage said stays behind: it is for the operator, who finds it in the log output.
    fn from(error: AppendError) -> Self {
        let after = match error.retry() {
            Retry::Never => Duration::ZERO,
            Retry::After(after) => after,
        };
        match error {
            AppendError::SequenceTooOld { index, producer, seq, newest } => {
                Self::SequenceTooOld { index, producer, seq, newest }
            }
            AppendError::OtherLevel { stream, made, configured } => {
                Self::LevelUnavailable { stream, demanded: configured, offered: made }
            }
            AppendError::Full(_) => Self::Full { after },
            AppendError::Unavailable(_) => Self::Unavailable { after },
            AppendError::Closed => Self::Closed { after },
        }
    }
}
