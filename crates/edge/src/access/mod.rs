//! Who comes, and what it may do.
//!
//! ```text
//!   request ─▶ bearer ─▶ Gate ──▶ Caller ─▶ narrows a subscription, permits a publish
//!                         │ ▲
//!                   Keyring │ anonymous grants
//! ```
//! What a token means is decided in the crate `access`, purely; here stands where tokens are found in a
//! request, where keys come from, and what whoever is refused is told. A stream that nobody may see and
//! one that does not exist are told apart by nothing: grants are judged before it is looked whether
//! there is such a stream.

mod bearer;
mod caller;
mod config;
mod denied;
mod gate;
mod keyring;
mod watched;
mod word;

pub(crate) use bearer::{Asked, ticket};
pub(crate) use caller::Caller;
pub use config::AccessConfig;
pub(crate) use denied::{Denied, KEYS_AWAY_RETRY};
pub(crate) use gate::{Gate, now};
pub(crate) use keyring::Keyring;
pub use keyring::{KeySource, KeySourceError};
pub(crate) use watched::{NotRenewed, Shown, Term, Watch, Watched};
pub(crate) use word::Word;
