//! An event as it goes over the wire, encoded once for everybody.

use std::sync::{Arc, OnceLock};

use bytes::Bytes;
use evergate_domain::{Event, EventType, Offset, StreamName, sse};

use crate::gzip::{Deflated, Deflater};

/// How the data of an event is shown.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Framing {
    /// As it was published.
    #[default]
    Plain,
    /// As one JSON object that also tells stream, key, type and time.
    Envelope,
}

/// An event, and its encodings as soon as somebody needs them.
#[derive(Debug)]
pub(crate) struct Frame {
    event: Arc<Event>,
    plain: OnceLock<Encoded>,
    envelope: OnceLock<Encoded>,
    /// By framing, and for one stream or several. Boxed: mostly there is one of them, or none.
    deflated: [OnceLock<Box<Deflated>>; 4],
}

/// `event:` and `data:` lines, then `id:` and the blank line for a subscriber of this one stream.
#[derive(Debug)]
pub(crate) struct Encoded {
    whole: Bytes,
    fields: usize,
}

impl Encoded {
    /// The whole frame, for a subscriber whose cursor is the event's own offset.
    pub(crate) fn whole(&self) -> &Bytes {
        &self.whole
    }

    /// The frame without its id, for a subscriber who gets an id of its own.
    pub(crate) fn fields(&self) -> &[u8] {
        &self.whole[..self.fields]
    }
}

impl Frame {
    pub(crate) fn new(event: Arc<Event>) -> Self {
        Self { event, plain: OnceLock::new(), envelope: OnceLock::new(), deflated: Default::default() }
    }

    pub(crate) fn event(&self) -> &Event {
        &self.event
    }

    pub(crate) fn offset(&self) -> Offset {
        self.event.offset
    }

    pub(crate) fn encoded(&self, stream: &StreamName, framing: Framing) -> &Encoded {
        self.kept(framing).get_or_init(|| self.encode(stream, framing))
    }

    /// The frame as deflate blocks: the whole one, or without its id.
    pub(crate) fn deflated(
        &self,
        stream: &StreamName,
        framing: Framing,
        whole: bool,
        deflater: &Deflater,
    ) -> &Deflated {
        let form = usize::from(framing == Framing::Envelope) * 2 + usize::from(whole);
        self.deflated[form].get_or_init(|| {
            let deflate = |encoded: &Encoded| {
                Box::new(deflater.deflate(if whole { encoded.whole() } else { encoded.fields() }))
            };
            // Where everybody wants it deflated, the other encoding is not kept.
            match self.kept(framing).get() {
                Some(encoded) => deflate(encoded),
                None => deflate(&self.encode(stream, framing)),
            }
        })
    }

    fn kept(&self, framing: Framing) -> &OnceLock<Encoded> {
        match framing {
            Framing::Plain => &self.plain,
            Framing::Envelope => &self.envelope,
        }
    }

    fn encode(&self, stream: &StreamName, framing: Framing) -> Encoded {
        match framing {
            Framing::Plain => encode(&self.event, &self.event.data),
            Framing::Envelope => encode(&self.event, &sse::envelope(stream, &self.event)),
        }
    }
}

fn encode(event: &Event, data: &str) -> Encoded {
    let mut out = Vec::with_capacity(data.len() + 64);
    sse::fields(&mut out, event.kind.as_ref().map(EventType::as_str), data);
    let fields = out.len();
    sse::id(&mut out, |out| event.offset.write_to(out));
    Encoded { whole: out.into(), fields }
}
