//! Who may do what: tokens, the keys that vouch for them, and the grants they carry.
//!
//! A [`Verifier`] turns the text of a token into a [`Principal`], or says in a word why not. A
//! [`KeySet`] holds the keys, each for one algorithm only. [`Grants`] answer what may be read and
//! published. [`Revocations`] and [`Tickets`] are the two tables that tokens leave behind.
//!
//! All of it is pure: the time is handed in, and where keys come from is not known here. Nothing here is
//! ever printed that could be used: neither keys nor tokens.

mod algorithm;
mod error;
mod object;

mod key;
mod key_set;

mod token;
mod verifier;

mod client_pattern;
mod grants;
mod principal;

mod revocations;
mod tickets;

pub use algorithm::Algorithm;
pub use client_pattern::ClientPattern;
pub use error::Refusal;
pub use grants::{Grant, GrantError, Grants};
pub use key_set::{KEY_SET_BYTES_MAX, KeySet, KeySetError, Origin};
pub use principal::{Principal, Priority};
pub use revocations::{Full, Revocation, Revocations, Revoked};
pub use tickets::{Ticket, Tickets};
pub use token::TOKEN_BYTES_MAX;
pub use verifier::{Rules, Verifier};
