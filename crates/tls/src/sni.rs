//! Which certificate a client is shown.

use std::collections::HashMap;
use std::sync::Arc;

use rustls::server::{ClientHello, ResolvesServerCert};
use rustls::sign::CertifiedKey;
use rustls::{SignatureScheme, sign};

use crate::identity::Identity;

/// Several certificates, found by the name that a client asks for. Whoever asks for none, or for one
/// that nobody has, is shown the first whose key it can use. Where it can use none, it is told that the two have nothing in
/// common, and not that it may not.
#[derive(Debug)]
pub(crate) struct ByName {
    in_order: Vec<Arc<CertifiedKey>>,
    named: HashMap<String, Vec<Arc<CertifiedKey>>>,
}

impl ByName {
    /// Of one or more. Two for one name are a choice for clients that do not know the kind of key of
    /// the other.
    pub(crate) fn new(certified: &[Arc<CertifiedKey>]) -> Option<Self> {
        if certified.is_empty() {
            return None;
        }
        let mut named: HashMap<String, Vec<Arc<CertifiedKey>>> = HashMap::new();
        for certified in certified {
            let identity = Identity::read(&certified.cert[0]).ok();
            for name in identity.iter().flat_map(Identity::hosts) {
                named.entry(name.to_owned()).or_default().push(Arc::clone(certified));
            }
        }
        Some(Self { in_order: certified.to_vec(), named })
    }

    fn find(&self, name: Option<&str>, schemes: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = name.and_then(|name| {
            self.named.get(name).or_else(|| {
                let (_, parent) = name.split_once('.')?;
                self.named.get(&format!("*.{parent}"))
            })
        });
        let usable = |certified: &&Arc<CertifiedKey>| can_sign(&*certified.key, schemes);
        let candidates = named.unwrap_or(&self.in_order);
        candidates.iter().find(usable).or_else(|| candidates.first()).cloned()
    }
}

fn can_sign(key: &dyn sign::SigningKey, schemes: &[SignatureScheme]) -> bool {
    key.choose_scheme(schemes).is_some()
}

impl ResolvesServerCert for ByName {
    fn resolve(&self, hello: ClientHello<'_>) -> Option<Arc<CertifiedKey>> {
        let name = hello.server_name().map(str::to_ascii_lowercase);
        self.find(name.as_deref(), hello.signature_schemes())
    }
}
