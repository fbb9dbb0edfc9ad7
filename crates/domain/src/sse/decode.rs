//! From bytes to events, by the standard's "interpreting an event stream", and stricter: what a
//! correct server never sends is an error instead of being passed over.

/// What a stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// An event, at its blank line.
    Message(Message),
    /// `retry:` in milliseconds.
    Retry(u64),
    /// A comment, without its colon.
    Comment(String),
    /// A block with an id but no data: dispatches nothing, but moves the last event id.
    Position(String),
}

/// One dispatched event.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Message {
    /// The `event:` field; `message` where there was none.
    pub kind: String,
    /// The `data:` lines, joined by LF.
    pub data: String,
    /// The last event id as of this event.
    pub last_event_id: String,
}

/// Why a stream cannot be read on. The server's fault, or something's on the way.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum DecodeError {
    /// A line is not UTF-8.
    #[error("a line of the event stream is not UTF-8")]
    NotUtf8,
    /// A line, or an event's lines together, exceed the decoder's bound.
    #[error("an event is longer than {0} bytes")]
    TooLong(usize),
    /// A field that the standard does not know.
    #[error("unknown field {0:?} in the event stream")]
    UnknownField(String),
    /// `retry:` with something other than decimal digits.
    #[error("retry is not a number: {0:?}")]
    Retry(String),
    /// An id with a NUL, which the standard makes clients pass over.
    #[error("an id holds a NUL character")]
    Id,
}

/// An incremental decoder. Bytes go in as they come, cut anywhere; items come out in order.
#[derive(Debug)]
pub struct Decoder {
    bytes_max: usize,
    line: Vec<u8>,
    after_cr: bool,
    at_start: bool,
    kind: String,
    data: String,
    id: String,
    id_in_block: bool,
}

impl Decoder {
    /// A decoder that refuses an event of more than `bytes_max` bytes. `last_event_id` is what the
    /// client held before it connected, empty if nothing.
    #[must_use]
    pub fn new(bytes_max: usize, last_event_id: &str) -> Self {
        Self {
            bytes_max,
            line: Vec::new(),
            after_cr: false,
            at_start: true,
            kind: String::new(),
            data: String::new(),
            id: last_event_id.to_owned(),
            id_in_block: false,
        }
    }

    /// Takes the next bytes and appends what they complete to `items`.
    pub fn feed(&mut self, bytes: &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        for &byte in bytes {
            // CRLF is one line end: its LF is dropped, also when it comes in the next call.
            let skip = self.after_cr && byte == b'\n';
            self.after_cr = byte == b'\r';
            match byte {
                _ if skip => {}
                b'\n' | b'\r' => {
                    let line = std::mem::take(&mut self.line);
                    self.line(&line, items)?;
                    // Keep the allocation for the next line.
                    self.line = line;
                    self.line.clear();
                }
                _ => {
                    if self.line.len() + self.data.len() >= self.bytes_max {
                        return Err(DecodeError::TooLong(self.bytes_max));
                    }
                    self.line.push(byte);
                }
            }
        }
        Ok(())
    }

    fn line(&mut self, line: &[u8], items: &mut Vec<Item>) -> Result<(), DecodeError> {
        let line = std::str::from_utf8(line).map_err(|_| DecodeError::NotUtf8)?;
        // One byte order mark at the very beginning is not part of the first line.
        let line = match line.strip_prefix('\u{feff}') {
            Some(rest) if self.at_start => rest,
            Some(_) | None => line,
        };
        self.at_start = false;
        if line.is_empty() {
            self.dispatch(items);
            return Ok(());
        }
        let (field, value) = line.split_once(':').unwrap_or((line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "" => items.push(Item::Comment(value.to_owned())),
            "event" => value.clone_into(&mut self.kind),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
            }
            "id" if value.contains('\0') => return Err(DecodeError::Id),
            "id" => {
                value.clone_into(&mut self.id);
                self.id_in_block = true;
            }
            "retry" => match value.parse() {
                Ok(ms) if value.bytes().all(|b| b.is_ascii_digit()) => items.push(Item::Retry(ms)),
                Ok(_) | Err(_) => return Err(DecodeError::Retry(value.to_owned())),
            },
            _ => return Err(DecodeError::UnknownField(field.to_owned())),
        }
        Ok(())
    }

    fn dispatch(&mut self, items: &mut Vec<Item>) {
        let kind = std::mem::take(&mut self.kind);
        let mut data = std::mem::take(&mut self.data);
        let moved = std::mem::take(&mut self.id_in_block);
        // Every data line left a newline behind; none means the block had no data at all.
        if data.pop().is_some() {
            items.push(Item::Message(Message {
                kind: if kind.is_empty() { "message".to_owned() } else { kind },
                data,
                last_event_id: self.id.clone(),
            }));
        } else if moved {
            items.push(Item::Position(self.id.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode;
    use super::*;
    use proptest::prelude::*;

    fn decode(bytes: &[u8]) -> Result<Vec<Item>, DecodeError> {
        let mut items = Vec::new();
        Decoder::new(4 << 20, "").feed(bytes, &mut items)?;
        Ok(items)
    }

    fn frame(kind: Option<&str>, data: &str, id: &str) -> Vec<u8> {
        let mut out = Vec::new();
        encode::fields(&mut out, kind, data);
        encode::id(&mut out, |out| out.extend_from_slice(id.as_bytes()));
        out
    }

    fn message(kind: &str, data: &str, id: &str) -> Item {
        Item::Message(Message { kind: kind.to_owned(), data: data.to_owned(), last_event_id: id.to_owned() })
    }

    /// What a reader sees of a text: the standard turns every line end into LF.
    fn seen(data: &str) -> String {
        data.replace("\r\n", "\n").replace('\r', "\n")
    }

    #[test]
    fn awkward_data_survives() {
        let large = "x".repeat(1 << 20);
        for data in [
            "",
            " ",
            "  two",
            "\n",
            "\r",
            "\r\n",
            "\n\r",
            "a\n",
            "\na",
            "a\rb\nc\r\nd",
            "a\0b",
            "\u{feff}bom",
            "data: x\nid: 9\n\n",
            ": no comment",
            "🦀 ünïcode \u{2028}",
            "{\"a\":1}",
            &large,
        ] {
            assert_eq!(
                decode(&frame(Some("t"), data, "1-1")),
                Ok(vec![message("t", &seen(data), "1-1")]),
                "{:?}",
                &data[..data.len().min(40)]
            );
        }
    }

    #[test]
    fn a_byte_order_mark_counts_only_at_the_beginning() {
        assert_eq!(decode("\u{feff}data: a\n\n".as_bytes()), Ok(vec![message("message", "a", "")]));
        assert!(decode("data: a\n\u{feff}data: b\n\n".as_bytes()).is_err());
    }

    #[test]
    fn what_a_correct_server_never_sends_is_an_error() {
        assert_eq!(decode(b"dat: a\n"), Err(DecodeError::UnknownField("dat".into())));
        assert_eq!(decode(b"data: \xff\n"), Err(DecodeError::NotUtf8));
        assert_eq!(decode(b"retry: +5\n"), Err(DecodeError::Retry("+5".into())));
        assert_eq!(decode(b"id: a\0\n"), Err(DecodeError::Id));
        let mut items = Vec::new();
        assert_eq!(Decoder::new(8, "").feed(b"data: 0123456789", &mut items), Err(DecodeError::TooLong(8)));
    }

    #[test]
    fn ids_stay_until_changed_and_move_without_data() {
        let items = decode(b"data: a\nid: 1\n\ndata: b\n\nid: 2\n\ndata: c\n\n").expect("valid");
        assert_eq!(
            items,
            [
                message("message", "a", "1"),
                message("message", "b", "1"),
                Item::Position("2".into()),
                message("message", "c", "2")
            ]
        );
    }

    #[test]
    fn a_heartbeat_and_a_retry_dispatch_nothing() {
        let mut bytes = encode::HEARTBEAT.to_vec();
        encode::retry_hint(&mut bytes, 1500);
        assert_eq!(decode(&bytes), Ok(vec![Item::Comment(String::new()), Item::Retry(1500)]));
    }

    proptest! {
        #[test]
        fn encode_then_decode_gives_the_event_back(
            kind in proptest::option::of("[a-zA-Z][a-zA-Z0-9 :._-]{0,20}"),
            data in "(?s)[\\x00-\\x{10ffff}]{0,60}|[\\r\\n a:]{0,30}",
            id in "[A-Za-z0-9._~-]{1,128}",
        ) {
            prop_assert_eq!(
                decode(&frame(kind.as_deref(), &data, &id)),
                Ok(vec![message(kind.as_deref().unwrap_or("message"), &seen(&data), &id)])
            );
        }

        #[test]
        fn cutting_the_bytes_anywhere_changes_nothing(
            events in prop::collection::vec("[a-z\\r\\n :]{0,12}", 1..6),
            cuts in prop::collection::vec(1usize..7, 0..40),
        ) {
            let bytes: Vec<u8> = events.iter().enumerate().flat_map(|(n, data)| frame(None, data, &n.to_string())).collect();
            let mut decoder = Decoder::new(1 << 20, "");
            let mut items = Vec::new();
            let mut rest = &bytes[..];
            for cut in cuts.into_iter().chain(std::iter::repeat(3)) {
                if rest.is_empty() { break; }
                let (now, later) = rest.split_at(cut.min(rest.len()));
                decoder.feed(now, &mut items).expect("valid");
                rest = later;
            }
            prop_assert_eq!(Ok(items), decode(&bytes));
        }

        #[test]
        fn any_bytes_are_taken_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = decode(&bytes);
        }
    }
}
