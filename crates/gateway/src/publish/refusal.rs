//! What the server's refusals mean: whether to try again, and one readable sentence.

use std::time::Duration;

use evergate_proto::publish::v1::Refused;
use tonic::{Code, Status};
use tonic_types::StatusExt;

/// A refusal, or a failure on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Refusal {
    pub code: Code,
    /// Whose fault it is and what to do, in one sentence.
    pub sentence: String,
    /// Whether the same event may be taken later, and no sooner than after this.
    pub retry_after: Option<Duration>,
}

impl Refusal {
    /// Of a whole call.
    pub(crate) fn of_call(status: &Status) -> Self {
        let details = status.get_error_details();
        let mut faults: Vec<String> = Vec::new();
        if let Some(bad) = details.bad_request() {
            faults.extend(bad.field_violations.iter().map(|v| fault(&v.field, &v.description)));
        }
        if let Some(failure) = details.precondition_failure() {
            faults.extend(failure.violations.iter().map(|v| fault(&v.subject, &v.description)));
        }
        if let Some(quota) = details.quota_failure() {
            faults.extend(quota.violations.iter().map(|v| fault(&v.subject, &v.description)));
        }
        let asked = details.retry_info().and_then(|info| info.retry_delay);
        let message = match (status.message(), cause(status)) {
            ("", None) => status.code().description().to_owned(),
            ("", Some(cause)) => cause,
            (message, Some(cause)) if !message.contains(&cause) => format!("{message}: {cause}"),
            (message, _) => message.to_owned(),
        };
        // The message often repeats the only fault there is.
        faults.retain(|fault| !message.contains(fault.as_str()));
        let message = std::iter::once(message).chain(faults).collect::<Vec<_>>().join("; ");
        Self {
            code: status.code(),
            sentence: sentence(status.code(), &message),
            retry_after: asked.or_else(|| passes(status).then_some(Duration::ZERO)),
        }
    }

    /// Of one event of a stream of them.
    pub(crate) fn of_event(refused: &Refused) -> Self {
        let code = Code::from_i32(refused.code);
        let message = if refused.message.contains(&refused.field) {
            refused.message.clone()
        } else {
            fault(&refused.field, &refused.message)
        };
        let wait = Duration::from_millis(refused.retry_after_ms);
        Self {
            code,
            sentence: sentence(code, &message),
            retry_after: (refused.retry_after_ms > 0 || code == Code::Unavailable).then_some(wait),
        }
    }
}

fn fault(field: &str, description: &str) -> String {
    if field.is_empty() { description.to_owned() } else { format!("{field}: {description}") }
}

fn sentence(code: Code, message: &str) -> String {
    let what = match code {
        Code::InvalidArgument => "the event is not valid",
        Code::FailedPrecondition => "the log cannot take it as asked",
        Code::ResourceExhausted => "a limit is reached",
        Code::NotFound => "there is no such stream",
        Code::Unauthenticated => "the server does not know you",
        Code::PermissionDenied => "you may not publish here",
        Code::Unavailable => "the server is not available",
        Code::Unimplemented => "the server does not publish; is this the gRPC address?",
        Code::DeadlineExceeded => "the server took too long",
        Code::Ok
        | Code::Cancelled
        | Code::Unknown
        | Code::AlreadyExists
        | Code::Aborted
        | Code::OutOfRange
        | Code::Internal
        | Code::DataLoss => "the call failed",
    };
    // Servers have words of their own for the plain cases, often the same.
    if message == what { message.to_owned() } else { format!("{what}: {message}") }
}

/// Whether a call that ended so may go well later. All our events carry a producer sequence, so
/// not knowing whether the first attempt took effect is no hindrance.
fn passes(status: &Status) -> bool {
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Aborted | Code::Cancelled => true,
        // A connection that broke shows as one of these, with the cause of the break.
        Code::Unknown | Code::Internal => std::error::Error::source(status).is_some(),
        Code::Ok
        | Code::InvalidArgument
        | Code::NotFound
        | Code::AlreadyExists
        | Code::PermissionDenied
        | Code::ResourceExhausted
        | Code::FailedPrecondition
        | Code::OutOfRange
        | Code::Unimplemented
        | Code::DataLoss
        | Code::Unauthenticated => false,
    }
}

/// The innermost cause, which is the one that says something ("connection refused").
fn cause(status: &Status) -> Option<String> {
    let mut cause = std::error::Error::source(status)?;
    while let Some(deeper) = cause.source() {
        cause = deeper;
    }
    Some(cause.to_string())
}

#[cfg(test)]
mod tests {
    use tonic_types::ErrorDetails;

    use super::*;

    #[test]
    fn details_become_part_of_the_sentence() {
        let details = ErrorDetails::with_bad_request_violation("event.key", "key is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "malformed request", details);
        let refusal = Refusal::of_call(&status);
        assert_eq!(refusal.sentence, "the event is not valid: malformed request; event.key: key is empty");
        assert_eq!(refusal.retry_after, None);
    }

    #[test]
    fn what_the_message_says_already_is_not_repeated() {
        let details = ErrorDetails::with_bad_request_violation("event.key", "key is empty");
        let status = Status::with_error_details(Code::InvalidArgument, "event.key: key is empty", details);
        assert_eq!(Refusal::of_call(&status).sentence, "the event is not valid: event.key: key is empty");
    }

    #[test]
    fn nothing_is_said_twice() {
        let status = Status::not_found("there is no such stream");
        assert_eq!(Refusal::of_call(&status).sentence, "there is no such stream");
    }

    #[test]
    fn a_server_that_says_when_to_retry_is_believed() {
        let details = ErrorDetails::with_retry_info(Some(Duration::from_secs(5)));
        let status = Status::with_error_details(Code::ResourceExhausted, "the log is full", details);
        assert_eq!(Refusal::of_call(&status).retry_after, Some(Duration::from_secs(5)));
        assert_eq!(Refusal::of_call(&Status::resource_exhausted("too large")).retry_after, None);
    }

    #[test]
    fn what_passes_is_told_from_what_lasts() {
        assert_eq!(Refusal::of_call(&Status::unavailable("x")).retry_after, Some(Duration::ZERO));
        assert_eq!(Refusal::of_call(&Status::unknown("x")).retry_after, None);
        let broken = Status::from_error(Box::new(std::io::Error::other("reset by peer")));
        assert_eq!(Refusal::of_call(&broken).retry_after, Some(Duration::ZERO));
        assert!(Refusal::of_call(&broken).sentence.ends_with("reset by peer"));
    }

    #[test]
    fn a_refused_event_is_told_like_a_refused_call() {
        let refused = Refused {
            code: 3,
            message: "key is empty".to_owned(),
            field: "event.key".to_owned(),
            retry_after_ms: 0,
        };
        let expected = Refusal {
            code: Code::InvalidArgument,
            sentence: "the event is not valid: event.key: key is empty".to_owned(),
            retry_after: None,
        };
        assert_eq!(Refusal::of_event(&refused), expected);
        let full =
            Refused { code: 8, message: "full".to_owned(), field: String::new(), retry_after_ms: 5000 };
        assert_eq!(Refusal::of_event(&full).retry_after, Some(Duration::from_secs(5)));
    }
}
