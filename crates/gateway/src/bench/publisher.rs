//! One publisher: a connection, over which events of its streams are sent when they are due.

use std::io;
use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::time::{Instant, sleep_until};

use super::args::Plan;
use super::tally::Tally;
use super::wire::Answer;

/// Publishes the events that are this publisher's, one after the other. Gives how many of each stream were
/// acknowledged, and why it ended early, if it did. One that is held up does not wait longer for it: what is
/// late by then counts as late.
pub(super) async fn publish(
    plan: Arc<Plan>,
    number: u32,
    tally: Arc<Tally>,
    start: Instant,
) -> (Vec<u64>, Option<io::Error>) {
    let mut published = vec![0; plan.streams.len()];
    let result = run(&plan, number, &tally, start, &mut published).await;
    (published, result.err())
}

async fn run(
    plan: &Plan,
    number: u32,
    tally: &Tally,
    start: Instant,
    published: &mut [u64],
) -> io::Result<()> {
    let mut socket = TcpStream::connect(&plan.authority).await?;
    socket.set_nodelay(true)?;
    for event in 0..plan.events {
        let stream = plan.stream_of(event);
        if stream as u64 % u64::from(plan.publishers) != u64::from(number) {
            continue;
        }
        let due = start + plan.pace.mul_f64(as_share(event));
        sleep_until(due).await;
        let data = tally.payload(published[stream] + 1, due, plan.size);
        let (path, host) = (plan.path(stream), &plan.authority);
        let head = format!("POST {path} HTTP/1.1\r\nHost: {host}\r\nContent-Type: text/plain\r\n");
        let request = format!("{head}Content-Length: {}\r\n\r\n{data}", data.len());
        socket.write_all(request.as_bytes()).await?;
        acknowledged(&mut socket).await?;
        tally.acknowledged.add(due.elapsed());
        published[stream] += 1;
    }
    Ok(())
}

#[expect(clippy::cast_precision_loss, reason = "far fewer events than that")]
fn as_share(event: u64) -> f64 {
    event as f64
}

async fn acknowledged(socket: &mut TcpStream) -> io::Result<()> {
    let (mut answer, mut body, mut buffer) = (Answer::default(), Vec::new(), [0; 1 << 10]);
    while !answer.is_complete() {
        let n = socket.read(&mut buffer).await?;
        if n == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
        answer.feed(&buffer[..n], &mut body).map_err(io::Error::other)?;
    }
    match answer.status() {
        Some(200) => Ok(()),
        Some(status) => {
            let body = String::from_utf8_lossy(&body);
            Err(io::Error::other(format!("an event was answered {status}: {}", body.trim())))
        }
        None => Err(io::ErrorKind::InvalidData.into()),
    }
}
