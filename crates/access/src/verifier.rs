//! From the text of a token to somebody.

use std::collections::BTreeSet;

use serde_json::Value;

use crate::error::Refusal;
use crate::key_set::KeySet;
use crate::object::Object;
use crate::principal::{Principal, date};
use crate::token::Token;

/// What a token must claim, besides being signed.
#[derive(Debug, Clone)]
pub struct Rules {
    /// Whose tokens are taken; empty for anybody who has a key.
    pub issuers: Vec<String>,
    /// By which names we are meant. Without one, a token that says for whom it is is for others
    /// (RFC 7519, section 4.1.3).
    pub audiences: Vec<String>,
    /// Claims that must be there, whatever they say.
    pub required: BTreeSet<String>,
    /// How far the issuer's clock may be away from ours, in seconds.
    pub leeway: u64,
    /// The claim that holds ours.
    pub claim: String,
}

/// Judges tokens.
#[derive(Debug)]
pub struct Verifier {
    rules: Rules,
}

impl Verifier {
    /// By these rules.
    #[must_use]
    pub fn new(rules: Rules) -> Self {
        Self { rules }
    }

    /// How far the issuer's clock may be away from ours, in seconds.
    #[must_use]
    pub fn leeway(&self) -> u64 {
        self.rules.leeway
    }

    /// Who the bearer of a token is at `now`, in seconds since 1970.
    ///
    /// Nothing that a token claims is read before its signature was found to be right.
    pub fn verify(&self, token: &str, keys: &KeySet, now: u64) -> Result<Principal, Refusal> {
        let token = Token::read(token)?;
        keys.check(token.key_id.as_deref(), token.algorithm, token.signed, &token.signature)?;
        self.judge(&token.claims()?, now)
    }

    /// The claims of a token that [`verify`](Self::verify) takes, as they are written in it, for another
    /// node that believes this one.
    pub fn claims(&self, token: &str, keys: &KeySet, now: u64) -> Result<Vec<u8>, Refusal> {
        self.verify(token, keys, now)?;
        Token::read(token)?.claims()
    }

    /// Who somebody is by claims that another node has verified; what depends on the time is judged
    /// anew.
    pub fn judge(&self, claims: &[u8], now: u64) -> Result<Principal, Refusal> {
        let rules = &self.rules;
        let claims = Object::read(claims).ok_or(Refusal::Malformed("its claims are no JSON object"))?;
        if rules.required.iter().any(|name| claims.get(name).is_none()) {
            return Err(Refusal::Incomplete);
        }
        let issuer = claims.text("iss").map_err(|()| Refusal::Issuer)?;
        if !rules.issuers.is_empty() && !issuer.is_some_and(|issuer| names(&rules.issuers, issuer)) {
            return Err(Refusal::Issuer);
        }
        let meant = match claims.get("aud") {
            None => rules.audiences.is_empty(),
            Some(Value::String(one)) => names(&rules.audiences, one),
            Some(Value::Array(all)) => {
                all.iter().filter_map(Value::as_str).any(|one| names(&rules.audiences, one))
            }
            Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => false,
        };
        if !meant {
            return Err(Refusal::Audience);
        }
        let (now, leeway) = (now as f64, rules.leeway as f64);
        if date(&claims, "nbf")?.is_some_and(|from| now + leeway < from) {
            return Err(Refusal::Early);
        }
        if date(&claims, "exp")?.is_some_and(|until| now >= until + leeway) {
            return Err(Refusal::Expired);
        }
        Principal::read(&claims, &rules.claim)
    }
}

fn names(list: &[String], name: &str) -> bool {
    list.iter().any(|one| one == name)
}
