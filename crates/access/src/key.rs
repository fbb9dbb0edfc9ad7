//! One key, for one algorithm.

use std::fmt;

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::hmac;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED, ECDSA_P384_SHA384_FIXED, ED25519, RSA_PKCS1_2048_8192_SHA256,
    RSA_PSS_2048_8192_SHA256, RsaParameters, RsaPublicKeyComponents, UnparsedPublicKey,
    VerificationAlgorithm,
};
use serde_json::Value;

use crate::algorithm::Algorithm;
use crate::object::Object;

/// A key that vouches for tokens, by one algorithm only: what a token's header says of it decides
/// nothing.
pub(crate) struct Key {
    id: Option<String>,
    algorithm: Algorithm,
    material: Material,
}

enum Material {
    Shared(hmac::Key),
    Rsa(&'static RsaParameters, RsaPublicKeyComponents<Vec<u8>>),
    Point(UnparsedPublicKey<Vec<u8>>),
}

/// Why a key is none. Says what is wrong, never what is written there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NoKey {
    /// Of a kind, or for a use, that is not ours; a set may hold such keys for others.
    NotForUs,
    /// It should be one.
    Malformed(&'static str),
    /// A secret that would be known to whoever can read the set.
    Secret(&'static str),
}

use NoKey::{Malformed, NotForUs, Secret};

impl Key {
    /// Reads a key by RFC 7517.
    pub(crate) fn read(jwk: &Object) -> Result<Self, NoKey> {
        let text = |name| jwk.text(name).map_err(|()| Malformed("a member that should be text is not"));
        let kind = text("kty")?.ok_or(Malformed("it has no kty"))?;
        if jwk.get("d").is_some() {
            return Err(Secret("it is a private key, of which only the public half belongs here"));
        }
        let for_signatures = text("use")?.is_none_or(|purpose| purpose == "sig");
        let operations = jwk.get("key_ops").and_then(Value::as_array);
        let verifies = operations.is_none_or(|all| all.iter().any(|one| one == "verify"));
        if !for_signatures || !verifies {
            return Err(NotForUs);
        }
        let named = text("alg")?;
        let algorithm = match named {
            Some(name) => Some(Algorithm::parse(name).ok_or(NotForUs)?),
            None => None,
        };
        let part = |name, missing| {
            let encoded = text(name)?.ok_or(Malformed(missing))?;
            URL_SAFE_NO_PAD
                .decode(encoded)
                .map_err(|_| Malformed("a member is not base64url without padding"))
        };
        let (algorithm, material) = match kind {
            "oct" => {
                let algorithm = algorithm.ok_or(Malformed("a shared secret must name its alg"))?;
                shared(algorithm, &part("k", "it has no k")?)?
            }
            "RSA" => {
                // Without a word of the key's own it is the algorithm that everybody means.
                let algorithm = algorithm.unwrap_or(Algorithm::Rs256);
                rsa(algorithm, part("n", "it has no n")?, part("e", "it has no e")?)?
            }
            "EC" => {
                let curve = text("crv")?.ok_or(Malformed("it has no crv"))?;
                point(curve, algorithm, &part("x", "it has no x")?, &part("y", "it has no y")?)?
            }
            "OKP" => {
                let curve = text("crv")?.ok_or(Malformed("it has no crv"))?;
                edwards(curve, algorithm, part("x", "it has no x")?)?
            }
            _ => return Err(NotForUs),
        };
        Ok(Self { id: text("kid")?.map(str::to_owned), algorithm, material })
    }

    /// By which a token names it.
    pub(crate) fn id(&self) -> Option<&str> {
        self.id.as_deref()
    }

    /// The one algorithm it is for.
    pub(crate) fn algorithm(&self) -> Algorithm {
        self.algorithm
    }

    /// Whether it is a secret, which whoever knows it can sign with.
    pub(crate) fn is_shared(&self) -> bool {
        matches!(self.material, Material::Shared(_))
    }

    /// Whether the signature is this key's; compared in constant time where the key is a secret.
    pub(crate) fn signed(&self, message: &[u8], signature: &[u8]) -> bool {
        match &self.material {
            Material::Shared(key) => hmac::verify(key, message, signature).is_ok(),
            Material::Rsa(parameters, key) => key.verify(parameters, message, signature).is_ok(),
            Material::Point(key) => key.verify(message, signature).is_ok(),
        }
    }
}

fn shared(algorithm: Algorithm, secret: &[u8]) -> Result<(Algorithm, Material), NoKey> {
    let (hash, bytes_min) = match algorithm {
        Algorithm::Hs256 => (hmac::HMAC_SHA256, 32),
        Algorithm::Hs384 => (hmac::HMAC_SHA384, 48),
        Algorithm::Hs512 => (hmac::HMAC_SHA512, 64),
        Algorithm::Rs256 | Algorithm::Ps256 | Algorithm::Es256 | Algorithm::Es384 | Algorithm::EdDsa => {
            return Err(Malformed("its alg is not one for its kty"));
        }
    };
    // RFC 7518, section 3.2. A shorter one can be guessed from any token.
    if secret.len() < bytes_min {
        return Err(Malformed("a shared secret must be as long as the hash: 32, 48 or 64 bytes"));
    }
    Ok((algorithm, Material::Shared(hmac::Key::new(hash, secret))))
}

fn rsa(algorithm: Algorithm, n: Vec<u8>, e: Vec<u8>) -> Result<(Algorithm, Material), NoKey> {
    let parameters = match algorithm {
        Algorithm::Rs256 => &RSA_PKCS1_2048_8192_SHA256,
        Algorithm::Ps256 => &RSA_PSS_2048_8192_SHA256,
        Algorithm::Hs256
        | Algorithm::Hs384
        | Algorithm::Hs512
        | Algorithm::Es256
        | Algorithm::Es384
        | Algorithm::EdDsa => return Err(Malformed("its alg is not one for its kty")),
    };
    // Some issuers keep the zero in front that other encodings need.
    let [n, e] = [n, e].map(|number| number.into_iter().skip_while(|byte| *byte == 0).collect::<Vec<_>>());
    if !(256..=1024).contains(&n.len()) || n[0] < 0x80 && n.len() == 256 {
        return Err(Malformed("an RSA key must have 2048 to 8192 bits"));
    }
    if e.is_empty() || e.len() > 5 {
        return Err(Malformed("the exponent is out of range"));
    }
    Ok((algorithm, Material::Rsa(parameters, RsaPublicKeyComponents { n, e })))
}

fn point(curve: &str, named: Option<Algorithm>, x: &[u8], y: &[u8]) -> Result<(Algorithm, Material), NoKey> {
    let (algorithm, rule, bytes): (_, &'static dyn VerificationAlgorithm, _) = match curve {
        "P-256" => (Algorithm::Es256, &ECDSA_P256_SHA256_FIXED, 32),
        "P-384" => (Algorithm::Es384, &ECDSA_P384_SHA384_FIXED, 48),
        _ => return Err(NotForUs),
    };
    if named.is_some_and(|named| named != algorithm) {
        return Err(Malformed("its alg is not one for its curve"));
    }
    if x.len() != bytes || y.len() != bytes {
        return Err(Malformed("a coordinate has not the length of its curve"));
    }
    // Uncompressed, by SEC 1.
    let encoded = [&[4], x, y].concat();
    Ok((algorithm, Material::Point(UnparsedPublicKey::new(rule, encoded))))
}

fn edwards(curve: &str, named: Option<Algorithm>, x: Vec<u8>) -> Result<(Algorithm, Material), NoKey> {
    if curve != "Ed25519" {
        return Err(NotForUs);
    }
    if named.is_some_and(|named| named != Algorithm::EdDsa) {
        return Err(Malformed("its alg is not one for its curve"));
    }
    if x.len() != 32 {
        return Err(Malformed("an Ed25519 key has 32 bytes"));
    }
    Ok((Algorithm::EdDsa, Material::Point(UnparsedPublicKey::new(&ED25519, x))))
}

/// Without the material, which may be a secret.
impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key")
            .field("id", &self.id)
            .field("algorithm", &self.algorithm)
            .finish_non_exhaustive()
    }
}
