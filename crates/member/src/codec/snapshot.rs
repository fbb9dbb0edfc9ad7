//! All that a control node keeps of what was agreed on.

use evergate_domain::UnixMillis;
use evergate_domain::cluster::{Audit, AuditEntry, State};
use evergate_proto::control::v1 as proto;

use super::DecodeError;
use super::change::{decode_view, encode_view};

/// A state as a message. Equal states make equal messages, byte for byte.
#[must_use]
pub fn encode_snapshot(state: &State) -> proto::Snapshot {
    proto::Snapshot {
        view: Some(encode_view(state.view())),
        audit: state.audit().entries().map(encode_audit).collect(),
        drains_asked: state.drains_asked(),
    }
}

/// The state of a message.
pub fn decode_snapshot(snapshot: &proto::Snapshot) -> Result<State, DecodeError> {
    let view = snapshot.view.as_ref().ok_or_else(|| DecodeError::absent("view"))?;
    let audit = snapshot.audit.iter().map(|entry| AuditEntry {
        version: entry.version,
        at: UnixMillis::new(entry.at_ms),
        by: entry.by.clone(),
        what: entry.what.clone(),
    });
    Ok(State::from_parts(decode_view(view)?, Audit::from_entries(audit), snapshot.drains_asked))
}

/// An entry of the audit trail as a message.
#[must_use]
pub fn encode_audit(entry: &AuditEntry) -> proto::AuditEntry {
    proto::AuditEntry {
        version: entry.version,
        at_ms: entry.at.get(),
        by: entry.by.clone(),
        what: entry.what.clone(),
    }
}
