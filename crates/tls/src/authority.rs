//! Who belongs to a circle: whoever one authority vouches for, among all whose certificates are taken.

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;

use rustls::pki_types::UnixTime;
use rustls::server::WebPkiClientVerifier;
use rustls::server::danger::ClientCertVerifier;

use crate::certificate;
use crate::error::LoadError;
use crate::files::{FromFiles, Refreshed};
use crate::server::provider;
use crate::stream::ServerStream;

/// The roots of a circle, such as the nodes of a cluster. A listener that takes certificates of several
/// authorities asks it whom of its clients it knows. Cheap to clone; all clones are renewed together.
#[derive(Clone)]
pub struct Authority(Arc<FromFiles<Arc<dyn ClientCertVerifier>>>);

impl fmt::Debug for Authority {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Authority")
    }
}

impl Authority {
    /// Reads its roots, PEM.
    pub fn load(roots: PathBuf) -> Result<Self, LoadError> {
        let files = vec![roots.clone()];
        let verifier = move || {
            let roots = Arc::new(certificate::roots(std::slice::from_ref(&roots))?);
            WebPkiClientVerifier::builder_with_provider(roots, provider())
                .build()
                .map_err(|error| LoadError::Impossible(error.to_string()))
        };
        FromFiles::load(files, verifier).map(|verifier| Self(Arc::new(verifier)))
    }

    /// Looks whether the file has changed, and reads it anew then.
    pub fn refresh(&self) -> Refreshed {
        self.0.refresh()
    }

    /// Whether it vouches for who is at the other end. Also for a session that was taken up again, and as
    /// of now: a root that was taken out vouches for nobody any more.
    #[must_use]
    pub fn vouches_for<S>(&self, stream: &ServerStream<S>) -> bool {
        let shown = stream.connection().peer_certificates();
        shown.and_then(<[_]>::split_first).is_some_and(|(certificate, between)| {
            self.0.current().verify_client_cert(certificate, between, UnixTime::now()).is_ok()
        })
    }
}
