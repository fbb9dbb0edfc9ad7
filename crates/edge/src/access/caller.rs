//! Who asks.

use std::sync::Arc;

use evergate_access::{Grants, Principal};
use evergate_domain::{ClientId, Key, KeyFilter, StreamName, StreamSet};

use crate::access::{Denied, Gate};

/// Whoever sent a request, as far as it was asked. Cheap to clone.
#[derive(Clone, Default)]
pub(crate) struct Caller(Option<Known>);

#[derive(Clone)]
struct Known {
    gate: Arc<Gate>,
    /// `None` for whoever came without a token.
    principal: Option<Arc<Principal>>,
}

impl Caller {
    /// Somebody, at an edge that asks nobody who it is: it may do everything.
    pub(crate) fn anybody() -> Self {
        Self(None)
    }

    pub(super) fn new(gate: Arc<Gate>, principal: Option<Arc<Principal>>) -> Self {
        Self(Some(Known { gate, principal }))
    }

    /// Who it proved to be, and before whom.
    pub(crate) fn known(&self) -> Option<(&Arc<Gate>, &Arc<Principal>)> {
        let known = self.0.as_ref()?;
        Some((&known.gate, known.principal.as_ref()?))
    }

    /// Who it proved to be.
    pub(crate) fn principal(&self) -> Option<&Arc<Principal>> {
        self.0.as_ref()?.principal.as_ref()
    }

    /// What of a subscription it may be shown: filters in the order of the streams. All or nothing:
    /// what it may not see at all is never left out in silence.
    pub(crate) fn narrow(
        &self,
        streams: &StreamSet,
        wanted: &[KeyFilter],
    ) -> Result<Arc<[KeyFilter]>, Denied> {
        let Some(known) = &self.0 else { return Ok(wanted.into()) };
        let grants = known.grants();
        let shown: Option<Arc<[_]>> =
            streams.names().iter().zip(wanted).map(|(name, wanted)| grants.subscribe(name, wanted)).collect();
        shown.ok_or_else(|| known.denied())
    }

    /// Whether the server may keep its place under this name. Only the token's own: a kept place is taken
    /// over by whoever comes with its name.
    pub(crate) fn is_client(&self, client: &ClientId) -> Result<(), Denied> {
        let Some(known) = &self.0 else { return Ok(()) };
        let own = known.principal.as_ref().and_then(|principal| principal.client());
        if own.is_some_and(|own| own.matches(client)) { Ok(()) } else { Err(known.denied()) }
    }

    /// Whether it may publish to a stream at all. Said before anything of its events is read.
    pub(crate) fn publishes_to(&self, stream: &StreamName) -> Result<(), Denied> {
        let Some(known) = &self.0 else { return Ok(()) };
        if known.grants().publishes_to(stream) { Ok(()) } else { Err(known.denied()) }
    }

    /// Whether it may publish events with these keys, now: a call may outlast its token.
    pub(crate) fn publishes<'a>(
        &self,
        stream: &StreamName,
        mut keys: impl Iterator<Item = Option<&'a Key>>,
    ) -> Result<(), Denied> {
        let Some(known) = &self.0 else { return Ok(()) };
        if let Some(principal) = &known.principal {
            known.gate.stands(principal)?;
        }
        let grants = known.grants();
        if keys.all(|key| grants.publish(stream, key)) { Ok(()) } else { Err(known.denied()) }
    }
}

impl Known {
    fn grants(&self) -> &Grants {
        match &self.principal {
            Some(principal) => principal.grants(),
            None => self.gate.anonymous(),
        }
    }

    /// With a token it is forbidden; without one, a token might help.
    fn denied(&self) -> Denied {
        if self.principal.is_some() { Denied::Forbidden } else { Denied::Missing }.count()
    }
}
