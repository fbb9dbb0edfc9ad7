//! Listeners that systemd holds, by its protocol of socket activation: `LISTEN_PID`, `LISTEN_FDS` and
//! `LISTEN_FDNAMES`. They outlive every process of the service, and with them their queues.

use std::os::fd::OwnedFd;

use listenfd::ListenFd;

use super::listeners::{Listeners, Unfit};

/// Why what systemd hands over cannot be used: a mistake in a unit file.
#[derive(Debug, thiserror::Error)]
pub(crate) enum ActivationError {
    #[error(
        "systemd hands over {sockets} sockets with {names} names (LISTEN_FDNAMES); each needs FileDescriptorName=http, grpc or admin"
    )]
    Names { sockets: usize, names: usize },
    #[error("systemd hands over a descriptor that is no TCP socket")]
    NoSocket(#[source] std::io::Error),
    #[error(
        "systemd hands over a socket that cannot be used; each needs FileDescriptorName=http, grpc or admin"
    )]
    Unfit(#[from] Unfit),
}

/// The listeners systemd hands to this process; none if it was not started so. Call it once, and before
/// there are threads: it takes the descriptors, and the variables that tell of them.
pub(crate) fn activated() -> Result<Listeners, ActivationError> {
    let mut listeners = Listeners::default();
    // Without it the variables are left from a parent, whose descriptors are not ours.
    let ours = std::env::var("LISTEN_PID").is_ok_and(|pid| pid == std::process::id().to_string());
    if !ours {
        return Ok(listeners);
    }
    let names = std::env::var("LISTEN_FDNAMES").unwrap_or_default();
    let names: Vec<&str> = names.split(':').filter(|name| !name.is_empty()).collect();
    let mut passed = ListenFd::from_env();
    if names.len() != passed.len() {
        return Err(ActivationError::Names { sockets: passed.len(), names: names.len() });
    }
    for (index, name) in names.into_iter().enumerate() {
        let socket = passed.take_tcp_listener(index).map_err(ActivationError::NoSocket)?;
        let socket = socket.expect("each is taken once");
        listeners.take(name, OwnedFd::from(socket))?;
    }
    Ok(listeners)
}
