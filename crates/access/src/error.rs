//! Why a token is not taken.

/// Why a token is not taken. The bearer's to mend by another token, never by repeating this one, unless
/// [`is_news`](Self::is_news) says that the keys may be out of date.
///
/// No variant holds anything of the token: what is said here goes into answers and logs.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum Refusal {
    /// Longer than any token may be.
    #[error("the token is too long")]
    TooLong,
    /// Not a signed token in compact form: what is at fault.
    #[error("the token is malformed: {0}")]
    Malformed(&'static str),
    /// Its header asks for something that is not offered, such as `crit`.
    #[error("the token's header asks for what is not offered")]
    Unsupported,
    /// Its algorithm is not one of ours, or not its key's.
    #[error("the token's algorithm is not the one of its key")]
    Algorithm,
    /// No key has its `kid`, or without one there is no single key that it could be.
    #[error("no known key vouches for the token")]
    UnknownKey,
    /// The signature is not by the key.
    #[error("the token's signature is wrong")]
    Signature,
    /// A claim that must be there is not.
    #[error("the token lacks a claim that is required")]
    Incomplete,
    /// A claim is not what it should be: which.
    #[error("the claim {0} is malformed")]
    Claim(&'static str),
    /// `iss` is nobody we believe.
    #[error("the token's issuer is not accepted")]
    Issuer,
    /// `aud` does not name us.
    #[error("the token is for another audience")]
    Audience,
    /// `exp` has passed.
    #[error("the token has expired")]
    Expired,
    /// `nbf` has not come.
    #[error("the token is not valid yet")]
    Early,
    /// It, or its subject, was called back.
    #[error("the token was revoked")]
    Revoked,
}

impl Refusal {
    /// A word for the metrics.
    #[must_use]
    pub fn reason(self) -> &'static str {
        match self {
            Self::TooLong => "too-long",
            Self::Malformed(_) => "malformed",
            Self::Unsupported => "unsupported",
            Self::Algorithm => "algorithm",
            Self::UnknownKey => "unknown-key",
            Self::Signature => "signature",
            Self::Incomplete => "incomplete",
            Self::Claim(_) => "claim",
            Self::Issuer => "issuer",
            Self::Audience => "audience",
            Self::Expired => "expired",
            Self::Early => "early",
            Self::Revoked => "revoked",
        }
    }

    /// Whether newer keys could change the judgement.
    #[must_use]
    pub fn is_news(self) -> bool {
        match self {
            Self::UnknownKey => true,
            Self::TooLong
            | Self::Malformed(_)
            | Self::Unsupported
            | Self::Algorithm
            | Self::Signature
            | Self::Incomplete
            | Self::Claim(_)
            | Self::Issuer
            | Self::Audience
            | Self::Expired
            | Self::Early
            | Self::Revoked => false,
        }
    }
}
