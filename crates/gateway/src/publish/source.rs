//! Standard input, line by line.

use std::io::{BufRead, Read};

use tokio::sync::mpsc;

/// Longer than any event the server takes, even with every character escaped.
const LINE_BYTES_MAX: u64 = 8 << 20;
/// Lines read ahead. With the queue full the reader waits, and so does whoever writes to us.
const AHEAD_MAX: usize = 64;

/// A line without its line end, numbered from one; or why there are no more.
pub(crate) type Line = Result<(u64, String), String>;

/// Reads standard input on a thread of its own: a read of a terminal cannot be cancelled, so
/// nobody waits for this thread. It ends with its input, with the receiver, or with the process.
pub(crate) fn lines() -> mpsc::Receiver<Line> {
    let (sender, receiver) = mpsc::channel(AHEAD_MAX);
    std::thread::spawn(move || {
        let mut input = std::io::stdin().lock();
        for number in 1.. {
            match read_line(&mut input, number) {
                Ok(Some(line)) => {
                    if sender.blocking_send(Ok((number, line))).is_err() {
                        return;
                    }
                }
                Ok(None) => return,
                Err(why) => {
                    // Whoever is gone does not want to know either.
                    let _ = sender.blocking_send(Err(why));
                    return;
                }
            }
        }
    });
    receiver
}

/// `None` at the end of the input.
fn read_line(input: &mut impl BufRead, number: u64) -> Result<Option<String>, String> {
    let mut bytes = Vec::new();
    let read = input
        .take(LINE_BYTES_MAX)
        .read_until(b'\n', &mut bytes)
        .map_err(|error| format!("line {number}: cannot read standard input: {error}"))?;
    if read == 0 {
        return Ok(None);
    }
    if bytes.last() == Some(&b'\n') {
        bytes.pop();
        if bytes.last() == Some(&b'\r') {
            bytes.pop();
        }
    } else if bytes.len() as u64 == LINE_BYTES_MAX {
        return Err(format!("line {number}: longer than {LINE_BYTES_MAX} bytes"));
    }
    String::from_utf8(bytes).map(Some).map_err(|_| format!("line {number}: not UTF-8 text"))
}

#[cfg(test)]
mod tests {
    #![allow(clippy::unwrap_used, reason = "a test fails by panicking")]
    use super::*;

    fn read(mut input: &[u8]) -> Vec<Result<String, String>> {
        let mut lines = Vec::new();
        for number in 1.. {
            match read_line(&mut input, number).transpose() {
                Some(line) => lines.push(line),
                None => break,
            }
        }
        lines
    }

    #[test]
    fn lines_end_as_they_do_anywhere_and_the_last_need_not() {
        let lines: Vec<_> = read(b"a\r\n\n b \nlast").into_iter().map(Result::unwrap).collect();
        assert_eq!(lines, ["a", "", " b ", "last"]);
        assert!(read(b"").is_empty());
    }

    #[test]
    fn what_is_no_text_or_too_long_is_told_by_its_line() {
        assert_eq!(read(b"a\n\xff\nb")[1], Err("line 2: not UTF-8 text".to_owned()));
        let long = vec![b'x'; usize::try_from(LINE_BYTES_MAX).unwrap() + 1];
        let mut input = &long[..];
        let error = read_line(&mut input, 1).unwrap_err();
        assert_eq!(error, "line 1: longer than 8388608 bytes");
    }
}
