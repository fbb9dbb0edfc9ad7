//! Where it is decided who somebody is.

use std::borrow::Cow;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use evergate_access::{Full, Grants, Principal, Refusal, Revocation, Revocations, Ticket, Tickets, Verifier};
use parking_lot::Mutex;

use crate::access::bearer::Places;
use crate::access::watched::Term;
use crate::access::{AccessConfig, Asked, Caller, Denied, Keyring};

/// How long a ticket can be used: from an answer to the request that follows it.
const TICKET_LIFETIME: Duration = Duration::from_secs(60);

const RANDOM: &str = "the system gives random numbers once it has started";

/// Knows who is let in. Shared by everything that serves anybody.
#[derive(Debug)]
pub(crate) struct Gate {
    verifier: Verifier,
    keyring: Keyring,
    anonymous: Arc<Grants>,
    revocations: Mutex<Revocations>,
    /// Another one after each start, so that its numbers are not taken for those before.
    incarnation: u64,
    tickets: Mutex<Tickets>,
    /// The name with which tickets begin.
    node: String,
    places: Places,
    /// So long before its token expires a stream is told, in seconds.
    reauth_before: u64,
}

impl Gate {
    pub(crate) fn new(config: &AccessConfig, node: &str) -> Self {
        Self {
            revocations: Mutex::default(),
            incarnation: getrandom::u64().expect(RANDOM),
            tickets: Mutex::new(Tickets::new(TICKET_LIFETIME.as_secs())),
            node: node.to_owned(),
            verifier: Verifier::new(config.rules.clone()),
            keyring: Keyring::new(&config.sources, config.keys_refresh, config.keys_stale_max),
            anonymous: Arc::clone(&config.anonymous),
            reauth_before: config.reauth_before.as_secs(),
            places: Places { cookie: config.cookie.clone(), query: config.query_token },
        }
    }

    /// Where the keys are; it wants to be run.
    pub(crate) fn keyring(&self) -> &Keyring {
        &self.keyring
    }

    /// What may be done without a token.
    pub(super) fn anonymous(&self) -> &Grants {
        &self.anonymous
    }

    /// Who sent a request. A token that is not taken is never passed over: whoever sends one believes that
    /// it counts. Cancel-safe.
    pub(crate) async fn identify(self: &Arc<Self>, asked: &Asked<'_>) -> Result<Caller, Denied> {
        let principal = match self.places.find(asked).map_err(Denied::count)? {
            Some(token) => Some(self.verify(&token).await.map_err(Denied::count)?),
            None => None,
        };
        Ok(Caller::new(Arc::clone(self), principal.map(Arc::new)))
    }

    /// Whose a token is. Keys that are not known yet are looked for, as often as that is allowed.
    pub(crate) async fn verify(&self, token: &str) -> Result<Principal, Denied> {
        let keys = self.keyring.keys();
        let judged = match self.verifier.verify(token, &keys, now()) {
            Err(refusal) if refusal.is_news() => match self.keyring.newer(&keys).await {
                Some(newer) => self.verifier.verify(token, &newer, now()),
                None => Err(refusal),
            },
            judged => judged,
        };
        match judged {
            Ok(principal) => self.unless_revoked(principal),
            // Not a word about the token: nobody could tell.
            Err(Refusal::UnknownKey) if self.keyring.is_short() => Err(Denied::KeysAway),
            Err(refusal) => Err(Denied::Refused(refusal)),
        }
    }

    /// When the streams of somebody are told, and when they end: as late as they could have begun.
    pub(crate) fn term(&self, principal: &Principal) -> Option<Term> {
        let expires = principal.expires()?;
        let (tell_at, ends_at) =
            (expires.saturating_sub(self.reauth_before), expires.saturating_add(self.verifier.leeway()));
        Some(Term { tell_at, ends_at })
    }

    /// The token of a request that means nothing without one.
    pub(crate) fn bearer(&self, asked: &Asked<'_>) -> Result<String, Denied> {
        let token = self.places.find(asked).map_err(Denied::count)?;
        token.map(Cow::into_owned).ok_or_else(|| Denied::Missing.count())
    }

    /// Whether somebody who was let in still would be.
    pub(crate) fn stands(&self, principal: &Principal) -> Result<(), Denied> {
        let leeway = self.verifier.leeway();
        let expired = principal.expires().is_some_and(|until| now() >= until.saturating_add(leeway));
        if expired {
            return Err(Denied::Refused(Refusal::Expired).count());
        }
        if self.is_revoked(principal) {
            return Err(Denied::Refused(Refusal::Revoked).count());
        }
        Ok(())
    }

    fn unless_revoked(&self, principal: Principal) -> Result<Principal, Denied> {
        if self.is_revoked(&principal) { Err(Denied::Refused(Refusal::Revoked)) } else { Ok(principal) }
    }

    /// Whether its token or its subject was called back.
    pub(crate) fn is_revoked(&self, principal: &Principal) -> bool {
        self.revocations.lock().contains(principal, now())
    }

    /// Calls something back. False if that is nothing new.
    pub(crate) fn revoke(&self, revocation: Revocation) -> Result<bool, Full> {
        self.revocations.lock().add(revocation, now())
    }

    /// What was called back, unless `known`, an incarnation and a version, is all there is.
    pub(crate) fn revocations(&self, known: (u64, u64)) -> ((u64, u64), Vec<Revocation>) {
        let revocations = self.revocations.lock();
        let current = (self.incarnation, revocations.version());
        let news = if known == current { Vec::new() } else { revocations.iter().collect() };
        (current, news)
    }

    /// A ticket for a token, which is verified first, and how many seconds it is good for. `None` if there
    /// are too many.
    pub(crate) async fn give_ticket(&self, token: &str) -> Result<Option<(String, u64)>, Denied> {
        let principal = self.verify(token).await.map_err(Denied::count)?;
        // The same keys, or newer ones: both judge alike, or the ticket is not given.
        let claims = self.verifier.claims(token, &self.keyring.keys(), now());
        let claims = claims.map_err(|refusal| Denied::Refused(refusal).count())?;
        let mut random = [0; 16];
        getrandom::fill(&mut random).expect(RANDOM);
        let ticket = Ticket::new(random);
        let subject = principal.subject().unwrap_or_default();
        let mut tickets = self.tickets.lock();
        let given = tickets.give(&ticket, subject, claims, now());
        Ok(given.then(|| (format!("{}~{ticket}", self.node), tickets.lifetime())))
    }

    /// The claims that a ticket of this edge stands for, once.
    pub(crate) fn redeem(&self, ticket: &str) -> Option<Vec<u8>> {
        let (node, secret) = ticket.split_once('~')?;
        let ticket = Ticket::parse(secret).filter(|_| node == self.node)?;
        self.tickets.lock().take(&ticket, now())
    }

    /// Who comes with a ticket that stood for these claims.
    pub(crate) fn by_ticket(self: &Arc<Self>, claims: &[u8]) -> Result<Caller, Denied> {
        let judged = self.verifier.judge(claims, now()).map_err(Denied::Refused);
        let principal = judged.and_then(|principal| self.unless_revoked(principal)).map_err(Denied::count)?;
        Ok(Caller::new(Arc::clone(self), Some(Arc::new(principal))))
    }
}

/// Seconds since 1970, as tokens count them.
pub(crate) fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
