//! What a peer has proved to be.

use std::net::IpAddr;
use std::time::SystemTime;

use rustls::pki_types::CertificateDer;
use x509_parser::prelude::{FromDer as _, GeneralName, X509Certificate};

/// The names of a peer, or of ourselves, from the alternative names of the certificate that it proved to own. The
/// subject of a certificate is for people and not looked at.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Identity {
    names: Vec<String>,
    addresses: Vec<IpAddr>,
    /// Unix seconds.
    not_after: i64,
}

impl Identity {
    /// Of a certificate whose chain was checked, or that is our own; says what is wrong with it.
    pub(crate) fn read(certificate: &CertificateDer<'_>) -> Result<Self, &'static str> {
        let (_, certificate) =
            X509Certificate::from_der(certificate).map_err(|_| "is no X.509 certificate")?;
        let names = certificate.subject_alternative_name().map_err(|_| "has malformed alternative names")?;
        let mut identity = Self {
            names: Vec::new(),
            addresses: Vec::new(),
            not_after: certificate.validity().not_after.timestamp(),
        };
        for name in names.iter().flat_map(|names| &names.value.general_names) {
            #[expect(clippy::wildcard_enum_match_arm, reason = "the other kinds of names have no use here")]
            match name {
                // No host's name holds a colon; one that does is meant to be taken for a URI.
                GeneralName::DNSName(name) if !name.contains(':') => {
                    identity.names.push(name.to_ascii_lowercase());
                }
                GeneralName::URI(uri) => identity.names.push((*uri).to_owned()),
                GeneralName::IPAddress(bytes) => identity.addresses.extend(address(bytes)),
                _ => {}
            }
        }
        Ok(identity)
    }

    /// Its names: of hosts, in lower case, and URIs such as `spiffe://example.com/publisher`. None
    /// of one kind can be taken for one of the other, as only URIs hold a colon.
    #[must_use]
    pub fn names(&self) -> &[String] {
        &self.names
    }

    /// Those that are names of hosts; `*.` may begin one.
    pub(crate) fn hosts(&self) -> impl Iterator<Item = &str> {
        self.names.iter().map(String::as_str).filter(|name| !name.contains(':'))
    }

    /// Whether one of its names is this one, or fits it: a `*` at the end stands for anything, one at
    /// the beginning for one label of a host's name.
    #[must_use]
    pub fn fits(&self, pattern: &str) -> bool {
        self.names.iter().any(|name| fits(pattern, name))
    }

    /// Whether it may be met at a host, which is a name or an address: just what it has to prove to whoever
    /// connects to it there.
    #[must_use]
    pub fn stands_for(&self, host: &str) -> bool {
        let bare = host.strip_prefix('[').and_then(|host| host.strip_suffix(']')).unwrap_or(host);
        if let Ok(address) = bare.parse() {
            return self.addresses.contains(&address);
        }
        let host = bare.to_ascii_lowercase();
        self.hosts().any(|name| match name.strip_prefix("*.") {
            Some(parent) => host.split_once('.').is_some_and(|(first, of)| !first.is_empty() && of == parent),
            None => name == host,
        })
    }

    /// The last moment of its certificate, in seconds of Unix time.
    pub(crate) fn not_after_s(&self) -> i64 {
        self.not_after
    }

    /// Its certificate's time is over.
    pub(crate) fn has_expired(&self, now: SystemTime) -> bool {
        let now = now.duration_since(SystemTime::UNIX_EPOCH).map_or(0, |since| since.as_secs());
        i64::try_from(now).is_ok_and(|now| now > self.not_after)
    }
}

/// An address as it stands in a certificate.
fn address(bytes: &[u8]) -> Option<IpAddr> {
    let of_four = <[u8; 4]>::try_from(bytes).map(IpAddr::from);
    of_four.or_else(|_| <[u8; 16]>::try_from(bytes).map(IpAddr::from)).ok()
}

fn fits(pattern: &str, name: &str) -> bool {
    if let Some(prefix) = pattern.strip_suffix('*') {
        return name.starts_with(prefix);
    }
    if let Some(rest) = pattern.strip_prefix("*.") {
        return name.split_once('.').is_some_and(|(first, parent)| !first.is_empty() && parent == rest);
    }
    pattern == name
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_host_s_name_is_not_taken_for_a_uri() {
        let names = [
            rcgen::SanType::DnsName("spiffe://example/control".try_into().expect("ASCII")),
            rcgen::SanType::DnsName("A.example".try_into().expect("ASCII")),
            rcgen::SanType::URI("spiffe://example/edge".try_into().expect("ASCII")),
        ];
        let mut params = rcgen::CertificateParams::new([]).expect("no names");
        params.subject_alt_names = names.to_vec();
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let identity = Identity::read(certificate.der()).expect("readable");
        assert_eq!(identity.names(), ["a.example", "spiffe://example/edge"]);
        assert_eq!(identity.hosts().collect::<Vec<_>>(), ["a.example"]);
    }

    #[test]
    fn it_stands_for_the_hosts_in_its_certificate_and_for_no_others() {
        let names = [
            rcgen::SanType::DnsName("*.control.example".try_into().expect("ASCII")),
            rcgen::SanType::DnsName("*".try_into().expect("ASCII")),
            rcgen::SanType::URI("https://edge.example".try_into().expect("ASCII")),
            rcgen::SanType::IpAddress("192.0.2.7".parse().expect("an address")),
            rcgen::SanType::IpAddress("2001:db8::7".parse().expect("an address")),
        ];
        let mut params = rcgen::CertificateParams::new([]).expect("no names");
        params.subject_alt_names = names.to_vec();
        let key = rcgen::KeyPair::generate().expect("a key");
        let certificate = params.self_signed(&key).expect("signed");
        let identity = Identity::read(certificate.der()).expect("readable");
        for host in ["a.control.example", "A.CONTROL.example", "192.0.2.7", "2001:db8::7", "[2001:db8::7]"] {
            assert!(identity.stands_for(host), "{host}");
        }
        let others =
            ["control.example", "a.b.control.example", ".control.example", "edge.example", "192.0.2.8", ""];
        for host in others {
            assert!(!identity.stands_for(host), "{host}");
        }
    }

    #[test]
    fn a_pattern_fits_whole_names_families_and_one_label() {
        assert!(fits("edge-a.example", "edge-a.example"));
        assert!(!fits("edge-a.example", "edge-a.example.org"));
        assert!(fits("spiffe://example/edge/*", "spiffe://example/edge/7"));
        assert!(!fits("spiffe://example/edge/*", "spiffe://example/control/7"));
        assert!(fits("*.edges.example", "a.edges.example"));
        assert!(!fits("*.edges.example", "a.b.edges.example"));
        assert!(!fits("*.edges.example", ".edges.example"));
    }
}
