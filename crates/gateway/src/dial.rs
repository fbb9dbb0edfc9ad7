//! How the clients among the commands connect: over plain TCP, or by TLS where a URL says `https`.

use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use evergate_tls::{CertificateFiles, Client, ClientSettings, Protocol, Roots};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use url::Url;

/// Whoever has not answered by then does not speak TLS.
const HANDSHAKE_MAX: Duration = Duration::from_secs(5);

/// Whom a client believes, and whom it proves to be.
#[derive(Debug, Clone, Default, Args)]
#[command(next_help_heading = "TLS")]
pub(crate) struct TlsArgs {
    /// Believe the certificates in this PEM file too
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Show this certificate, in PEM, to a server that asks for one
    #[arg(long, global = true, value_name = "FILE", requires = "cert_key")]
    cert: Option<PathBuf>,
    /// The key of --cert, in PEM
    #[arg(long, global = true, value_name = "FILE", requires = "cert")]
    cert_key: Option<PathBuf>,
}

/// The URL of a server, one such as `example`. The error is a sentence for the user.
pub(crate) fn parse_url(text: &str, example: &str) -> Result<Url, String> {
    let url = Url::parse(text).map_err(|error| format!("{text:?} is not a URL: {error}"))?;
    match (url.scheme(), url.host_str()) {
        ("http" | "https", Some(_)) => Ok(url),
        _ => Err(format!("{text:?} is not a URL such as {example:?}")),
    }
}

/// Makes connections.
#[derive(Debug, Clone)]
pub(crate) struct Dialer {
    /// Or why there can be no TLS, which matters to nobody who needs none.
    client: Result<Client, String>,
}

/// A connection, whatever it goes through.
pub(crate) trait Wire: AsyncRead + AsyncWrite + Unpin + Send {}

impl<T: AsyncRead + AsyncWrite + Unpin + Send> Wire for T {}

impl TlsArgs {
    /// Reads the files that are named. The error is a sentence for the user.
    pub(crate) fn dialer(&self, protocols: &[Protocol]) -> Result<Dialer, String> {
        let identity = self.cert.clone().zip(self.cert_key.clone());
        let loaded = Client::load(ClientSettings {
            roots: self.ca.clone().map_or(Roots::System, Roots::SystemAnd),
            identity: identity.map(|(certificate, key)| CertificateFiles { certificate, key }),
            protocols: protocols.to_vec(),
            handshake_timeout: HANDSHAKE_MAX,
        });
        let client = loaded.map_err(|error| format!("{:#}", anyhow::Error::from(error)));
        match client {
            // What is wrong is one of the files that the user named.
            Err(why) if self.ca.is_some() || self.cert.is_some() => Err(why),
            client => Ok(Dialer { client }),
        }
    }
}

impl Dialer {
    /// Connects to the host of a URL, and tells what is agreed to be spoken there, where that was asked.
    /// The error is a sentence for the user.
    pub(crate) async fn connect(&self, url: &Url) -> Result<(Box<dyn Wire>, Option<Protocol>), String> {
        let host = url.host_str().unwrap_or_default();
        let port = url.port_or_known_default().unwrap_or(80);
        // An IPv6 address stands in brackets in a URL, and without in the system's resolver.
        let bare = host.trim_start_matches('[').trim_end_matches(']');
        let socket = TcpStream::connect((bare, port))
            .await
            .map_err(|error| format!("cannot connect to {host}:{port}: {error}"))?;
        // Only delays: a socket that does not take the option still works.
        let _ = socket.set_nodelay(true);
        if url.scheme() != "https" {
            return Ok((Box::new(socket), None));
        }
        let connected = self.client()?.connect(host, socket).await;
        let connected = connected.map_err(|error| format!("no TLS with {host}:{port}: {error}"))?;
        Ok((Box::new(connected.stream), Some(connected.protocol)))
    }

    /// What TLS is made with.
    pub(crate) fn client(&self) -> Result<Client, String> {
        self.client.clone()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_is_named_has_to_work_and_the_system_s_only_where_it_is_needed() {
        assert!(TlsArgs::default().dialer(&[Protocol::Http1]).is_ok());
        let missing = TlsArgs { ca: Some("/nowhere/ca.pem".into()), ..TlsArgs::default() };
        let why = missing.dialer(&[Protocol::Http1]).expect_err("there is no such file");
        assert!(why.starts_with("cannot read /nowhere/ca.pem: "), "{why}");
    }
}
