//! One subscriber: a connection, and an account of what came over it.

use std::io;
use std::sync::Arc;
use std::sync::atomic::Ordering;

use evergate_domain::sse;
use tokio::io::AsyncWriteExt as _;
use tokio::net::TcpStream;
use tokio::sync::OwnedSemaphorePermit;

use super::args::Plan;
use super::tally::Tally;
use super::wire::Answer;

/// The longest event that is read.
const EVENT_MAX: usize = 1 << 20;

/// Follows a stream until the connection ends, which counts as a failure. `opening` is given back once
/// the stream is open. Cancel-safe, for what was counted stays counted.
pub(super) async fn follow(plan: Arc<Plan>, stream: usize, tally: Arc<Tally>, opening: OwnedSemaphorePermit) {
    // What the error was is the server's log to tell; here it counts.
    let _: io::Result<()> = read(&plan, stream, &tally, opening).await;
    tally.lost_connections.fetch_add(1, Ordering::Relaxed);
}

async fn read(plan: &Plan, stream: usize, tally: &Tally, opening: OwnedSemaphorePermit) -> io::Result<()> {
    let mut socket = TcpStream::connect(&plan.authority).await?;
    let (path, host) = (plan.path(stream), &plan.authority);
    let request = format!("GET {path} HTTP/1.1\r\nHost: {host}\r\nAccept: text/event-stream\r\n\r\n");
    socket.write_all(request.as_bytes()).await?;
    let (mut answer, mut decoder) = (Answer::default(), sse::Decoder::new(EVENT_MAX, ""));
    let (mut data, mut items, mut last, mut opening) = (Vec::new(), Vec::new(), 0, Some(opening));
    loop {
        socket.readable().await?;
        if !take(&socket, &mut answer, &mut data, tally)? {
            continue;
        }
        if answer.status().is_some_and(|status| status != 200) || answer.is_complete() {
            return Err(io::ErrorKind::InvalidData.into());
        }
        decoder.feed(&data, &mut items).map_err(io::Error::other)?;
        data.clear();
        for item in items.drain(..) {
            let sse::Item::Message(message) = item else { continue };
            match message.kind.as_str() {
                "message" => tally.take(&message.data, &mut last),
                "evergate.open" if opening.take().is_some() => {
                    tally.opened.fetch_add(1, Ordering::Relaxed);
                }
                "evergate.gap" => {
                    tally.gaps.fetch_add(1, Ordering::Relaxed);
                }
                // `evergate.busy` is followed by the end, and the rest is no news.
                _ => {}
            }
        }
    }
}

/// Reads what is there. False if nothing was.
fn take(socket: &TcpStream, answer: &mut Answer, data: &mut Vec<u8>, tally: &Tally) -> io::Result<bool> {
    // Not held over a wait: there are thousands of these tasks.
    let mut buffer = [0; 8 << 10];
    match socket.try_read(&mut buffer) {
        Ok(0) => Err(io::ErrorKind::UnexpectedEof.into()),
        Ok(n) => {
            tally.bytes.fetch_add(n as u64, Ordering::Relaxed);
            answer.feed(&buffer[..n], data).map_err(io::Error::other)?;
            Ok(true)
        }
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(false),
        Err(error) => Err(error),
    }
}
