//! Messages and descriptors over a Unix socket between two processes of one user.

use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use serde::Serialize;
use serde::de::DeserializeOwned;
use tokio::io::Interest;
use tokio::net::UnixStream;
use tokio::time::timeout;

use super::message::MESSAGE_BYTES_MAX;

/// Descriptors that one message may bring; more than there are listeners, so that a process of a later
/// version can be understood.
const DESCRIPTORS_MAX: usize = 8;

/// One end of a conversation in turns.
#[derive(Debug)]
pub(super) struct Wire {
    stream: UnixStream,
}

/// Why a message did not come or go.
#[derive(Debug, thiserror::Error)]
pub(crate) enum WireError {
    #[error("the other process belongs to user {theirs} and this one to user {ours}")]
    Stranger { theirs: u32, ours: u32 },
    #[error("the other process is gone")]
    Gone,
    #[error("the other process said nothing within {0:?}")]
    Late(Duration),
    #[error("the other process does not speak the upgrade protocol")]
    Garbled,
    #[error("the connection to the other process failed")]
    Failed(#[source] io::Error),
}

impl Wire {
    /// Over a connection whose other end belongs to the same user, and to nobody else: not to root
    /// either, whose descriptors would be an escalation.
    pub(super) fn over(stream: UnixStream) -> Result<Self, WireError> {
        let theirs = stream.peer_cred().map_err(WireError::Failed)?.uid();
        let ours = rustix::process::geteuid().as_raw();
        if theirs == ours { Ok(Self { stream }) } else { Err(WireError::Stranger { theirs, ours }) }
    }

    /// Says something, with descriptors beside it.
    pub(super) async fn say(
        &self,
        message: &impl Serialize,
        descriptors: &[BorrowedFd<'_>],
        within: Duration,
    ) -> Result<(), WireError> {
        let mut line = serde_json::to_vec(message).expect("our messages are plain data");
        line.push(b'\n');
        assert!(line.len() <= MESSAGE_BYTES_MAX && descriptors.len() <= DESCRIPTORS_MAX);
        let saying = self.send(&line, descriptors);
        timeout(within, saying).await.map_err(|_| WireError::Late(within))?.map_err(failed)
    }

    /// Hears the next message, and takes the descriptors that come with it.
    pub(super) async fn hear<T: DeserializeOwned>(
        &self,
        within: Duration,
    ) -> Result<(T, Vec<OwnedFd>), WireError> {
        let mut line = Vec::new();
        let mut descriptors = Vec::new();
        let hearing = async {
            while !line.contains(&b'\n') {
                if self.receive(&mut line, &mut descriptors).await.map_err(failed)? == 0 {
                    return Err(WireError::Gone);
                }
                if line.len() > MESSAGE_BYTES_MAX {
                    return Err(WireError::Garbled);
                }
            }
            Ok(())
        };
        timeout(within, hearing).await.map_err(|_| WireError::Late(within))??;
        let message = serde_json::from_slice(&line).map_err(|_| WireError::Garbled)?;
        Ok((message, descriptors))
    }

    async fn send(&self, line: &[u8], descriptors: &[BorrowedFd<'_>]) -> io::Result<()> {
        let mut sent = 0;
        while sent < line.len() {
            // The descriptors travel with the first byte.
            let beside = if sent == 0 { descriptors } else { &[] };
            sent += self
                .stream
                .async_io(Interest::WRITABLE, || {
                    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
                    let mut control = SendAncillaryBuffer::new(&mut space);
                    if !beside.is_empty() {
                        assert!(control.push(SendAncillaryMessage::ScmRights(beside)), "there is room");
                    }
                    let bytes = [IoSlice::new(&line[sent..])];
                    Ok(sendmsg(&self.stream, &bytes, &mut control, SendFlags::NOSIGNAL)?)
                })
                .await?;
        }
        Ok(())
    }

    async fn receive(&self, line: &mut Vec<u8>, descriptors: &mut Vec<OwnedFd>) -> io::Result<usize> {
        let mut bytes = [0; MESSAGE_BYTES_MAX];
        let read = self
            .stream
            .async_io(Interest::READABLE, || {
                let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(DESCRIPTORS_MAX))];
                let mut control = RecvAncillaryBuffer::new(&mut space);
                let mut into = [IoSliceMut::new(&mut bytes)];
                let read = recvmsg(&self.stream, &mut into, &mut control, RecvFlags::CMSG_CLOEXEC)?;
                for message in control.drain() {
                    if let RecvAncillaryMessage::ScmRights(taken) = message {
                        descriptors.extend(taken);
                    }
                }
                Ok(read.bytes)
            })
            .await?;
        line.extend_from_slice(&bytes[..read]);
        Ok(read)
    }
}

/// A connection that breaks is a process that is gone: a socket of this machine has no other faults.
fn failed(error: io::Error) -> WireError {
    if matches!(error.kind(), io::ErrorKind::BrokenPipe | io::ErrorKind::ConnectionReset) {
        WireError::Gone
    } else {
        WireError::Failed(error)
    }
}
