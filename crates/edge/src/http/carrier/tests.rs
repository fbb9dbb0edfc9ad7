//! What hyper does under our hands, pinned byte by byte: `into_parts` is documented for connections that
//! are done, and only what is checked here stands in for that.

use std::convert::Infallible;
use std::future::{Ready, poll_fn, ready};
use std::io;
use std::task::Waker;

use http::{Method, Request, Response, Version};
use http_body_util::BodyExt as _;
use hyper::service::service_fn;
use tokio::io::ReadBuf;

use super::*;

/// How a wire takes what is written to it, one step for each attempt; then everything.
#[derive(Debug, Clone, Copy)]
enum Takes {
    Nothing,
    /// Up to so many bytes.
    Bytes(usize),
    /// All of it, but a flush has to wait.
    ThenFlushesLate,
}

/// A socket that is told what to do.
struct Wire {
    input: Vec<u8>,
    output: Vec<u8>,
    script: Vec<Takes>,
    flush_waits: bool,
}

impl Wire {
    fn new(input: &[u8], script: &[Takes]) -> Self {
        let script = script.iter().rev().copied().collect();
        Self { input: input.to_vec(), output: Vec::new(), script, flush_waits: false }
    }
}

impl AsyncRead for Wire {
    fn poll_read(
        mut self: Pin<&mut Self>,
        _: &mut Poller<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.input.is_empty() {
            // The client waits for us, and has not closed.
            return Poll::Pending;
        }
        let n = self.input.len().min(buf.remaining());
        buf.put_slice(&self.input[..n]);
        self.input.drain(..n);
        Poll::Ready(Ok(()))
    }
}

impl AsyncWrite for Wire {
    fn poll_write(mut self: Pin<&mut Self>, _: &mut Poller<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        let n = match self.script.pop() {
            Some(Takes::Nothing) => return Poll::Pending,
            Some(Takes::Bytes(n)) => n.min(bytes.len()),
            Some(Takes::ThenFlushesLate) => {
                self.flush_waits = true;
                bytes.len()
            }
            None => bytes.len(),
        };
        self.output.extend_from_slice(&bytes[..n]);
        Poll::Ready(Ok(n))
    }

    fn poll_flush(mut self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        if std::mem::take(&mut self.flush_waits) { Poll::Pending } else { Poll::Ready(Ok(())) }
    }

    fn poll_shutdown(self: Pin<&mut Self>, _: &mut Poller<'_>) -> Poll<io::Result<()>> {
        Poll::Ready(Ok(()))
    }
}

/// What was left for the engine.
const STREAM: &str = "the stream";

/// As `stream.rs` does it: the socket is taken for a GET over HTTP/1.1, and for nothing else.
fn answer(request: &Request<Incoming>, handover: &Arc<Handover<&'static str>>) -> Response<Body> {
    let body = match (request.method(), request.version()) {
        (&Method::GET, Version::HTTP_11) => handover.leave(STREAM).boxed_unsync(),
        (&Method::HEAD, _) => crate::http::answer::no_body(),
        _ => http_body_util::Full::new(Bytes::from_static(b"frames"))
            .map_err(|never| match never {})
            .boxed_unsync(),
    };
    let mut answer = Response::new(body);
    answer.headers_mut().insert("content-type", http::HeaderValue::from_static("text/event-stream"));
    answer.headers_mut().insert("connection", http::HeaderValue::from_static("close"));
    answer
}

/// How a connection went: the polls it took, what came of it, what was on the wire by then, and what the
/// parser had read and not used.
struct Course {
    polls: usize,
    taken: Option<&'static str>,
    output: String,
    unread: Vec<u8>,
}

fn serve(input: &[u8], script: &[Takes]) -> Course {
    let handover = Arc::<Handover<&'static str>>::default();
    let service = service_fn(|request: Request<Incoming>| -> Ready<Result<_, Infallible>> {
        ready(Ok(answer(&request, &handover)))
    });
    let mut connection = http1::Builder::new()
        .serve_connection(Watched::new(Wire::new(input, script), Arc::clone(&handover)), service);
    let mut cx = Poller::from_waker(Waker::noop());
    for polls in 1..100 {
        let mut step = poll_fn(|cx| poll_step(&mut connection, &handover, cx));
        let Poll::Ready(step) = Pin::new(&mut step).poll(&mut cx) else { continue };
        let taken = match step {
            Step::Streams(stream) => Some(stream),
            Step::Over(over) => {
                over.expect("no error");
                None
            }
        };
        let parts = connection.into_parts();
        let output = String::from_utf8(parts.io.into_inner().output).expect("text");
        return Course { polls, taken, output: without_date(&output), unread: parts.read_buf.to_vec() };
    }
    panic!("neither over nor taken");
}

/// A date has a length of its own, and that is all that can be said of it.
fn without_date(output: &str) -> String {
    let at = output.find("date: ").expect("a date");
    let end = at + output[at..].find("\r\n").expect("a line");
    assert_eq!(end - at, "date: Wed, 25 Nov 2026 01:02:03 GMT".len(), "{output}");
    format!("{}date: D{}", &output[..at], &output[end..])
}

const GET: &[u8] = b"GET /v1/streams/s/events HTTP/1.1\r\nhost: x\r\n\r\n";

/// All that is ours begins directly behind this.
const HEAD: &str = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\
                    transfer-encoding: chunked\r\ndate: D\r\n\r\n";

#[test]
fn the_socket_is_taken_when_the_head_is_written_and_nothing_else() {
    let course = serve(GET, &[]);
    assert_eq!((course.polls, course.taken, course.output.as_str()), (1, Some(STREAM), HEAD));
    assert!(course.unread.is_empty());
}

/// Once or twice in a hundred thousand connections a socket takes nothing at first. The head is still
/// hyper's then, and taking the socket would lose it.
#[test]
fn a_socket_that_takes_the_head_late_or_in_pieces_is_not_taken_before() {
    let byte_by_byte = [Takes::Bytes(1), Takes::Nothing].repeat(20);
    for script in [
        &[Takes::Nothing][..],
        &[Takes::Nothing, Takes::Nothing, Takes::Bytes(7), Takes::Nothing],
        &[Takes::Bytes(1), Takes::Nothing],
        &[Takes::Bytes(HEAD.len()), Takes::Nothing],
        &[Takes::ThenFlushesLate],
        &byte_by_byte,
    ] {
        let course = serve(GET, script);
        let waits = script.iter().filter(|step| !matches!(step, Takes::Bytes(_))).count();
        assert_eq!((course.taken, course.output.as_str()), (Some(STREAM), HEAD), "{script:?}");
        assert_eq!(course.polls, 1 + waits, "{script:?}");
    }
}

/// What comes behind the request is never answered, and never gets into the stream.
#[test]
fn pipelined_bytes_are_left_over() {
    for behind in [GET, b"\r\n", b"nonsense", b"GET / HTTP/1.1\r\nhost: x\r\ncontent-length: 3\r\n\r\nabc"] {
        for script in [&[][..], &[Takes::Nothing]] {
            let course = serve(&[GET, behind].concat(), script);
            assert_eq!((course.taken, course.output.as_str()), (Some(STREAM), HEAD), "{behind:?}");
            assert_eq!(course.unread, behind);
        }
    }
}

#[test]
fn head_and_http_1_0_stay_with_hyper_to_their_end() {
    for script in [&[][..], &[Takes::Nothing], &[Takes::Bytes(5), Takes::Nothing]] {
        let head = serve(b"HEAD /v1/streams/s/events HTTP/1.1\r\nhost: x\r\n\r\n", script);
        assert_eq!(head.taken, None);
        let expected = "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\
                        date: D\r\n\r\n";
        assert_eq!(head.output, expected);

        let old = serve(b"GET /v1/streams/s/events HTTP/1.0\r\nhost: x\r\n\r\n", script);
        assert_eq!(old.taken, None);
        assert!(old.output.starts_with("HTTP/1.0 200 OK\r\n"), "{}", old.output);
        assert!(old.output.ends_with("\r\n\r\nframes"), "no chunks: {}", old.output);
    }
}
