//! Who somebody is, by the claims of a token.

use evergate_domain::{Key, StreamName};
use serde_json::Value;

use crate::client_pattern::ClientPattern;
use crate::error::Refusal;
use crate::grants::{Grant, Grants};
use crate::object::Object;

/// How much its bearer counts where not everybody can be served: the more the higher, 1 by default.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub struct Priority(u8);

/// The year 9999; a date that is later is no date.
const DATE_MAX: f64 = 253_402_300_799.0;

/// The longest `sub` and `jti`, in bytes.
const NAME_BYTES_MAX: usize = 256;

/// Somebody, and everything that was said of it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Principal {
    subject: Option<String>,
    token_id: Option<String>,
    expires: Option<u64>,
    client: Option<ClientPattern>,
    priority: Priority,
    grants: Grants,
}

impl Principal {
    /// By claims that are proven; those under `name` are ours.
    pub(crate) fn read(claims: &Object, name: &str) -> Result<Self, Refusal> {
        let own = match claims.get(name) {
            None => Value::Object(serde_json::Map::new()),
            Some(own @ Value::Object(_)) => own.clone(),
            Some(_) => return Err(Refusal::Claim("of this server")),
        };
        let client = match own.get("client_id") {
            None => None,
            Some(value) => {
                let pattern = value.as_str().and_then(|text| ClientPattern::parse(text).ok());
                Some(pattern.ok_or(Refusal::Claim("client_id"))?)
            }
        };
        let priority = match own.get("priority") {
            None => Priority::default(),
            Some(value) => {
                let priority = value.as_u64().and_then(|number| u8::try_from(number).ok());
                Priority(priority.filter(|number| *number <= 100).ok_or(Refusal::Claim("priority"))?)
            }
        };
        let subscribe = grants(&own, "subscribe")?;
        let publish = grants(&own, "publish")?;
        let grants = Grants::new(subscribe, publish).map_err(|_| Refusal::Claim("of this server"))?;
        Ok(Self {
            subject: name_of(claims, "sub")?,
            token_id: name_of(claims, "jti")?,
            expires: date(claims, "exp")?.map(|date| date as u64),
            client,
            priority,
            grants,
        })
    }

    /// `sub`.
    #[must_use]
    pub fn subject(&self) -> Option<&str> {
        self.subject.as_deref()
    }

    /// `jti`.
    #[must_use]
    pub fn token_id(&self) -> Option<&str> {
        self.token_id.as_deref()
    }

    /// `exp`, in seconds since 1970: from then on it is nobody.
    #[must_use]
    pub fn expires(&self) -> Option<u64> {
        self.expires
    }

    /// Which kept places are its own; none without a claim.
    #[must_use]
    pub fn client(&self) -> Option<&ClientPattern> {
        self.client.as_ref()
    }

    /// How much it counts.
    #[must_use]
    pub fn priority(&self) -> Priority {
        self.priority
    }

    /// What it may do.
    #[must_use]
    pub fn grants(&self) -> &Grants {
        &self.grants
    }

    /// Whether it may publish an event with this key.
    #[must_use]
    pub fn publishes(&self, stream: &StreamName, key: Option<&Key>) -> bool {
        self.grants.publish(stream, key)
    }
}

impl Priority {
    /// 0 to 100.
    #[must_use]
    pub fn get(self) -> u8 {
        self.0
    }
}

impl Default for Priority {
    fn default() -> Self {
        Self(1)
    }
}

fn grants(own: &Value, name: &'static str) -> Result<Vec<Grant>, Refusal> {
    let Some(value) = own.get(name) else { return Ok(Vec::new()) };
    let list = value.as_array().ok_or(Refusal::Claim(name))?;
    let read = |value: &Value| value.as_str().and_then(|text| text.parse().ok()).ok_or(Refusal::Claim(name));
    list.iter().map(read).collect()
}

/// A name as long as names are.
fn name_of(claims: &Object, name: &'static str) -> Result<Option<String>, Refusal> {
    let text = claims.text(name).map_err(|()| Refusal::Claim(name))?;
    match text {
        Some(text) if text.is_empty() || text.len() > NAME_BYTES_MAX => Err(Refusal::Claim(name)),
        text => Ok(text.map(str::to_owned)),
    }
}

/// A date by RFC 7519, section 2: seconds since 1970, with or without a fraction.
pub(crate) fn date(claims: &Object, name: &'static str) -> Result<Option<f64>, Refusal> {
    let Some(value) = claims.get(name) else { return Ok(None) };
    let date = value.as_f64().filter(|date| (0.0..=DATE_MAX).contains(date));
    date.map(Some).ok_or(Refusal::Claim(name))
}
