//! An authority of a test's own, and ends that believe it.

#![allow(dead_code, reason = "each of the tests uses some of it")]

use std::fs;
use std::path::PathBuf;
use std::time::Duration;

use evergate_tls::{
    CertificateFiles, Client, ClientCertificates, ClientSettings, Protocol, Resumption, Roots,
    ServerSettings, Version,
};
use rcgen::{BasicConstraints, CertificateParams, CertifiedIssuer, IsCa, KeyPair, SanType};
use tempfile::TempDir;

/// A directory of an authority and what it signed.
pub(crate) struct Pki {
    directory: TempDir,
    authority: CertifiedIssuer<'static, KeyPair>,
}

impl Pki {
    pub(crate) fn new() -> Self {
        let directory = tempfile::tempdir().expect("a place for files");
        let mut params = CertificateParams::new([]).expect("no names");
        params.is_ca = IsCa::Ca(BasicConstraints::Unconstrained);
        let key = KeyPair::generate().expect("a key");
        let authority = CertifiedIssuer::self_signed(params, key).expect("an authority");
        fs::write(directory.path().join("ca.pem"), authority.pem()).expect("written");
        Self { directory, authority }
    }

    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    pub(crate) fn ca(&self) -> PathBuf {
        self.path("ca.pem")
    }

    /// Signs a certificate for these names, under a name of its own among the files.
    pub(crate) fn sign(&self, file: &str, names: &[&str]) -> CertificateFiles {
        self.sign_until(file, names, 2100)
    }

    pub(crate) fn sign_until(&self, file: &str, names: &[&str], year: i32) -> CertificateFiles {
        let mut params = CertificateParams::new([]).expect("no names");
        params.not_after = rcgen::date_time_ymd(year, 1, 1);
        params.subject_alt_names = names
            .iter()
            .map(|name| {
                let text = (*name).try_into().expect("ASCII");
                if name.contains("://") { SanType::URI(text) } else { SanType::DnsName(text) }
            })
            .collect();
        let key = KeyPair::generate().expect("a key");
        let certificate = params.signed_by(&key, &self.authority).expect("signed");
        let files = CertificateFiles {
            certificate: self.path(&format!("{file}.pem")),
            key: self.path(&format!("{file}.key")),
        };
        fs::write(&files.certificate, certificate.pem()).expect("written");
        fs::write(&files.key, key.serialize_pem()).expect("written");
        files
    }

    pub(crate) fn client(&self, identity: Option<CertificateFiles>) -> Client {
        Client::load(ClientSettings {
            roots: Roots::File(self.ca()),
            identity,
            protocols: vec![Protocol::Http2, Protocol::Http1],
            handshake_timeout: Duration::from_secs(20),
        })
        .expect("a client")
    }
}

/// A server that shows these certificates and asks for none.
pub(crate) fn settings(certificates: Vec<CertificateFiles>) -> ServerSettings {
    ServerSettings {
        certificates,
        clients: ClientCertificates::None,
        resumption: Resumption::Tickets(None),
        oldest: Version::Tls12,
        protocols: vec![Protocol::Http2, Protocol::Http1],
        handshake_timeout: Duration::from_secs(20),
    }
}
