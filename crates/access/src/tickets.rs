//! Tickets: for whoever cannot send a header and should not write its token into a URL.

use std::collections::{HashMap, VecDeque};
use std::fmt;

use ring::digest::{SHA256, digest};

/// Tickets that wait to be used. Beyond it none is given; each is backed by a token that was verified.
const TICKETS_MAX: usize = 8192;

/// Of those, what one subject may have.
const OF_SUBJECT_MAX: u32 = 64;

/// The secret half of a ticket: 128 bits, of which only a digest is kept.
#[derive(Clone, PartialEq, Eq)]
pub struct Ticket([u8; 16]);

impl Ticket {
    /// A ticket by these random bytes.
    #[must_use]
    pub fn new(random: [u8; 16]) -> Self {
        Self(random)
    }

    /// Reads what `Display` writes: 32 hexadecimal digits.
    #[must_use]
    pub fn parse(text: &str) -> Option<Self> {
        let plain = text.len() == 32 && text.bytes().all(|byte| matches!(byte, b'0'..=b'9' | b'a'..=b'f'));
        if !plain {
            return None;
        }
        u128::from_str_radix(text, 16).ok().map(|number| Self(number.to_be_bytes()))
    }

    /// What it is found by: how long that takes tells nothing about the secret.
    fn digest(&self) -> [u8; 32] {
        let mut found_by = [0; 32];
        found_by.copy_from_slice(digest(&SHA256, &self.0).as_ref());
        found_by
    }
}

impl fmt::Display for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:032x}", u128::from_be_bytes(self.0))
    }
}

impl fmt::Debug for Ticket {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Ticket(..)")
    }
}

/// The tickets that were given out and not used. Pure: the time is handed in, in seconds.
#[derive(Debug)]
pub struct Tickets {
    lifetime: u64,
    waiting: HashMap<[u8; 32], Waiting>,
    /// In the order in which they run out.
    order: VecDeque<(u64, [u8; 32])>,
    of_subject: HashMap<String, u32>,
}

struct Waiting {
    until: u64,
    subject: String,
    claims: Vec<u8>,
}

impl Tickets {
    /// Tickets that can be used for so many seconds.
    #[must_use]
    pub fn new(lifetime: u64) -> Self {
        Self { lifetime, waiting: HashMap::new(), order: VecDeque::new(), of_subject: HashMap::new() }
    }

    /// How long they can be used, in seconds.
    #[must_use]
    pub fn lifetime(&self) -> u64 {
        self.lifetime
    }

    /// Gives a ticket for the claims of a token that was verified. False if there are too many, of all or
    /// of this subject.
    pub fn give(&mut self, ticket: &Ticket, subject: &str, claims: Vec<u8>, now: u64) -> bool {
        self.forget(now);
        let own = self.of_subject.get(subject).copied().unwrap_or(0);
        if self.waiting.len() >= TICKETS_MAX || own >= OF_SUBJECT_MAX {
            return false;
        }
        if self.order.len() >= 2 * TICKETS_MAX {
            // Most of it has been used.
            self.order.retain(|(_, found_by)| self.waiting.contains_key(found_by));
        }
        let (found_by, until) = (ticket.digest(), now + self.lifetime);
        self.of_subject.insert(subject.to_owned(), own + 1);
        self.waiting.insert(found_by, Waiting { until, subject: subject.to_owned(), claims });
        self.order.push_back((until, found_by));
        true
    }

    /// Takes a ticket, once: the claims that it was given for.
    pub fn take(&mut self, ticket: &Ticket, now: u64) -> Option<Vec<u8>> {
        self.forget(now);
        let waiting = self.remove(&ticket.digest())?;
        (waiting.until > now).then_some(waiting.claims)
    }

    fn forget(&mut self, now: u64) {
        while let Some((until, found_by)) = self.order.front().copied() {
            // What was used leaves its place in the order behind, which runs out like the others.
            if until > now && self.waiting.contains_key(&found_by) {
                return;
            }
            self.order.pop_front();
            self.remove(&found_by);
        }
    }

    fn remove(&mut self, found_by: &[u8; 32]) -> Option<Waiting> {
        let waiting = self.waiting.remove(found_by)?;
        if let Some(own) = self.of_subject.get_mut(&waiting.subject) {
            *own -= 1;
            if *own == 0 {
                self.of_subject.remove(&waiting.subject);
            }
        }
        Some(waiting)
    }
}

impl fmt::Debug for Waiting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Waiting").field("until", &self.until).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn ticket(n: usize) -> Ticket {
        Ticket::new((n as u128).to_be_bytes())
    }

    #[test]
    fn a_ticket_is_good_once_and_for_a_while() {
        let mut tickets = Tickets::new(60);
        assert!(tickets.give(&ticket(1), "a", b"1".to_vec(), 100));
        assert!(tickets.give(&ticket(2), "a", b"2".to_vec(), 100));
        assert_eq!(tickets.take(&ticket(3), 100), None);
        assert_eq!(tickets.take(&ticket(1), 159).as_deref(), Some(&b"1"[..]));
        assert_eq!(tickets.take(&ticket(1), 159), None, "it was used");
        assert_eq!(tickets.take(&ticket(2), 160), None, "it has run out");
        assert!(tickets.waiting.is_empty() && tickets.order.is_empty() && tickets.of_subject.is_empty());
    }

    #[test]
    fn there_is_an_end_to_what_one_subject_and_all_may_hold() {
        let mut tickets = Tickets::new(60);
        for n in 0..TICKETS_MAX {
            let subject = (n / OF_SUBJECT_MAX as usize).to_string();
            assert!(tickets.give(&ticket(n), &subject, Vec::new(), 0), "{n}");
        }
        assert!(!tickets.give(&ticket(TICKETS_MAX), "new", Vec::new(), 0));
        assert!(tickets.take(&ticket(0), 0).is_some());
        assert!(!tickets.give(&ticket(TICKETS_MAX), "1", Vec::new(), 0), "its own are all out");
        assert!(tickets.give(&ticket(TICKETS_MAX), "0", Vec::new(), 0));
        assert!(tickets.give(&ticket(0), "1", Vec::new(), 60), "those before have run out");
        assert_eq!((tickets.waiting.len(), tickets.order.len()), (1, 1));
    }

    #[test]
    fn what_was_used_is_not_remembered_for_long() {
        let mut tickets = Tickets::new(60);
        assert!(tickets.give(&ticket(0), "a", Vec::new(), 0));
        for n in 1..5 * TICKETS_MAX {
            assert!(tickets.give(&ticket(n), "a", Vec::new(), 0));
            assert!(tickets.take(&ticket(n), 0).is_some());
            assert!(tickets.order.len() <= 2 * TICKETS_MAX);
        }
        assert!(tickets.take(&ticket(0), 0).is_some());
    }

    #[test]
    fn a_ticket_is_read_as_it_is_written_and_not_printed_by_mistake() {
        let ticket = ticket(255);
        assert_eq!(Ticket::parse(&ticket.to_string()), Some(ticket.clone()));
        for bad in ["", "ff", &"F".repeat(32), &"g".repeat(32), &format!("+{}", "0".repeat(31))] {
            assert_eq!(Ticket::parse(bad), None, "{bad}");
        }
        assert_eq!(format!("{ticket:?}"), "Ticket(..)");
    }
}
