//! Answers of a server over HTTP/1.1 (RFC 9112), as far as a load needs them read: status, and a body in
//! chunks or of a length. Small, because there are thousands.

/// The longest head that is read.
const HEAD_MAX: usize = 16 << 10;

/// Why an answer cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(super) enum WireError {
    #[error("the answer is no HTTP/1.1")]
    NotHttp,
    #[error("a chunk's size cannot be read")]
    Chunk,
}

/// An answer that is being read.
#[derive(Debug, Default)]
pub(super) struct Answer {
    /// What was not taken yet.
    raw: Vec<u8>,
    state: State,
    status: Option<u16>,
}

#[derive(Debug, Default, Clone, Copy, PartialEq, Eq)]
enum State {
    #[default]
    Head,
    ChunkSize,
    /// So many bytes of a chunk, or of the body, to come.
    Data {
        left: usize,
        chunked: bool,
    },
    ChunkEnd,
    /// Behind the last chunk.
    Trailer,
    Complete,
}

impl Answer {
    /// Once its head has come.
    pub(super) fn status(&self) -> Option<u16> {
        self.status
    }

    pub(super) fn is_complete(&self) -> bool {
        self.state == State::Complete
    }

    /// Takes bytes as they came, and puts what they hold of the body behind `body`.
    pub(super) fn feed(&mut self, bytes: &[u8], body: &mut Vec<u8>) -> Result<(), WireError> {
        self.raw.extend_from_slice(bytes);
        let raw = std::mem::take(&mut self.raw);
        let mut rest = &raw[..];
        while let Some(taken) = self.step(rest, body)? {
            rest = &rest[taken..];
        }
        let taken = raw.len() - rest.len();
        self.raw = raw;
        self.raw.drain(..taken);
        Ok(())
    }

    /// One step; gives how much it took, or `None` if it needs more.
    fn step(&mut self, rest: &[u8], body: &mut Vec<u8>) -> Result<Option<usize>, WireError> {
        let line = || rest.windows(2).position(|pair| pair == b"\r\n");
        let (taken, state) = match self.state {
            State::Head => {
                let Some(end) = rest.windows(4).position(|four| four == b"\r\n\r\n") else {
                    return if rest.len() > HEAD_MAX { Err(WireError::NotHttp) } else { Ok(None) };
                };
                let (status, state) = read_head(&rest[..end])?;
                self.status = Some(status);
                (end + 4, state)
            }
            State::Data { left: 0, chunked } => (0, if chunked { State::ChunkEnd } else { State::Complete }),
            State::Data { .. } if rest.is_empty() => return Ok(None),
            State::Data { left, chunked } => {
                let now = left.min(rest.len());
                body.extend_from_slice(&rest[..now]);
                (now, State::Data { left: left - now, chunked })
            }
            State::ChunkSize => {
                let Some(end) = line() else {
                    return if rest.len() > HEAD_MAX { Err(WireError::Chunk) } else { Ok(None) };
                };
                let size = std::str::from_utf8(&rest[..end]).ok();
                let size = size.and_then(|size| size.split(';').next()).map(str::trim);
                let size = size.and_then(|size| usize::from_str_radix(size, 16).ok());
                let size = size.ok_or(WireError::Chunk)?;
                (end + 2, if size == 0 { State::Trailer } else { State::Data { left: size, chunked: true } })
            }
            State::ChunkEnd if rest.len() < 2 => return Ok(None),
            State::ChunkEnd if rest.starts_with(b"\r\n") => (2, State::ChunkSize),
            State::ChunkEnd => return Err(WireError::Chunk),
            State::Trailer => {
                let Some(end) = line() else { return Ok(None) };
                (end + 2, if end == 0 { State::Complete } else { State::Trailer })
            }
            State::Complete => return Ok(None),
        };
        self.state = state;
        Ok(Some(taken))
    }
}

fn read_head(head: &[u8]) -> Result<(u16, State), WireError> {
    let head = std::str::from_utf8(head).map_err(|_| WireError::NotHttp)?;
    let mut lines = head.split("\r\n");
    let status = lines.next().and_then(|line| line.strip_prefix("HTTP/1.1 ")?.get(..3)?.parse().ok());
    let status = status.ok_or(WireError::NotHttp)?;
    let mut left = 0;
    for (name, value) in lines.filter_map(|line| line.split_once(':')) {
        let value = value.trim();
        if name.eq_ignore_ascii_case("transfer-encoding") && value.eq_ignore_ascii_case("chunked") {
            return Ok((status, State::ChunkSize));
        }
        if name.eq_ignore_ascii_case("content-length") {
            left = value.parse().map_err(|_| WireError::NotHttp)?;
        }
    }
    Ok((status, State::Data { left, chunked: false }))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    /// Fed in pieces of this size.
    fn read(text: &str, piece: usize) -> (Answer, String) {
        let (mut answer, mut body) = (Answer::default(), Vec::new());
        for bytes in text.as_bytes().chunks(piece) {
            answer.feed(bytes, &mut body).unwrap();
        }
        (answer, String::from_utf8(body).unwrap())
    }

    #[test]
    fn a_body_is_read_however_it_is_framed_and_cut() {
        let chunked =
            "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n7;x=y\r\n, world\r\n";
        let sized = "HTTP/1.1 404 Not Found\r\ncontent-length: 4\r\n\r\nnone";
        for piece in 1..40 {
            let (answer, body) = read(chunked, piece);
            assert_eq!((answer.status(), answer.is_complete(), &*body), (Some(200), false, "hello, world"));
            assert!(read(&format!("{chunked}0\r\n\r\n"), piece).0.is_complete());
            let (answer, body) = read(sized, piece);
            assert_eq!((answer.status(), answer.is_complete(), &*body), (Some(404), true, "none"));
        }
    }

    #[test]
    fn what_is_no_answer_is_told() {
        let mut body = Vec::new();
        assert_eq!(Answer::default().feed(b"SSH-2.0\r\n\r\n", &mut body), Err(WireError::NotHttp));
        let bad = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\nxyz\r\n";
        assert_eq!(Answer::default().feed(bad, &mut body), Err(WireError::Chunk));
        let endless = vec![b'x'; HEAD_MAX + 1];
        assert_eq!(Answer::default().feed(&endless, &mut body), Err(WireError::NotHttp));
    }
}
