//! What a subscriber is sent, read strictly: only the one shape the contract allows is accepted, so
//! every test that reads a stream also checks its shape.
//!
//! ```text
//! retry: 2000          optional
//! event: trade         optional
//! data: …              one or more
//! id: 1-42             optional, and last
//!                      blank line
//! ```
//! Between frames a comment may stand: `:` and one newline. Before it, or before another of its kind, a `retry:`
//! may stand alone.

use serde_json::Value;

use crate::offset::{Offset, offset};

/// One thing the stream said.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Item {
    /// A whole frame.
    Frame(Frame),
    /// A comment line, without its colon.
    Comment(String),
    /// A `retry:` line that belongs to no frame.
    Retry(u64),
}

/// A whole frame.
#[derive(Debug, Clone, PartialEq, Eq, Default)]
pub struct Frame {
    /// `retry:`, in milliseconds.
    pub retry: Option<u64>,
    /// `event:`.
    pub event: Option<String>,
    /// The `data:` lines, joined by newlines.
    pub data: String,
    /// `id:`.
    pub id: Option<String>,
    /// Its bytes, blank line included.
    pub raw: Vec<u8>,
}

/// Cuts a byte stream into [`Item`]s.
#[derive(Debug, Default)]
pub struct FrameParser {
    unread: Vec<u8>,
    frame: Frame,
    data_lines: usize,
}

impl Frame {
    /// Whether it carries an event of the stream and not a word of the server's own.
    #[must_use]
    pub fn is_event(&self) -> bool {
        !self.is_control()
    }

    /// Whether it is one of the server's own, `evergate.*`.
    #[must_use]
    pub fn is_control(&self) -> bool {
        self.event.as_deref().is_some_and(|event| event.starts_with("evergate."))
    }

    /// The data as JSON.
    #[must_use]
    pub fn json(&self) -> Value {
        serde_json::from_str(&self.data).unwrap_or_else(|error| panic!("{error}: {self:?}"))
    }

    /// The id, which must be there.
    #[must_use]
    pub fn must_id(&self) -> &str {
        self.id.as_deref().unwrap_or_else(|| panic!("no id: {self:?}"))
    }

    /// The id as the offset of one stream.
    #[must_use]
    pub fn offset(&self) -> Offset {
        offset(self.must_id())
    }
}

impl FrameParser {
    /// At the start of a stream.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Takes bytes.
    pub fn feed(&mut self, bytes: &[u8]) {
        self.unread.extend_from_slice(bytes);
    }

    /// The next item, if it is whole.
    ///
    /// # Errors
    /// What is wrong with the shape.
    pub fn item(&mut self) -> Result<Option<Item>, String> {
        while let Some(at) = self.unread.iter().position(|&byte| byte == b'\n') {
            let line: Vec<u8> = self.unread.drain(..=at).collect();
            let before = self.frame.raw.len();
            if let Some(retry) = self.frame.retry.filter(|_| self.is_only_a_retry())
                && (line.starts_with(b":") || line.starts_with(b"retry:"))
            {
                // It stood alone; what comes behind it has yet to be read.
                self.frame = Frame::default();
                self.unread.splice(..0, line);
                return Ok(Some(Item::Retry(retry)));
            }
            match self.line(&line) {
                Ok(Some(item)) => return Ok(Some(item)),
                Ok(None) => {}
                Err(wrong) => {
                    let frame = String::from_utf8_lossy(&self.frame.raw[..before]);
                    return Err(format!("{wrong}, after {frame:?}"));
                }
            }
        }
        Ok(None)
    }

    /// Bytes of a frame that has not come whole.
    #[must_use]
    pub fn rest(&self) -> Vec<u8> {
        [self.frame.raw.as_slice(), &self.unread].concat()
    }

    fn is_only_a_retry(&self) -> bool {
        self.frame.event.is_none() && self.data_lines == 0
    }

    fn line(&mut self, line: &[u8]) -> Result<Option<Item>, String> {
        let text =
            std::str::from_utf8(&line[..line.len() - 1]).map_err(|_| format!("not UTF-8: {line:?}"))?;
        let wrong = |what: &str| Err(format!("{what}: {text:?}"));
        if text.contains('\r') || (text.contains('\0') && !text.starts_with("data")) {
            return wrong("a control character");
        }
        if let Some(comment) = text.strip_prefix(':') {
            if self.frame.raw.is_empty() {
                return Ok(Some(Item::Comment(comment.to_owned())));
            }
            return wrong("a comment within a frame");
        }
        if text.is_empty() {
            if self.data_lines == 0 {
                return wrong("a blank line that ends no frame");
            }
            self.frame.raw.extend_from_slice(line);
            self.data_lines = 0;
            return Ok(Some(Item::Frame(std::mem::take(&mut self.frame))));
        }
        let Some((field, value)) = text.split_once(':') else {
            return wrong("a field without a colon");
        };
        let value = value.strip_prefix(' ').unwrap_or(value);
        let frame = &mut self.frame;
        let in_order = match field {
            "retry" => frame.retry.is_none() && frame.event.is_none() && self.data_lines == 0,
            "event" => frame.event.is_none() && self.data_lines == 0,
            "data" => frame.id.is_none(),
            "id" => frame.id.is_none() && self.data_lines > 0,
            _ => return wrong("an unknown field"),
        };
        if !in_order {
            return wrong("a field out of order");
        }
        match field {
            "retry" => match value.parse() {
                Ok(ms) => frame.retry = Some(ms),
                Err(_) => return wrong("a retry that is no number"),
            },
            "event" => frame.event = Some(value.to_owned()),
            "data" => {
                if self.data_lines > 0 {
                    frame.data.push('\n');
                }
                frame.data.push_str(value);
                self.data_lines += 1;
            }
            _ => {
                let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._~-".contains(&byte);
                if value.is_empty() || value.len() > 256 || !value.bytes().all(safe) {
                    return wrong("an id browsers would not send back");
                }
                frame.id = Some(value.to_owned());
            }
        }
        frame.raw.extend_from_slice(line);
        Ok(None)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Vec<Item>, String> {
        let mut parser = FrameParser::new();
        parser.feed(text.as_bytes());
        let mut items = Vec::new();
        while let Some(item) = parser.item()? {
            items.push(item);
        }
        Ok(items)
    }

    #[test]
    fn frames_and_comments_are_told_apart() {
        let items = parse(":\nretry: 5\nevent: a\ndata: x\ndata: y\nid: 1-1\n\n: hi\ndata:\n\n")
            .expect("well formed");
        let [Item::Comment(none), Item::Frame(first), Item::Comment(hi), Item::Frame(last)] =
            items.as_slice()
        else {
            panic!("{items:?}");
        };
        assert_eq!((none.as_str(), hi.as_str()), ("", " hi"));
        assert_eq!((first.retry, first.event.as_deref(), first.data.as_str()), (Some(5), Some("a"), "x\ny"));
        assert_eq!(first.offset(), Offset::new(1, 1));
        assert_eq!((last.data.as_str(), last.raw.as_slice()), ("", &b"data:\n\n"[..]));
    }

    #[test]
    fn a_retry_may_stand_alone_between_frames() {
        let items = parse("retry: 1\nretry: 2\n:\ndata: x\n\nretry: 3\n:\nretry: 4\ndata: y\n\n")
            .expect("well formed");
        let [
            Item::Retry(1),
            Item::Retry(2),
            Item::Comment(_),
            Item::Frame(x),
            Item::Retry(3),
            Item::Comment(_),
            Item::Frame(y),
        ] = items.as_slice()
        else {
            panic!("{items:?}");
        };
        assert_eq!((x.retry, y.retry), (None, Some(4)));
        assert!(parse("event: a\nretry: 1\n:\n").is_err() && parse("retry: x\n:\n").is_err());
    }

    #[test]
    fn any_other_shape_is_refused() {
        for wrong in [
            "id: 1-1\ndata: x\n\n",
            "data: x\nevent: a\n\n",
            "data: x\nid: 1-1\ndata: y\n\n",
            "event: a\nid: 1-1\n\n",
            "\n",
            ":\n\n",
            "data: x\n:\n\n",
            "data: x\r\n\r\n",
            "data: x\nid: 1 1\n\n",
            "event: a\nretry: 1\ndata: x\n\n",
            "nonsense\n",
            "other: x\n",
        ] {
            assert!(parse(wrong).is_err(), "{wrong:?}");
        }
    }
}
