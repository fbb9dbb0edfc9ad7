//! Bytes on their way to one subscriber.

use bytes::{Bytes, BytesMut};

/// Collects frames into one piece. A single shared frame passes through without being copied;
/// several are laid together, because one write of many events costs little more than of one.
#[derive(Debug, Default)]
pub(crate) struct Output {
    single: Option<Bytes>,
    joined: BytesMut,
}

impl Output {
    pub(crate) fn len(&self) -> usize {
        self.joined.len() + self.single.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub(crate) fn share(&mut self, bytes: &Bytes) {
        if self.is_empty() {
            self.single = Some(bytes.clone());
        } else {
            self.write(bytes);
        }
    }

    pub(crate) fn write(&mut self, bytes: &[u8]) {
        if let Some(single) = self.single.take() {
            self.joined.extend_from_slice(&single);
        }
        self.joined.extend_from_slice(bytes);
    }

    pub(crate) fn take(&mut self) -> Bytes {
        self.single.take().unwrap_or_else(|| self.joined.split().freeze())
    }
}
