//! Finding out that a peer is gone, although nothing said so.

use std::io;
use std::time::Duration;

use socket2::{SockRef, TcpKeepalive};

/// A quiet connection is asked after this.
const KEEPALIVE_AFTER: Duration = Duration::from_secs(60);
/// And again after this, where no answer came.
const KEEPALIVE_EVERY: Duration = Duration::from_secs(10);
/// So often; then the peer is gone.
const KEEPALIVE_TRIES: u32 = 3;

/// Has the system end a connection whose peer acknowledges nothing for `peer_timeout`, or is quiet and
/// answers no probe.
pub(crate) fn watch(socket: &SockRef<'_>, peer_timeout: Duration) -> io::Result<()> {
    let keepalive = TcpKeepalive::new()
        .with_time(KEEPALIVE_AFTER)
        .with_interval(KEEPALIVE_EVERY)
        .with_retries(KEEPALIVE_TRIES);
    socket.set_tcp_keepalive(&keepalive)?;
    socket.set_tcp_user_timeout(Some(peer_timeout))
}
