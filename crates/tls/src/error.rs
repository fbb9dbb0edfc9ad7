//! What can be wrong with files, and with peers.

use std::io;
use std::path::PathBuf;
use std::time::Duration;

/// Why a set of files makes no working TLS. The operator's to mend; a retry without that is in vain.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// A file is not there, or not for us.
    #[error("cannot read {}", path.display())]
    Unreadable {
        /// Which.
        path: PathBuf,
        /// What the system said.
        #[source]
        source: io::Error,
    },
    /// A file does not hold what it should.
    #[error("{}: {what}", path.display())]
    Malformed {
        /// Which.
        path: PathBuf,
        /// What is wrong with it.
        what: String,
    },
    /// The two are not a pair, as happens while only one of them has been replaced.
    #[error("the key {} does not belong to the certificate {}", key.display(), certificate.display())]
    Mismatch {
        /// The certificate's file.
        certificate: PathBuf,
        /// The key's file.
        key: PathBuf,
    },
    /// There is no certificate at all.
    #[error("no certificate is named")]
    NoCertificate,
    /// The system has no roots to check a server by.
    #[error("the system has no root certificates; name a file with those that are to be trusted")]
    NoRoots,
    /// What is asked for excludes itself.
    #[error("cannot be set up: {0}")]
    Impossible(String),
}

impl LoadError {
    pub(crate) fn malformed(path: &std::path::Path, what: impl Into<String>) -> Self {
        Self::Malformed { path: path.to_owned(), what: what.into() }
    }
}

/// Why a connection did not come to be.
#[derive(Debug, thiserror::Error)]
pub enum HandshakeError {
    /// The peer took longer than it may. A retry may be quicker.
    #[error("the TLS handshake took longer than {} ms", _0.as_millis())]
    TooSlow(Duration),
    /// The two could not agree, or one did not believe the other; a retry ends the same way.
    #[error("the TLS handshake failed: {0}")]
    Refused(#[source] rustls::Error),
    /// The peer's certificate has run out; also that of a session that was taken up again.
    #[error("the peer's certificate has expired")]
    Expired,
    /// What is connected to cannot be named in a certificate.
    #[error("{0:?} is no name that a certificate can prove")]
    Name(String),
    /// The connection broke.
    #[error("the connection broke in the TLS handshake")]
    Gone(#[source] io::Error),
}

impl HandshakeError {
    /// A word for the metrics.
    #[must_use]
    pub fn reason(&self) -> &'static str {
        match self {
            Self::TooSlow(_) => "tls-timeout",
            Self::Refused(_) | Self::Name(_) => "tls-refused",
            Self::Expired => "tls-expired",
            Self::Gone(_) => "gone",
        }
    }

    /// Whether trying again may end better.
    #[must_use]
    pub fn is_transient(&self) -> bool {
        match self {
            Self::TooSlow(_) | Self::Gone(_) => true,
            Self::Refused(_) | Self::Expired | Self::Name(_) => false,
        }
    }
}

impl From<io::Error> for HandshakeError {
    fn from(error: io::Error) -> Self {
        // A stream hands rustls's own errors out in this wrapping.
        match error.get_ref().and_then(|inner| inner.downcast_ref::<rustls::Error>()) {
            Some(refused) => Self::Refused(refused.clone()),
            None => Self::Gone(error),
        }
    }
}
