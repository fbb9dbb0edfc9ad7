//! The TLS of this process: made of files at the start, made anew when they change, and watched for its end.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, SystemTime};

use anyhow::Context as _;
use evergate_edge::GrpcTls;
use evergate_tls::{
    Authority, CertificateFiles, Client, ClientCertificates, ClientSettings, Expiry, Protocol, Refreshed,
    Resumption, Roots, Server, ServerSettings, Version,
};
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::time::MissedTickBehavior;
use tracing::{info, warn};

use crate::config::{self, Clients, Config};

/// Who is to renew a certificate is told of it this long before its end.
const WARN_DAYS: i64 = 14;

const NOT_AFTER: &str = "evergate_tls_certificate_not_after_seconds";

/// Everything here that is made of certificates. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub(crate) struct Certificates(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    http: Option<Server>,
    grpc: Option<GrpcTls>,
    links: Option<Client>,
    look_every: Duration,
}

impl Certificates {
    /// Reads all files. An error names the file and what is wrong with it.
    pub(crate) fn load(config: &Config) -> anyhow::Result<Self> {
        let both = [Protocol::Http2, Protocol::Http1];
        let http = config.http.tls.as_ref().map(|clients| {
            server(&config.tls, client_certificates(clients, None), &both, Heard::Early)
                .context("no TLS for HTTP can be made of the files")
        });
        let grpc = config
            .grpc
            .tls
            .as_ref()
            .map(|clients| grpc(config, clients).context("no TLS for gRPC can be made of the files"));
        let links = config.cluster.ca_file.as_ref().map(|roots| {
            links(config, roots).context("no TLS for the links between nodes can be made of the files")
        });
        let certificates = Self(Arc::new(Inner {
            http: http.transpose()?,
            grpc: grpc.transpose()?,
            links: links.transpose()?,
            look_every: config.tls.reload_interval,
        }));
        certificates.warn(SystemTime::now());
        Ok(certificates)
    }

    /// By what HTTP is secured.
    pub(crate) fn http(&self) -> Option<Server> {
        self.0.http.clone()
    }

    /// By what gRPC is secured.
    pub(crate) fn grpc(&self) -> Option<GrpcTls> {
        self.0.grpc.clone()
    }

    /// By what other nodes are connected to, if any can be believed.
    pub(crate) fn links(&self) -> Option<Client> {
        self.0.links.clone()
    }

    /// Has the files looked at from now on; `None` without TLS, where SIGHUP ends a process as it
    /// always did.
    pub(crate) fn renewal(&self) -> anyhow::Result<Option<Renewal>> {
        if self.0.http.is_none() && self.0.grpc.is_none() {
            return Ok(None);
        }
        let hangup = signal(SignalKind::hangup()).context("cannot listen for SIGHUP")?;
        Ok(Some(Renewal { certificates: self.clone(), hangup }))
    }

    fn look(&self) {
        let Inner { http, grpc, links, .. } = &*self.0;
        let http = http.iter().map(|server| ("HTTP", server.refresh()));
        let grpc_server = grpc.iter().map(|grpc| ("gRPC", grpc.server.refresh()));
        let cluster = grpc.iter().filter_map(|grpc| grpc.cluster.as_ref());
        let cluster = cluster.map(|cluster| ("the nodes' authority", cluster.refresh()));
        let links = links.iter().map(|links| ("links between nodes", links.refresh()));
        for (what, refreshed) in http.chain(grpc_server).chain(cluster).chain(links) {
            match refreshed {
                Refreshed::Unchanged => continue,
                Refreshed::Renewed => info!(what, "TLS was made anew of changed files"),
                Refreshed::Kept(error) => {
                    let why = format!("{:#}", anyhow::Error::from(error));
                    warn!(what, why, "changed files make no TLS; what was read before goes on");
                    continue;
                }
            }
            self.warn(SystemTime::now());
        }
    }

    /// Each certificate with the days that are left of it.
    pub(crate) fn days_left(&self, now: SystemTime) -> BTreeMap<PathBuf, i64> {
        self.expiries()
            .into_iter()
            .map(|expiry| (expiry.certificate.clone(), expiry.days_left(now)))
            .collect()
    }

    /// What is to be renewed, each in a sentence.
    pub(crate) fn troubles(&self, now: SystemTime) -> Vec<String> {
        let due = self.days_left(now).into_iter().filter(|(_, days)| *days < WARN_DAYS);
        due.map(|(file, days)| sentence(&file.display().to_string(), days)).collect()
    }

    /// Sets the gauges, each time it is called.
    pub(crate) fn gauges(&self) -> impl Fn() + Send + use<> {
        let certificates = self.clone();
        move || {
            for Expiry { certificate, not_after_s } in certificates.expiries() {
                let file = certificate.display().to_string();
                metrics::gauge!(NOT_AFTER, "certificate" => file).set(not_after_s as f64);
            }
        }
    }

    fn expiries(&self) -> Vec<Expiry> {
        let Inner { http, grpc, links, .. } = &*self.0;
        let servers = http.iter().chain(grpc.iter().map(|grpc| &grpc.server));
        servers.flat_map(Server::expiries).chain(links.iter().filter_map(Client::expiry)).collect()
    }

    fn warn(&self, now: SystemTime) {
        for trouble in self.troubles(now) {
            warn!("{trouble}");
        }
    }
}

/// Reads the files anew when they have changed.
#[derive(Debug)]
pub(crate) struct Renewal {
    certificates: Certificates,
    hangup: Signal,
}

impl Renewal {
    /// Looks now and then, and on SIGHUP, for ever.
    pub(crate) async fn run(mut self) {
        let mut every = tokio::time::interval(self.certificates.0.look_every);
        every.set_missed_tick_behavior(MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                biased;
                _ = self.hangup.recv() => info!("SIGHUP: looking at the files of TLS"),
                _ = every.tick() => {}
            }
            let certificates = self.certificates.clone();
            // Files may lie on a network.
            if tokio::task::spawn_blocking(move || certificates.look()).await.is_err() {
                warn!("a look at the files of TLS failed");
            }
        }
    }
}

fn sentence(file: &str, days: i64) -> String {
    match days {
        ..0 => format!("the certificate {file} has expired, and clients refuse it"),
        0 => format!("the certificate {file} expires within a day"),
        1 => format!("the certificate {file} expires in a day"),
        days => format!("the certificate {file} expires in {days} days"),
    }
}

/// What is asked of clients, where nodes may come too.
fn client_certificates(clients: &Clients, nodes: Option<&PathBuf>) -> ClientCertificates {
    let with = |roots: &PathBuf| -> Vec<PathBuf> { [roots].into_iter().chain(nodes).cloned().collect() };
    match (clients, nodes) {
        (Clients::Nothing, None) => ClientCertificates::None,
        (Clients::Nothing, Some(nodes)) => ClientCertificates::Optional(vec![nodes.clone()]),
        (Clients::Optional(roots), _) => ClientCertificates::Optional(with(roots)),
        (Clients::Required(roots), _) => ClientCertificates::Required(with(roots)),
    }
}

fn grpc(config: &Config, clients: &Clients) -> anyhow::Result<GrpcTls> {
    let nodes = config.cluster.ca_file.as_ref();
    Ok(GrpcTls {
        server: server(&config.tls, client_certificates(clients, nodes), &[Protocol::Http2], Heard::Late)?,
        cluster: nodes.map(|roots| Authority::load(roots.clone())).transpose()?,
    })
}

fn links(config: &Config, roots: &Path) -> anyhow::Result<Client> {
    let shown = config.cluster.certificate.as_ref().or(config.tls.certificates.first());
    Ok(Client::load(ClientSettings {
        roots: Roots::File(roots.to_owned()),
        identity: shown.map(|(certificate, key)| CertificateFiles {
            certificate: certificate.clone(),
            key: key.clone(),
        }),
        protocols: vec![Protocol::Http2],
        handshake_timeout: config.tls.handshake_timeout,
    })?)
}

/// From when on clients are heard that come again.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Heard {
    /// Before their handshake is over, where that is wanted: what changes something is told apart.
    Early,
    /// Not before: all that is asked changes something.
    Late,
}

fn server(
    tls: &config::Tls,
    clients: ClientCertificates,
    protocols: &[Protocol],
    heard: Heard,
) -> anyhow::Result<Server> {
    let certificates = tls
        .certificates
        .iter()
        .map(|(certificate, key)| CertificateFiles { certificate: certificate.clone(), key: key.clone() });
    let settings = ServerSettings {
        certificates: certificates.collect(),
        clients,
        resumption: match &tls.resumption {
            config::Resumption::Tickets(secrets) => Resumption::Tickets(secrets.clone()),
            config::Resumption::Sessions { max, early_data_bytes_max } => Resumption::Sessions {
                max: max.get(),
                early_data_bytes_max: if heard == Heard::Early { *early_data_bytes_max } else { 0 },
            },
            config::Resumption::Off => Resumption::None,
        },
        oldest: if tls.only_1_3 { Version::Tls13 } else { Version::Tls12 },
        protocols: protocols.to_vec(),
        handshake_timeout: tls.handshake_timeout,
    };
    Ok(Server::load(settings)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_a_certificate_is_told_in_words() {
        for (days, end) in [
            (-1, "has expired, and clients refuse it"),
            (0, "expires within a day"),
            (1, "expires in a day"),
            (13, "expires in 13 days"),
        ] {
            assert_eq!(sentence("a.pem", days), format!("the certificate a.pem {end}"));
        }
    }
}
