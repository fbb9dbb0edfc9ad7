//! Issuers with keys of two halves, of which one is published.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair as _, RSA_PKCS1_SHA256,
    RsaKeyPair, RsaPublicKeyComponents,
};
use serde_json::{Value, json};

use crate::issuer::now;

/// Made for tests: nobody else's.
static RSA: &[u8] = include_bytes!("../../crates/access/tests/keys/rsa.pk8");

/// A key that signs tokens.
#[derive(Debug)]
pub struct Signer {
    id: String,
    pair: Pair,
}

#[derive(Debug)]
enum Pair {
    Rsa(Box<RsaKeyPair>),
    Ecdsa(EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    /// For RS256. There is one such key.
    ///
    /// # Panics
    /// Never: it was made before.
    #[must_use]
    pub fn rs256(id: &str) -> Self {
        let pair = RsaKeyPair::from_pkcs8(RSA).expect("a key");
        Self { id: id.to_owned(), pair: Pair::Rsa(Box::new(pair)) }
    }

    /// A new one for ES256.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn es256(id: &str) -> Self {
        let (rule, random) = (&ECDSA_P256_SHA256_FIXED_SIGNING, SystemRandom::new());
        let made = EcdsaKeyPair::generate_pkcs8(rule, &random).expect("made");
        let pair = EcdsaKeyPair::from_pkcs8(rule, made.as_ref(), &random).expect("a key");
        Self { id: id.to_owned(), pair: Pair::Ecdsa(pair) }
    }

    /// A new one for EdDSA.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn eddsa(id: &str) -> Self {
        let made = Ed25519KeyPair::generate_pkcs8(&SystemRandom::new()).expect("made");
        let pair = Ed25519KeyPair::from_pkcs8(made.as_ref()).expect("a key");
        Self { id: id.to_owned(), pair: Pair::Ed25519(pair) }
    }

    /// What its tokens are signed by.
    #[must_use]
    pub fn algorithm(&self) -> &'static str {
        match self.pair {
            Pair::Rsa(_) => "RS256",
            Pair::Ecdsa(_) => "ES256",
            Pair::Ed25519(_) => "EdDSA",
        }
    }

    /// The half that is published.
    #[must_use]
    pub fn jwk(&self) -> Value {
        let (id, alg) = (&self.id, self.algorithm());
        match &self.pair {
            Pair::Rsa(pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                json!({ "kty": "RSA", "kid": id, "alg": alg, "n": base64(n), "e": base64(e) })
            }
            Pair::Ecdsa(pair) => {
                let (x, y) = pair.public_key().as_ref()[1..].split_at(32);
                json!({ "kty": "EC", "crv": "P-256", "kid": id, "alg": alg, "x": base64(x), "y": base64(y) })
            }
            Pair::Ed25519(pair) => {
                json!({ "kty": "OKP", "crv": "Ed25519", "kid": id, "alg": alg, "x": base64(pair.public_key()) })
            }
        }
    }

    /// A token with this header, whatever it says.
    ///
    /// # Panics
    /// If there is no randomness.
    #[must_use]
    pub fn sign(&self, header: &Value, claims: &Value) -> String {
        let signed = format!("{}.{}", base64(header.to_string()), base64(claims.to_string()));
        let (message, random) = (signed.as_bytes(), SystemRandom::new());
        let signature = match &self.pair {
            Pair::Rsa(pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                pair.sign(&RSA_PKCS1_SHA256, &random, message, &mut signature).expect("signed");
                signature
            }
            Pair::Ecdsa(pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Pair::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        };
        format!("{signed}.{}", base64(signature))
    }

    /// A token for `subject` that lasts so many seconds and says this of `evergate`.
    #[must_use]
    pub fn token(&self, subject: &str, lasts: u64, evergate: &Value) -> String {
        let header = json!({ "alg": self.algorithm(), "kid": self.id, "typ": "JWT" });
        self.sign(&header, &json!({ "sub": subject, "exp": now() + lasts, "evergate": evergate }))
    }
}

/// The keys of these issuers, as they are published.
#[must_use]
pub fn key_set(signers: &[&Signer]) -> String {
    let keys: Vec<_> = signers.iter().map(|signer| signer.jwk()).collect();
    json!({ "keys": keys }).to_string()
}

/// As the parts of a token are written.
pub fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}
