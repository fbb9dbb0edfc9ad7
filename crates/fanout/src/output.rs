//! Bytes on their way to one subscriber.

use std::sync::Arc;

use bytes::{Bytes, BytesMut};
use evergate_domain::StreamName;

use crate::figures::Shown;
use crate::frame::{Frame, Framing};
use crate::gzip::{self, Deflater, Encoding, Part, Sum};

/// Collects frames into one piece, in the encoding of the subscriber's body. A single shared frame
/// passes through without being copied; several are laid together, because one write of many events
/// costs little more than of one.
#[derive(Debug, Default)]
pub(crate) struct Output {
    single: Option<Bytes>,
    joined: BytesMut,
    gzip: Option<Gzip>,
    /// The events collected since that was last asked.
    shown: Option<Shown>,
}

/// What a compressed body needs to know of itself.
#[derive(Debug)]
struct Gzip {
    deflater: Arc<Deflater>,
    /// Of everything that was ever collected.
    sum: Sum,
    /// What was collected here, for putting it behind other bodies. Only where that is asked for.
    part: Option<Part>,
}

impl Gzip {
    fn add(&mut self, part: &Part) {
        self.sum = self.sum.then(part);
        if let Some(all) = &mut self.part {
            *all = all.then(part);
        }
    }
}

impl Output {
    /// For a body of which this much was sent.
    pub(crate) fn new(encoding: Encoding, sum: Sum, deflater: &Arc<Deflater>) -> Self {
        let gzip = match encoding {
            Encoding::Identity => None,
            Encoding::Gzip => Some(Gzip { deflater: Arc::clone(deflater), sum, part: None }),
        };
        Self { single: None, joined: BytesMut::new(), gzip, shown: None }
    }

    /// For what is put into many bodies.
    pub(crate) fn for_many(encoding: Encoding, deflater: &Arc<Deflater>) -> Self {
        let mut out = Self::new(encoding, Sum::default(), deflater);
        if let Some(gzip) = &mut out.gzip {
            gzip.part = Some(Part::NOTHING);
        }
        out
    }

    /// What all that was collected adds to each of them, if they are compressed.
    pub(crate) fn part(&self) -> Option<Part> {
        self.gzip.as_ref().and_then(|gzip| gzip.part)
    }

    /// The sum of a compressed body so far.
    pub(crate) fn sum(&self) -> Sum {
        self.gzip.as_ref().map_or_else(Sum::default, |gzip| gzip.sum)
    }

    pub(crate) fn len(&self) -> usize {
        self.joined.len() + self.single.as_ref().map_or(0, Bytes::len)
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// A frame as it is for everybody.
    pub(crate) fn whole(&mut self, frame: &Frame, stream: &StreamName, framing: Framing) {
        self.shown = Some(Shown::and(self.shown, frame.event()));
        match &mut self.gzip {
            None => self.share(frame.encoded(stream, framing).whole()),
            Some(gzip) => {
                let deflated = frame.deflated(stream, framing, true, &gzip.deflater);
                gzip.add(deflated.part());
                self.share(deflated.bytes());
            }
        }
    }

    /// A frame with an id of the subscriber's own, given as the lines that end it.
    pub(crate) fn with_id(&mut self, frame: &Frame, stream: &StreamName, framing: Framing, id: &[u8]) {
        self.shown = Some(Shown::and(self.shown, frame.event()));
        match &mut self.gzip {
            None => {
                self.raw(frame.encoded(stream, framing).fields());
                self.raw(id);
            }
            Some(gzip) => {
                let deflated = frame.deflated(stream, framing, false, &gzip.deflater);
                gzip.add(deflated.part());
                gzip.add(&Part::of(id));
                self.raw(deflated.open());
                gzip::stored(id, true, |bytes| self.raw(bytes));
            }
        }
    }

    /// Frames that nobody else is sent.
    pub(crate) fn private(&mut self, frames: &[u8]) {
        match &mut self.gzip {
            None => self.raw(frames),
            Some(gzip) => {
                gzip.add(&Part::of(frames));
                gzip::stored(frames, false, |bytes| self.raw(bytes));
            }
        }
    }

    /// What stands before the first frame.
    pub(crate) fn begin(&mut self) {
        if self.gzip.is_some() {
            self.raw(&gzip::HEADER);
        }
    }

    /// What stands behind the last frame.
    pub(crate) fn finish(&mut self) {
        if let Some(gzip) = &self.gzip {
            let trailer = gzip::trailer(gzip.sum);
            self.raw(&trailer);
        }
    }

    pub(crate) fn take(&mut self) -> Bytes {
        self.single.take().unwrap_or_else(|| self.joined.split().freeze())
    }

    /// The events among what was collected, since that was last asked.
    pub(crate) fn take_shown(&mut self) -> Option<Shown> {
        self.shown.take()
    }

    fn share(&mut self, bytes: &Bytes) {
        if self.is_empty() {
            self.single = Some(bytes.clone());
        } else {
            self.raw(bytes);
        }
    }

    fn raw(&mut self, bytes: &[u8]) {
        if let Some(single) = self.single.take() {
            self.joined.extend_from_slice(&single);
        }
        self.joined.extend_from_slice(bytes);
    }
}
