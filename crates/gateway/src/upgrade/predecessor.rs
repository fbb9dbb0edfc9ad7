//! The successor's side: it asks the running process for its listeners.

use std::io;
use std::path::Path;
use std::time::Duration;

use tokio::net::UnixStream;
use tokio::time::timeout;

use super::listeners::{Listeners, Unfit};
use super::message::{FromPredecessor, FromSuccessor, PROTOCOL};
use super::place::{self, PlaceError};
use super::wire::{Wire, WireError};

/// How long the running process may take for an answer. It is busy at most with another successor.
const ANSWER_MAX: Duration = Duration::from_secs(10);

/// A running process that has handed over its listeners and still serves on them.
#[derive(Debug)]
pub(crate) struct Predecessor {
    wire: Wire,
}

/// What became of the running process when it heard that its successor is ready.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Confirmed {
    /// It drains.
    Draining,
    /// It is gone, or was ending by itself: the listeners are the successor's anyway.
    Gone,
}

/// Why nothing was taken over. The running process goes on.
#[derive(Debug, thiserror::Error)]
pub(crate) enum TakeoverError {
    #[error(transparent)]
    Place(#[from] PlaceError),
    #[error("cannot connect")]
    Connect(#[source] io::Error),
    #[error("{0}")]
    Refused(String),
    #[error("it did not answer within {0:?}; another upgrade may be under way")]
    Busy(Duration),
    #[error("the conversation with it broke off")]
    Wire(#[source] WireError),
    #[error("it named {names} listeners and sent {sockets}")]
    Count { names: usize, sockets: usize },
    #[error("it sent a listener that cannot be used")]
    Unfit(#[from] Unfit),
}

impl Predecessor {
    /// Asks the process that waits at `path`, if there is one.
    pub(crate) async fn find(path: &Path, log: &str) -> Result<Option<(Self, Listeners)>, TakeoverError> {
        place::examine(path)?;
        let connecting = timeout(ANSWER_MAX, UnixStream::connect(path));
        let stream = match connecting.await.unwrap_or_else(|late| Err(late.into())) {
            Ok(stream) => stream,
            // Nobody, or nobody any more.
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::ConnectionRefused) =>
            {
                return Ok(None);
            }
            Err(error) => return Err(TakeoverError::Connect(error)),
        };
        let wire = Wire::over(stream).map_err(TakeoverError::Wire)?;
        let hello = FromSuccessor::Hello {
            protocol: PROTOCOL,
            version: env!("CARGO_PKG_VERSION").to_owned(),
            pid: std::process::id(),
            log: log.to_owned(),
        };
        wire.say(&hello, &[], ANSWER_MAX).await.map_err(TakeoverError::Wire)?;
        let (answer, sockets) = wire.hear(ANSWER_MAX).await.map_err(unanswered)?;
        let names = match answer {
            FromPredecessor::Listeners { names } => names,
            FromPredecessor::Refused { why } => return Err(TakeoverError::Refused(why)),
            FromPredecessor::Draining => return Err(TakeoverError::Wire(WireError::Garbled)),
        };
        if names.len() != sockets.len() {
            return Err(TakeoverError::Count { names: names.len(), sockets: sockets.len() });
        }
        let mut listeners = Listeners::default();
        for (name, socket) in names.iter().zip(sockets) {
            listeners.take(name, socket)?;
        }
        Ok(Some((Self { wire }, listeners)))
    }

    /// Tells it that this process accepts connections now, and waits until it accepts none any more.
    /// After an error it goes on, and this process must not.
    pub(crate) async fn confirm(self) -> Result<Confirmed, TakeoverError> {
        let told = async {
            self.wire.say(&FromSuccessor::Ready, &[], ANSWER_MAX).await?;
            Ok(self.wire.hear(ANSWER_MAX).await?.0)
        };
        match told.await {
            Ok(FromPredecessor::Draining) => Ok(Confirmed::Draining),
            Ok(FromPredecessor::Refused { why }) => Err(TakeoverError::Refused(why)),
            Ok(FromPredecessor::Listeners { .. }) => Err(TakeoverError::Wire(WireError::Garbled)),
            // It always says so when it goes on.
            Err(WireError::Gone) => Ok(Confirmed::Gone),
            Err(error) => Err(TakeoverError::Wire(error)),
        }
    }
}

fn unanswered(error: WireError) -> TakeoverError {
    if let WireError::Late(within) = error { TakeoverError::Busy(within) } else { TakeoverError::Wire(error) }
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// What a successor makes of this answer to its being ready.
    async fn confirmed(answer: &FromPredecessor) -> Result<Confirmed, TakeoverError> {
        let (ours, theirs) = UnixStream::pair().unwrap();
        let answering = async {
            let wire = Wire::over(theirs).unwrap();
            assert_eq!(wire.hear::<FromSuccessor>(ANSWER_MAX).await.unwrap().0, FromSuccessor::Ready);
            wire.say(answer, &[], ANSWER_MAX).await.unwrap();
        };
        let predecessor = Predecessor { wire: Wire::over(ours).unwrap() };
        tokio::join!(predecessor.confirm(), answering).0
    }

    #[tokio::test]
    async fn it_goes_on_only_when_the_other_does_not() {
        assert_eq!(confirmed(&FromPredecessor::Draining).await.unwrap(), Confirmed::Draining);
        let refused = confirmed(&FromPredecessor::Refused { why: "too late".to_owned() }).await;
        assert_eq!(refused.unwrap_err().to_string(), "too late");
        let odd = confirmed(&FromPredecessor::Listeners { names: vec![] }).await;
        assert_eq!(odd.unwrap_err().to_string(), "the conversation with it broke off");
    }
}
