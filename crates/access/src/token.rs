//! A token as it arrives: RFC 7515, compact.

use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;

use crate::algorithm::Algorithm;
use crate::error::Refusal;
use crate::object::Object;

/// A token that is longer than this is not looked at.
pub const TOKEN_BYTES_MAX: usize = 8 << 10;

/// An encoded header that is longer than this is not looked at either.
const HEADER_BYTES_MAX: usize = 2 << 10;

/// A token of which nothing is proven yet.
pub(crate) struct Token<'a> {
    pub(crate) algorithm: Algorithm,
    pub(crate) key_id: Option<String>,
    /// What was signed, to the letter.
    pub(crate) signed: &'a [u8],
    pub(crate) signature: Vec<u8>,
    payload: &'a str,
}

impl<'a> Token<'a> {
    /// Takes a token apart. Sizes are looked at before anything is decoded.
    pub(crate) fn read(text: &'a str) -> Result<Self, Refusal> {
        if text.len() > TOKEN_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let mut parts = text.split('.');
        let (Some(header), Some(payload), Some(signature), None) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return Err(Refusal::Malformed("it has not three parts"));
        };
        if header.len() > HEADER_BYTES_MAX {
            return Err(Refusal::TooLong);
        }
        let signed = &text.as_bytes()[..header.len() + 1 + payload.len()];
        let decoded = decode(header)?;
        let header = Object::read(&decoded).ok_or(Refusal::Malformed("its header is no JSON object"))?;
        offered(&header)?;
        let text_of = |name| header.text(name).map_err(|()| Refusal::Malformed("its header is no JWT's"));
        let algorithm = text_of("alg")?.and_then(Algorithm::parse).ok_or(Refusal::Algorithm)?;
        let key_id = text_of("kid")?.map(str::to_owned);
        Ok(Self { algorithm, key_id, signed, signature: decode(signature)?, payload })
    }

    /// What it claims. Only to be asked when the signature has been checked.
    pub(crate) fn claims(&self) -> Result<Vec<u8>, Refusal> {
        decode(self.payload)
    }
}

/// Whether the header asks only for what is offered.
///
/// `jku`, `x5u`, `x5c` and `jwk` are not looked at: they say where the key is that whoever wrote the token
/// would like us to use, and some issuers write them into every token.
fn offered(header: &Object) -> Result<(), Refusal> {
    // We know no extension, and one that is critical must be known (RFC 7515, section 4.1.11).
    // Compressed and encrypted tokens are others altogether.
    let asks = ["crit", "b64", "zip", "enc"].iter().any(|name| header.get(name).is_some());
    // RFC 8725, section 3.11: a token for something else, of the same issuer, is no access token.
    let kind = header.text("typ").map_err(|()| Refusal::Malformed("its typ is not text"))?;
    let fits = kind.is_none_or(|kind| {
        let kind = kind.to_ascii_lowercase();
        matches!(kind.strip_prefix("application/").unwrap_or(&kind), "jwt" | "at+jwt")
    });
    if asks || !fits { Err(Refusal::Unsupported) } else { Ok(()) }
}

/// Base64url, without padding and without bits that say nothing: a token has one spelling.
fn decode(text: &str) -> Result<Vec<u8>, Refusal> {
    URL_SAFE_NO_PAD.decode(text).map_err(|_| Refusal::Malformed("a part is not base64url without padding"))
}
