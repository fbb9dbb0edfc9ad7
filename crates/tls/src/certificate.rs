//! A certificate with its key, in files.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{SystemTime, UNIX_EPOCH};

use rustls::crypto::ring::sign::any_supported_type;
use rustls::pki_types::pem::PemObject as _;
use rustls::pki_types::{CertificateDer, PrivateKeyDer};
use rustls::sign::CertifiedKey;
use rustls::{InconsistentKeys, RootCertStore};

use crate::error::LoadError;
use crate::files::read;
use crate::identity::Identity;

/// A certificate chain and the key to its first certificate, both PEM. An OCSP response that is to be
/// stapled lies beside the certificate, under its name and `.ocsp`, as DER; whoever fetches it renews
/// it, too.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct CertificateFiles {
    /// The chain, the end's own certificate first.
    pub certificate: PathBuf,
    /// Its private key.
    pub key: PathBuf,
}

/// Until when a certificate proves anything.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Expiry {
    /// Its file.
    pub certificate: PathBuf,
    /// The last moment, in seconds of Unix time.
    pub not_after_s: i64,
}

impl Expiry {
    /// Whole days from this time on; negative if it is over.
    #[must_use]
    pub fn days_left(&self, now: SystemTime) -> i64 {
        /// Seconds.
        const DAY: i64 = 24 * 60 * 60;
        let now = now.duration_since(UNIX_EPOCH).map_or(0, |since| since.as_secs());
        self.not_after_s.saturating_sub(i64::try_from(now).unwrap_or(i64::MAX)).div_euclid(DAY)
    }
}

impl CertificateFiles {
    /// Everything that a change of is noticed.
    pub(crate) fn files(&self) -> [PathBuf; 3] {
        [self.certificate.clone(), self.key.clone(), self.ocsp()]
    }

    fn ocsp(&self) -> PathBuf {
        let mut path = self.certificate.clone().into_os_string();
        path.push(".ocsp");
        path.into()
    }

    /// Of what was loaded from these files.
    pub(crate) fn expiry(&self, loaded: &CertifiedKey) -> Result<Expiry, LoadError> {
        let identity =
            Identity::read(&loaded.cert[0]).map_err(|what| LoadError::malformed(&self.certificate, what))?;
        Ok(Expiry { certificate: self.certificate.clone(), not_after_s: identity.not_after_s() })
    }

    /// Reads both, and the staple if there is one.
    pub(crate) fn load(&self) -> Result<Arc<CertifiedKey>, LoadError> {
        let chain = certificates(&self.certificate)?;
        let key = PrivateKeyDer::from_pem_slice(&read(&self.key)?).map_err(|error| {
            LoadError::malformed(&self.key, format!("holds no private key in PEM: {error}"))
        })?;
        let key = any_supported_type(&key).map_err(|error| {
            LoadError::malformed(&self.key, format!("a key that cannot be used: {error}"))
        })?;
        Identity::read(&chain[0]).map_err(|what| LoadError::malformed(&self.certificate, what))?;
        let mut certified = CertifiedKey::new(chain, key);
        match certified.keys_match() {
            Ok(()) | Err(rustls::Error::InconsistentKeys(InconsistentKeys::Unknown)) => {}
            Err(_) => {
                return Err(LoadError::Mismatch {
                    certificate: self.certificate.clone(),
                    key: self.key.clone(),
                });
            }
        }
        certified.ocsp = staple(&self.ocsp())?;
        Ok(Arc::new(certified))
    }
}

/// All certificates of a file; at least one.
pub(crate) fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, LoadError> {
    let text = read(path)?;
    let chain: Vec<_> = CertificateDer::pem_slice_iter(&text)
        .collect::<Result<_, _>>()
        .map_err(|error| LoadError::malformed(path, format!("holds no certificates in PEM: {error}")))?;
    if chain.is_empty() {
        return Err(LoadError::malformed(path, "holds no certificate in PEM"));
    }
    Ok(chain)
}

/// The certificates of some files as those by which others are judged.
pub(crate) fn roots(files: &[PathBuf]) -> Result<RootCertStore, LoadError> {
    let mut roots = RootCertStore::empty();
    for path in files {
        for certificate in certificates(path)? {
            let unusable = |error| LoadError::malformed(path, format!("a root that cannot be used: {error}"));
            roots.add(certificate).map_err(unusable)?;
        }
    }
    Ok(roots)
}

fn staple(path: &Path) -> Result<Option<Vec<u8>>, LoadError> {
    /// What every DER structure of several parts begins with.
    const SEQUENCE: u8 = 0x30;
    match read(path) {
        Ok(response) if response.first() == Some(&SEQUENCE) => Ok(Some(response)),
        Ok(_) => Err(LoadError::malformed(path, "is no OCSP response in DER")),
        Err(LoadError::Unreadable { source, .. }) if source.kind() == std::io::ErrorKind::NotFound => {
            Ok(None)
        }
        Err(error) => Err(error),
    }
}
