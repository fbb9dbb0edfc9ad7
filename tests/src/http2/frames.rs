//! HTTP/2 frame by frame, for what no client does by mistake.

use std::io;
use std::net::SocketAddr;
use std::time::Duration;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// What a frame is (RFC 9113, section 6).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(u8)]
#[expect(missing_docs, reason = "named as in the RFC")]
pub enum Kind {
    Data = 0,
    Headers = 1,
    Priority = 2,
    RstStream = 3,
    Settings = 4,
    Ping = 6,
    GoAway = 7,
    WindowUpdate = 8,
    Continuation = 9,
    /// One that no document defines.
    Unknown = 0xbb,
}

/// The only flag of DATA and HEADERS that says that nothing follows on the stream.
pub const END_STREAM: u8 = 1;
/// That a field block is whole.
pub const END_HEADERS: u8 = 4;

/// A frame that came.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Frame {
    /// Its type, as a number.
    pub kind: u8,
    /// Its flags.
    pub flags: u8,
    /// Its stream; 0 for the connection.
    pub stream: u32,
    /// What it carries.
    pub payload: Vec<u8>,
}

/// A connection that sends what it is told and answers nothing by itself.
#[derive(Debug)]
pub struct Frames {
    socket: TcpStream,
}

impl Frames {
    /// Connects and sends the preface, without the settings that must follow.
    pub async fn open(address: SocketAddr) -> Self {
        let mut socket = TcpStream::connect(address).await.expect("the server accepts");
        socket.write_all(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n").await.expect("the preface is sent");
        Self { socket }
    }

    /// The bytes of a frame.
    #[must_use]
    pub fn encode(kind: Kind, flags: u8, stream: u32, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind as u8, flags];
        frame.extend_from_slice(&stream.to_be_bytes());
        frame.extend_from_slice(payload);
        frame
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// The server has ended the connection.
    pub async fn try_send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.socket.write_all(bytes).await
    }

    /// Sends a frame that the server must take.
    pub async fn send(&mut self, kind: Kind, flags: u8, stream: u32, payload: &[u8]) {
        self.try_send(&Self::encode(kind, flags, stream, payload)).await.expect("the server takes frames");
    }

    /// Sends settings: numbers and values.
    pub async fn settings(&mut self, settings: &[(u16, u32)]) {
        let each = |&(name, value): &(u16, u32)| [&name.to_be_bytes()[..], &value.to_be_bytes()].concat();
        let payload: Vec<u8> = settings.iter().flat_map(each).collect();
        self.send(Kind::Settings, 0, 0, &payload).await;
    }

    /// Gives room.
    pub async fn window_update(&mut self, stream: u32, bytes: u32) {
        self.send(Kind::WindowUpdate, 0, stream, &bytes.to_be_bytes()).await;
    }

    /// Sends a request without a body.
    pub async fn get(&mut self, stream: u32, target: &str) {
        self.send(Kind::Headers, END_STREAM | END_HEADERS, stream, &Self::block("GET", target)).await;
    }

    /// The field block of a request, without compression (RFC 7541, section 6.2.2).
    #[must_use]
    pub fn block(method: &str, target: &str) -> Vec<u8> {
        let fields = [(":method", method), (":scheme", "http"), (":authority", "test"), (":path", target)];
        fields.iter().flat_map(|(name, value)| Self::field(name, value.as_bytes())).collect()
    }

    /// A field as it stands in a block.
    ///
    /// # Panics
    /// If a name is longer than 126 bytes.
    #[must_use]
    pub fn field(name: &str, value: &[u8]) -> Vec<u8> {
        let mut field = vec![0, u8::try_from(name.len()).expect("a short name")];
        assert!(field[1] < 127, "a short name");
        field.extend_from_slice(name.as_bytes());
        // An integer with a prefix of seven bits.
        let mut rest = value.len();
        if rest < 127 {
            field.push(u8::try_from(rest).expect("below 127"));
        } else {
            field.push(127);
            rest -= 127;
            while rest >= 128 {
                field.push(u8::try_from(rest % 128 + 128).expect("a byte"));
                rest /= 128;
            }
            field.push(u8::try_from(rest).expect("below 128"));
        }
        field.extend_from_slice(value);
        field
    }

    /// The next frame; `None` at the connection's end or if nothing comes.
    pub async fn next(&mut self, within: Duration) -> Option<Frame> {
        let frame = async {
            let mut head = [0; 9];
            self.socket.read_exact(&mut head).await.ok()?;
            let len = u32::from_be_bytes([0, head[0], head[1], head[2]]);
            let stream = u32::from_be_bytes([head[5], head[6], head[7], head[8]]);
            let mut payload = vec![0; usize::try_from(len).expect("it fits")];
            self.socket.read_exact(&mut payload).await.ok()?;
            Some(Frame { kind: head[3], flags: head[4], stream, payload })
        };
        tokio::time::timeout(within, frame).await.ok().flatten()
    }

    /// Reads on to a frame of this kind; `None` at the connection's end or if none comes.
    pub async fn next_of(&mut self, kind: Kind, within: Duration) -> Option<Frame> {
        loop {
            let frame = self.next(within).await?;
            if frame.kind == kind as u8 {
                return Some(frame);
            }
        }
    }
}
