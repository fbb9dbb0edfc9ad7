//! Listeners by name, bound by somebody else.

use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use rustix::net::sockopt::{socket_acceptconn, socket_domain, socket_type};
use rustix::net::{AddressFamily, SocketType};

/// The listeners of a process, those it has. What is not here it binds itself.
#[derive(Debug, Default)]
pub(crate) struct Listeners {
    pub http: Option<TcpListener>,
    pub grpc: Option<TcpListener>,
    pub admin: Option<TcpListener>,
}

/// Why listeners from elsewhere cannot be used.
#[derive(Debug, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("{0:?} is no name of a listener; there are http, grpc and admin")]
    Unknown(String),
    #[error("there are two listeners named {0}")]
    Twice(String),
    #[error("what is named {0} is no listening TCP socket")]
    NoListener(String),
    #[error("what is named {name} cannot be examined")]
    Unseen {
        name: String,
        #[source]
        source: io::Error,
    },
    #[error(
        "the running process listens on {real} and {name}.address is {wanted}; an upgrade cannot change it, a restart can"
    )]
    Elsewhere { name: &'static str, real: SocketAddr, wanted: SocketAddr },
}

impl Listeners {
    /// Takes a socket in, if it is what its name says.
    pub(crate) fn take(&mut self, name: &str, socket: OwnedFd) -> Result<(), Unfit> {
        let place = match name {
            "http" => &mut self.http,
            "grpc" => &mut self.grpc,
            "admin" => &mut self.admin,
            _ => return Err(Unfit::Unknown(name.to_owned())),
        };
        if place.is_some() {
            return Err(Unfit::Twice(name.to_owned()));
        }
        match is_listener(&socket) {
            Ok(true) => *place = Some(socket.into()),
            Ok(false) => return Err(Unfit::NoListener(name.to_owned())),
            Err(source) => return Err(Unfit::Unseen { name: name.to_owned(), source }),
        }
        Ok(())
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.named().next().is_none()
    }

    /// Those there are, with their names.
    pub(crate) fn named(&self) -> impl Iterator<Item = (&'static str, &TcpListener)> {
        [("http", &self.http), ("grpc", &self.grpc), ("admin", &self.admin)]
            .into_iter()
            .filter_map(|(name, listener)| Some((name, listener.as_ref()?)))
    }

    /// Whether they are where the settings want them. A port of 0 is any.
    pub(crate) fn must_be_at(
        &self,
        http: SocketAddr,
        grpc: SocketAddr,
        admin: SocketAddr,
    ) -> Result<(), Unfit> {
        for (name, listener) in self.named() {
            let wanted = match name {
                "http" => http,
                "grpc" => grpc,
                _ => admin,
            };
            let real =
                listener.local_addr().map_err(|source| Unfit::Unseen { name: name.to_owned(), source })?;
            if real.ip() != wanted.ip() || (wanted.port() != 0 && real.port() != wanted.port()) {
                return Err(Unfit::Elsewhere { name, real, wanted });
            }
        }
        Ok(())
    }
}

fn is_listener(socket: &OwnedFd) -> io::Result<bool> {
    // A file that is no socket at all is as little a listener.
    let kind = match socket_type(socket) {
        Ok(kind) => kind,
        Err(rustix::io::Errno::NOTSOCK) => return Ok(false),
        Err(error) => return Err(error.into()),
    };
    let domain = socket_domain(socket)?;
    let internet = domain == AddressFamily::INET || domain == AddressFamily::INET6;
    Ok(kind == SocketType::STREAM && internet && socket_acceptconn(socket)?)
}
