//! What every cursor store promises.

use async_trait::async_trait;
use evergate_domain::{Claim, CursorKey, PackedCursor, StoredCursor};

use crate::BackendError;

/// Keeps one position per client and subscription.
///
/// **Truth.** A kept position is where its client goes on if it brings none of its own. It moves
/// only by the connection that took it over last, by an acknowledgement, or by a client that says
/// itself where it is. Nothing else moves it, and nothing moves it by time.
///
/// **Never skip.** Once a client acknowledges, nothing but acknowledgements move its position, not
/// even an id that it comes back with: a browser sends by itself what it has received, which is not
/// what its page has worked through. Before that, the position is a hint.
///
/// **Retention.** A position that nobody touched is kept for one to two days, then forgotten. Clocks
/// only decide this.
///
/// **Durability.** What was answered is as safe as what the store keeps it in. Where some of it is
/// lost, a client gets events again that it had; it never misses one, unless all of its position is
/// lost and it brings none.
#[async_trait]
pub trait CursorStore: Send + Sync + 'static {
    /// Makes a connection the only one that moves this cursor, and answers with what is kept from
    /// now on; `None` if no position is, because none was and none was given. The connection then
    /// [writes](Self::write) where it begins, as a hint.
    ///
    /// Harmless if repeated. Cancelled, it may have taken effect.
    async fn take_over(
        &self,
        key: &CursorKey,
        take: TakeOver,
    ) -> Result<Option<StoredCursor>, CursorStoreError>;

    /// The same on a condition, in one step.
    ///
    /// Harmless if repeated: a connection that holds it already is answered as if it took it now.
    async fn take_if(&self, key: &CursorKey, take: TakeOver, only: Only) -> Result<Wish, CursorStoreError>;

    /// What is kept right now, whoever holds it; its position is empty while the connection that took it
    /// over has not begun. Takes nothing over and counts as no touch.
    async fn look(&self, key: &CursorKey) -> Result<Option<StoredCursor>, CursorStoreError>;

    /// Moves cursors, each on its own; answers one by one, in order. Writes to the same cursor take
    /// effect in their order. One that has an error for an answer may have taken effect all the same;
    /// to repeat it is harmless. Where one part of the store is down, the others' writes go through.
    async fn write(&self, batch: &[CursorWrite]) -> Vec<Result<Written, CursorStoreError>>;

    /// Forgets what nobody touched for long enough, where that does not happen by itself.
    async fn expire(&self) -> Result<(), CursorStoreError>;

    /// Finishes what is under way. Nothing is taken after.
    async fn close(&self);
}

/// What a connection that takes a cursor over wants of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct TakeOver {
    /// The connection's right.
    pub claim: Claim,
    /// Where the client itself says it is, which is put down also if it is further back, unless the
    /// client acknowledges; `None` to go on from what is kept.
    pub position: Option<PackedCursor>,
    /// Whether the client says that it acknowledges. Once true for a cursor, it stays so.
    pub acknowledges: bool,
}

/// On which condition a cursor is taken over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Only {
    /// Nobody holds it: for a connection that began while the store did not answer, and since when others
    /// may have come. What is kept stays; the connection's position is put down only if none is.
    Free,
    /// It is there: for a client that may be one too many.
    Known,
}

/// What becomes of a wish for a cursor on a condition.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Wish {
    /// It is the connection's now. This is kept, if a position is.
    Taken(Option<StoredCursor>),
    /// The condition was not met. Nothing was changed.
    Denied,
}

/// What moves a cursor.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Move {
    /// The client's connection has taken everything up to there.
    Hint,
    /// The client says that it has worked through everything up to there.
    Acknowledgement,
}

/// One move of one cursor. If nothing is kept, it is kept from now on.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CursorWrite {
    /// Which.
    pub key: CursorKey,
    /// The connection's right.
    pub claim: Claim,
    /// Where to.
    pub position: PackedCursor,
    /// By what.
    pub by: Move,
    /// Whether the connection has ended and lets go of the cursor. Its position may be empty then, and
    /// what is kept stays.
    pub last: bool,
}

/// What a write came to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Written {
    /// The cursor stands there now.
    Moved,
    /// Another connection has taken the cursor over. Nothing was changed.
    Replaced,
    /// Its client acknowledges, so a hint does not move it. It only shows that the client is here.
    Acknowledged,
}

/// Why the store did not answer.
#[derive(Debug, Clone, thiserror::Error)]
pub enum CursorStoreError {
    /// The storage failed. Try again later.
    #[error("the cursor store is unavailable")]
    Unavailable(#[source] BackendError),
    /// It is being closed.
    #[error("the cursor store is shutting down")]
    Closed,
}
