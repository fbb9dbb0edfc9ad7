//! An issuer of tokens: a key of each kind, and its public half as it would be published.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use evergate_access::Algorithm;
use ring::hmac;
use ring::rand::SystemRandom;
use ring::signature::{
    ECDSA_P256_SHA256_FIXED_SIGNING, ECDSA_P384_SHA384_FIXED_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RSA_PSS_SHA256, RsaKeyPair, RsaPublicKeyComponents,
};

/// Made for these tests: nobody else's.
static RSA: &[u8] = include_bytes!("../keys/rsa.pk8");

pub(crate) fn base64(bytes: impl AsRef<[u8]>) -> String {
    URL_SAFE_NO_PAD.encode(bytes)
}

/// One key with its algorithm.
pub(crate) enum Signer {
    Hmac(Algorithm, Vec<u8>),
    Rsa(Algorithm, Box<RsaKeyPair>),
    Ecdsa(Algorithm, EcdsaKeyPair),
    Ed25519(Ed25519KeyPair),
}

impl Signer {
    pub(crate) fn new(algorithm: Algorithm) -> Self {
        let random = SystemRandom::new();
        match algorithm {
            Algorithm::Hs256 | Algorithm::Hs384 | Algorithm::Hs512 => Self::Hmac(algorithm, vec![7; 64]),
            Algorithm::Rs256 | Algorithm::Ps256 => {
                Self::Rsa(algorithm, Box::new(RsaKeyPair::from_pkcs8(RSA).expect("a key")))
            }
            Algorithm::Es256 | Algorithm::Es384 => {
                let rule = if algorithm == Algorithm::Es256 {
                    &ECDSA_P256_SHA256_FIXED_SIGNING
                } else {
                    &ECDSA_P384_SHA384_FIXED_SIGNING
                };
                let pair = EcdsaKeyPair::generate_pkcs8(rule, &random).expect("made");
                Self::Ecdsa(algorithm, EcdsaKeyPair::from_pkcs8(rule, pair.as_ref(), &random).expect("a key"))
            }
            Algorithm::EdDsa => {
                let pair = Ed25519KeyPair::generate_pkcs8(&random).expect("made");
                Self::Ed25519(Ed25519KeyPair::from_pkcs8(pair.as_ref()).expect("a key"))
            }
        }
    }

    pub(crate) fn algorithm(&self) -> Algorithm {
        match self {
            Self::Hmac(algorithm, _) | Self::Rsa(algorithm, _) | Self::Ecdsa(algorithm, _) => *algorithm,
            Self::Ed25519(_) => Algorithm::EdDsa,
        }
    }

    /// The key as a set would hold it, named by its algorithm.
    pub(crate) fn jwk(&self) -> String {
        let alg = self.algorithm().as_str();
        let named = format!(r#""kid":"{alg}","alg":"{alg}""#);
        match self {
            Self::Hmac(_, secret) => format!(r#"{{"kty":"oct",{named},"k":"{}"}}"#, base64(secret)),
            Self::Rsa(_, pair) => {
                let RsaPublicKeyComponents { n, e } = RsaPublicKeyComponents::<Vec<u8>>::from(pair.public());
                let [n, e] = [n, e].map(base64);
                format!(r#"{{"kty":"RSA",{named},"n":"{n}","e":"{e}"}}"#)
            }
            Self::Ecdsa(algorithm, pair) => {
                let point = &pair.public_key().as_ref()[1..];
                let (x, y) = point.split_at(point.len() / 2);
                let curve = if *algorithm == Algorithm::Es256 { "P-256" } else { "P-384" };
                let [x, y] = [x, y].map(base64);
                format!(r#"{{"kty":"EC","crv":"{curve}",{named},"x":"{x}","y":"{y}"}}"#)
            }
            Self::Ed25519(pair) => {
                let x = base64(pair.public_key());
                format!(r#"{{"kty":"OKP","crv":"Ed25519",{named},"x":"{x}"}}"#)
            }
        }
    }

    pub(crate) fn signature(&self, message: &[u8]) -> Vec<u8> {
        let random = SystemRandom::new();
        match self {
            Self::Hmac(algorithm, secret) => {
                let hash = match algorithm {
                    Algorithm::Hs384 => hmac::HMAC_SHA384,
                    Algorithm::Hs512 => hmac::HMAC_SHA512,
                    _ => hmac::HMAC_SHA256,
                };
                hmac::sign(&hmac::Key::new(hash, secret), message).as_ref().to_vec()
            }
            Self::Rsa(algorithm, pair) => {
                let mut signature = vec![0; pair.public().modulus_len()];
                let rule: &dyn ring::signature::RsaEncoding =
                    if *algorithm == Algorithm::Rs256 { &RSA_PKCS1_SHA256 } else { &RSA_PSS_SHA256 };
                pair.sign(rule, &random, message, &mut signature).expect("signed");
                signature
            }
            Self::Ecdsa(_, pair) => pair.sign(&random, message).expect("signed").as_ref().to_vec(),
            Self::Ed25519(pair) => pair.sign(message).as_ref().to_vec(),
        }
    }

    /// A token with this header, whatever it says.
    pub(crate) fn sign(&self, header: &str, claims: &str) -> String {
        let signed = format!("{}.{}", base64(header), base64(claims));
        let signature = base64(self.signature(signed.as_bytes()));
        format!("{signed}.{signature}")
    }

    /// A token as a good issuer makes it.
    pub(crate) fn token(&self, claims: &str) -> String {
        let alg = self.algorithm().as_str();
        self.sign(&format!(r#"{{"alg":"{alg}","kid":"{alg}","typ":"JWT"}}"#), claims)
    }
}
