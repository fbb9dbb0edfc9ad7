//! An issuer of tokens: one secret, in a file that the server reads.

use std::path::{Path, PathBuf};
use std::time::{SystemTime, UNIX_EPOCH};

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use serde_json::{Value, json};
use tempfile::TempDir;

use crate::process::Options;

/// Signs tokens with HS256.
#[derive(Debug)]
pub struct Issuer {
    id: String,
    secret: Vec<u8>,
    home: TempDir,
}

impl Issuer {
    /// An issuer whose key has this name.
    #[must_use]
    pub fn new(id: &str) -> Self {
        let secret = id.bytes().cycle().take(64).collect();
        let issuer = Self { id: id.to_owned(), secret, home: tempfile::tempdir().expect("a folder") };
        issuer.publish(&[&issuer]);
        issuer
    }

    /// Writes the keys of these issuers into this one's file, in one step.
    pub fn publish(&self, issuers: &[&Self]) {
        let keys: Vec<_> = issuers.iter().map(|issuer| issuer.jwk()).collect();
        let next = self.home.path().join("next.json");
        std::fs::write(&next, json!({ "keys": keys }).to_string()).expect("the keys are written");
        std::fs::rename(next, self.file()).expect("the keys are put in place");
    }

    /// Where the keys are.
    #[must_use]
    pub fn file(&self) -> PathBuf {
        self.home.path().join("keys.json")
    }

    /// The folder of the keys.
    #[must_use]
    pub fn folder(&self) -> &Path {
        self.home.path()
    }

    /// Settings of a server that believes this issuer.
    #[must_use]
    pub fn guard(&self, options: Options) -> Options {
        let file = format!("file:{}", self.file().display());
        options.set("access.mode", "tokens").set("access.keys", &file).set("access.leeway", "0s")
    }

    fn jwk(&self) -> Value {
        json!({ "kty": "oct", "alg": "HS256", "kid": self.id, "k": URL_SAFE_NO_PAD.encode(&self.secret) })
    }

    /// A token with exactly these claims.
    #[must_use]
    pub fn sign(&self, claims: &Value) -> String {
        let header = json!({ "alg": "HS256", "kid": self.id });
        let [header, claims] = [&header, claims].map(|part| URL_SAFE_NO_PAD.encode(part.to_string()));
        let signed = format!("{header}.{claims}");
        let signature = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &self.secret), signed.as_bytes());
        format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature))
    }

    /// A token for `subject` that lasts so many seconds and says this of `evergate`.
    #[must_use]
    pub fn token(&self, subject: &str, lasts: u64, evergate: &Value) -> String {
        self.sign(&json!({
            "sub": subject,
            "jti": format!("{subject}-{lasts}"),
            "exp": now() + lasts,
            "evergate": evergate,
        }))
    }
}

/// Seconds since 1970.
#[must_use]
pub fn now() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs())
}
