//! Session tickets, which every edge of a cluster can read.
//!
//! ```text
//!   secret (32 bytes, of the cluster or of this process)
//!      │  HKDF-SHA256, with what the server asks of its clients and the number of the period
//!      ▼
//!   name (16) + key (AES-256-GCM), one pair for each period of six hours
//!
//!   ticket = name │ nonce (12) │ sealed session │ tag (16)
//! ```
//!
//! So keys rotate by themselves, at the same time everywhere, and nobody has to be told. A ticket is
//! of use for two periods after its own; one of a neighbour whose clock is ahead, for one more. What a
//! clock decides here is only whether a client shakes hands in full.
//!
//! What a server asks of its clients goes into the keys because a session that is taken up again
//! skips the check of the client's certificate: a ticket of a server that asks for none must be
//! worthless at one that does, and after a change of the roots that clients are judged by.

use std::fmt;
use std::path::Path;
use std::time::{SystemTime, UNIX_EPOCH};

use parking_lot::RwLock;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, KeyType, Salt};
use ring::rand::{SecureRandom as _, SystemRandom};
use rustls::server::ProducesTickets;

use crate::error::LoadError;
use crate::files::read;

const SECRET_LEN: usize = 32;
const NAME_LEN: usize = 16;
const KEY_LEN: usize = 32;

/// How long one key seals tickets.
const PERIOD_S: u64 = 6 * 60 * 60;

/// How many periods back a ticket is still taken.
const PERIODS_BACK: u64 = 2;

/// What tickets are made of. The first seals, all open.
#[derive(Clone, PartialEq, Eq)]
pub(crate) struct Secrets(Vec<[u8; SECRET_LEN]>);

impl fmt::Debug for Secrets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Secrets({})", self.0.len())
    }
}

impl Secrets {
    /// Of this process alone.
    pub(crate) fn random() -> Result<Self, LoadError> {
        let mut secret = [0; SECRET_LEN];
        SystemRandom::new()
            .fill(&mut secret)
            .map_err(|_| LoadError::Impossible("the system has no randomness".to_owned()))?;
        Ok(Self(vec![secret]))
    }

    /// Of a cluster: a file with one secret a line, as 64 hexadecimal digits, the newest first.
    pub(crate) fn load(path: &Path) -> Result<Self, LoadError> {
        let text = read(path)?;
        let lines = text.split(|byte| *byte == b'\n').map(<[u8]>::trim_ascii);
        let written = lines.enumerate().filter(|(_, line)| !line.is_empty() && !line.starts_with(b"#"));
        let secrets: Vec<_> = written
            .map(|(at, line)| {
                // The line is not repeated: it may be nearly a secret.
                secret(line).ok_or_else(|| {
                    let what = format!("line {} is no secret of 64 hexadecimal digits", at + 1);
                    LoadError::malformed(path, what)
                })
            })
            .collect::<Result<_, _>>()?;
        if secrets.is_empty() {
            return Err(LoadError::malformed(path, "holds no secret; `openssl rand -hex 32` makes one"));
        }
        Ok(Self(secrets))
    }
}

fn secret(line: &[u8]) -> Option<[u8; SECRET_LEN]> {
    let mut secret = [0; SECRET_LEN];
    if line.len() != 2 * SECRET_LEN {
        return None;
    }
    for (byte, digits) in secret.iter_mut().zip(line.chunks(2)) {
        let digits = std::str::from_utf8(digits)
            .ok()
            .filter(|digits| digits.bytes().all(|d| d.is_ascii_hexdigit()))?;
        *byte = u8::from_str_radix(digits, 16).ok()?;
    }
    Some(secret)
}

/// Seals and opens tickets for servers that ask the same of their clients.
pub(crate) struct Tickets {
    secrets: Secrets,
    /// What the server asks of its clients, in bytes.
    terms: Vec<u8>,
    keys: RwLock<Keys>,
    random: SystemRandom,
}

/// The keys of the periods around one.
struct Keys {
    period: u64,
    /// The newest secret's for this period.
    sealing: Key,
    opening: Vec<Key>,
}

struct Key {
    name: [u8; NAME_LEN],
    key: LessSafeKey,
}

impl fmt::Debug for Tickets {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Tickets").field("secrets", &self.secrets).finish_non_exhaustive()
    }
}

impl Tickets {
    pub(crate) fn new(secrets: Secrets, terms: Vec<u8>) -> Self {
        let keys = RwLock::new(Keys::around(&secrets, &terms, period()));
        Self { secrets, terms, keys, random: SystemRandom::new() }
    }

    /// Makes the keys anew when a period has begun.
    fn keep_up(&self, period: u64) {
        if self.keys.read().period != period {
            *self.keys.write() = Keys::around(&self.secrets, &self.terms, period);
        }
    }

    fn seal(&self, plain: &[u8], period: u64) -> Option<Vec<u8>> {
        self.keep_up(period);
        let mut nonce = [0; NONCE_LEN];
        self.random.fill(&mut nonce).ok()?;
        let keys = self.keys.read();
        let Key { name, key } = &keys.sealing;
        let mut sealed = plain.to_vec();
        let nonce_used = Nonce::assume_unique_for_key(nonce);
        key.seal_in_place_append_tag(nonce_used, Aad::from(name), &mut sealed).ok()?;
        Some([&name[..], &nonce, &sealed].concat())
    }

    fn open(&self, ticket: &[u8], period: u64) -> Option<Vec<u8>> {
        self.keep_up(period);
        let (name, rest) = ticket.split_at_checked(NAME_LEN)?;
        let (nonce, sealed) = rest.split_at_checked(NONCE_LEN)?;
        let keys = self.keys.read();
        let Key { name, key } = keys.opening.iter().find(|key| key.name == name)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).ok()?;
        let mut opened = sealed.to_vec();
        let len = key.open_in_place(nonce, Aad::from(name), &mut opened).ok()?.len();
        opened.truncate(len);
        Some(opened)
    }
}

impl ProducesTickets for Tickets {
    fn enabled(&self) -> bool {
        true
    }

    fn lifetime(&self) -> u32 {
        u32::try_from(PERIODS_BACK * PERIOD_S).expect("half a day")
    }

    fn encrypt(&self, plain: &[u8]) -> Option<Vec<u8>> {
        self.seal(plain, period())
    }

    fn decrypt(&self, cipher: &[u8]) -> Option<Vec<u8>> {
        self.open(cipher, period())
    }
}

impl Keys {
    fn around(secrets: &Secrets, terms: &[u8], period: u64) -> Self {
        let periods = period.saturating_sub(PERIODS_BACK)..=period.saturating_add(1);
        let opening = secrets.0.iter().flat_map(|secret| periods.clone().map(|p| Key::of(secret, terms, p)));
        Self { period, sealing: Key::of(&secrets.0[0], terms, period), opening: opening.collect() }
    }
}

impl Key {
    fn of(secret: &[u8; SECRET_LEN], terms: &[u8], period: u64) -> Self {
        struct Bytes;
        impl KeyType for Bytes {
            fn len(&self) -> usize {
                NAME_LEN + KEY_LEN
            }
        }
        let derived = Salt::new(HKDF_SHA256, b"evergate session tickets 1").extract(secret);
        let mut bytes = [0; NAME_LEN + KEY_LEN];
        derived
            .expand(&[terms, &period.to_be_bytes()], Bytes)
            .and_then(|okm| okm.fill(&mut bytes))
            .expect("48 bytes are fewer than HKDF gives");
        let (name, key) = bytes.split_at(NAME_LEN);
        let key = UnboundKey::new(&AES_256_GCM, key).expect("a key of this length");
        Self { name: name.try_into().expect("split there"), key: LessSafeKey::new(key) }
    }
}

fn period() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs()) / PERIOD_S
}

#[cfg(test)]
mod tests {
    use super::*;

    fn secrets(bytes: &[u8]) -> Secrets {
        Secrets(bytes.iter().map(|byte| [*byte; SECRET_LEN]).collect())
    }

    fn tickets(bytes: &[u8], terms: &str) -> Tickets {
        Tickets::new(secrets(bytes), terms.as_bytes().to_vec())
    }

    #[test]
    fn an_edge_opens_what_another_with_the_same_secret_sealed() {
        let (a, b) = (tickets(&[1], "http"), tickets(&[1], "http"));
        let ticket = a.seal(b"a session", 100).expect("sealed");
        assert_eq!(b.open(&ticket, 100).as_deref(), Some(&b"a session"[..]));
        assert_eq!(tickets(&[2], "http").open(&ticket, 100), None, "another secret");
    }

    #[test]
    fn a_ticket_outlives_two_periods_and_no_third() {
        let tickets = tickets(&[1], "http");
        let ticket = tickets.seal(b"a session", 100).expect("sealed");
        for (period, opens) in [(99, true), (100, true), (102, true), (103, false), (98, false)] {
            assert_eq!(tickets.open(&ticket, period).is_some(), opens, "in period {period}");
        }
    }

    #[test]
    fn a_new_secret_is_sealed_with_by_some_while_others_seal_with_the_old_one() {
        let (old, both, new) = (tickets(&[1, 2], "http"), tickets(&[2, 1], "http"), tickets(&[2], "http"));
        let of_old = old.seal(b"a session", 7).expect("sealed");
        let of_new = both.seal(b"a session", 7).expect("sealed");
        assert!(both.open(&of_old, 7).is_some() && old.open(&of_new, 7).is_some());
        assert!(new.open(&of_new, 7).is_some() && new.open(&of_old, 7).is_none());
    }

    #[test]
    fn a_ticket_is_worthless_where_clients_are_asked_for_something_else() {
        let ticket = tickets(&[1], "anybody").seal(b"a session", 7).expect("sealed");
        assert_eq!(tickets(&[1], "certificates by root 5").open(&ticket, 7), None);
    }

    #[test]
    fn a_ticket_that_was_changed_or_cut_anywhere_is_worthless() {
        let tickets = tickets(&[1], "http");
        let ticket = tickets.seal(b"a session", 7).expect("sealed");
        for at in 0..ticket.len() {
            let mut changed = ticket.clone();
            changed[at] ^= 1;
            assert_eq!(tickets.open(&changed, 7), None, "byte {at} changed");
            assert_eq!(tickets.open(&ticket[..at], 7), None, "cut at {at}");
        }
    }

    #[test]
    fn a_file_of_secrets_says_which_line_is_wrong_without_repeating_it() {
        let directory = tempfile::tempdir().expect("a place for files");
        let path = directory.path().join("tickets");
        let of = |text: &str| {
            std::fs::write(&path, text).expect("written");
            Secrets::load(&path)
        };
        let (a, b) = ("0a".repeat(32), "0B".repeat(32));
        assert_eq!(of(&format!("# newest first\n{a}\r\n\n{b}\n")).expect("two"), secrets(&[10, 11]));
        let wrong = of(&format!("{a}\n{}\n", &b[1..])).expect_err("too short").to_string();
        assert!(wrong.contains("line 2") && !wrong.contains("0B"), "{wrong}");
        assert!(of(&"+1".repeat(32)).is_err(), "no digits");
        assert!(of("# nothing\n").expect_err("empty").to_string().contains("openssl rand -hex 32"));
    }
}
