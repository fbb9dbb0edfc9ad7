//! What the system still holds of what was written to a socket.

use std::ffi::c_int;
use std::io;
use std::os::fd::AsFd;

use rustix::ioctl::{Getter, Opcode, ioctl};

/// `SIOCOUTQ`, which is `TIOCOUTQ` for sockets: `tcp(7)`.
#[cfg(target_os = "linux")]
const SIOCOUTQ: Opcode = 0x5411;

/// Bytes that were written to this TCP socket and that its peer has not acknowledged, sent or not.
pub(super) fn queued(socket: impl AsFd) -> io::Result<u32> {
    #[expect(
        unsafe_code,
        reason = "no library wraps this call; it writes one int, which is what Getter gives it"
    )]
    // SAFETY: SIOCOUTQ stores exactly one c_int at its argument and does nothing else.
    let queued = unsafe { ioctl(socket, Getter::<SIOCOUTQ, c_int>::new()) }?;
    u32::try_from(queued).map_err(io::Error::other)
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read as _, Write as _};
    use std::net::{TcpListener, TcpStream};

    #[test]
    fn what_the_peer_does_not_take_stays_queued() {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let mut ours = TcpStream::connect(listener.local_addr().expect("bound")).expect("connects");
        let (mut theirs, _) = listener.accept().expect("accepts");
        assert_eq!(queued(&ours).expect("told"), 0);
        ours.set_nonblocking(true).expect("set");
        let mut written = 0;
        while let Ok(n) = ours.write(&[0; 65536]) {
            written += n;
        }
        let held = queued(&ours).expect("told") as usize;
        assert!(held > 0 && held < written, "{held} of {written}");
        let mut all = vec![0; written];
        theirs.read_exact(&mut all).expect("reads");
        while queued(&ours).expect("told") > 0 {
            std::thread::yield_now();
        }
    }
}
