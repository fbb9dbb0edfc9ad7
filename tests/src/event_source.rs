//! What a browser would know. A model of `EventSource` that follows the HTML standard, and where
//! engines differ, the one that remembers least: an id counts once its block has ended with a blank
//! line, and only if that block carried data.

/// An event handed to the page.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Dispatched {
    /// `message` unless the block named another.
    pub event: String,
    /// The data lines, joined by newlines.
    pub data: String,
    /// `lastEventId` as the page sees it.
    pub last_event_id: String,
}

/// The client's end of one subscription, across its connections.
#[derive(Debug, Default, Clone)]
pub struct EventSource {
    last_event_id: String,
    line: Vec<u8>,
    after_cr: bool,
    event: String,
    data: String,
    has_data: bool,
    id: Option<String>,
}

impl EventSource {
    /// Before the first connection.
    #[must_use]
    pub fn new() -> Self {
        Self::default()
    }

    /// Between two connections, with an id from an earlier one.
    #[must_use]
    pub fn holding(last_event_id: &str) -> Self {
        Self { last_event_id: last_event_id.to_owned(), ..Self::default() }
    }

    /// What the next connection would send as `Last-Event-ID`; empty for none.
    #[must_use]
    pub fn last_event_id(&self) -> &str {
        &self.last_event_id
    }

    /// The connection is gone: a block that was not ended is thrown away, as the standard says.
    pub fn disconnected(&mut self) {
        *self = Self { last_event_id: std::mem::take(&mut self.last_event_id), ..Self::default() };
    }

    /// Takes bytes of the body and returns what they make the page see.
    pub fn feed(&mut self, bytes: &[u8]) -> Vec<Dispatched> {
        let mut dispatched = Vec::new();
        for &byte in bytes {
            let after_cr = std::mem::replace(&mut self.after_cr, byte == b'\r');
            match byte {
                b'\n' if after_cr => {}
                b'\n' | b'\r' => dispatched.extend(self.end_line()),
                _ => self.line.push(byte),
            }
        }
        dispatched
    }

    fn end_line(&mut self) -> Option<Dispatched> {
        let line = String::from_utf8_lossy(&std::mem::take(&mut self.line)).into_owned();
        if line.is_empty() {
            return self.end_block();
        }
        let (field, value) = line.split_once(':').unwrap_or((&line, ""));
        let value = value.strip_prefix(' ').unwrap_or(value);
        match field {
            "event" => value.clone_into(&mut self.event),
            "data" => {
                self.data.push_str(value);
                self.data.push('\n');
                self.has_data = true;
            }
            "id" if !value.contains('\0') => self.id = Some(value.to_owned()),
            _ => {}
        }
        None
    }

    fn end_block(&mut self) -> Option<Dispatched> {
        let event = std::mem::take(&mut self.event);
        let mut data = std::mem::take(&mut self.data);
        let id = self.id.take();
        if !std::mem::take(&mut self.has_data) {
            return None;
        }
        if let Some(id) = id {
            self.last_event_id = id;
        }
        data.pop();
        Some(Dispatched {
            event: if event.is_empty() { "message".to_owned() } else { event },
            data,
            last_event_id: self.last_event_id.clone(),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_counts_at_the_blank_line_and_only_with_data() {
        let mut client = EventSource::new();
        assert!(client.feed(b"data: x\nid: 1-1\n").is_empty());
        assert_eq!(client.last_event_id(), "");
        let events = client.feed(b"\n");
        assert_eq!((events.len(), client.last_event_id()), (1, "1-1"));
        assert!(client.feed(b"id: 1-2\n\n").is_empty());
        assert_eq!(client.last_event_id(), "1-1");
    }

    #[test]
    fn a_block_cut_short_is_thrown_away() {
        let mut client = EventSource::new();
        client.feed(b"data: a\nid: 1-1\n\nevent: z\ndata: half\nid: 1-2\n");
        client.disconnected();
        let events = client.feed(b"data: b\nid: 1-2\n\n");
        let expected = Dispatched { event: "message".into(), data: "b".into(), last_event_id: "1-2".into() };
        assert_eq!(events, [expected]);
    }

    #[test]
    fn every_kind_of_line_end_and_comments_are_understood() {
        let mut client = EventSource::new();
        let events = client.feed(b":\r\nevent: t\rdata: a\r\ndata\n\n:only a comment\n\n");
        let expected = Dispatched { event: "t".into(), data: "a\n".into(), last_event_id: String::new() };
        assert_eq!(events, [expected]);
    }
}
