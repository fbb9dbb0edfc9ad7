//! Frames of HTTP/2 that cost their sender nothing, counted.

use std::num::NonZeroU32;

use crate::rate::Rate;

/// The connection preface, which no frame is.
const PREFACE: u32 = 24;

/// What every frame begins with: length, type, flags, stream.
const HEAD: usize = 9;

const DATA: u8 = 0;
const HEADERS: u8 = 1;
const PING: u8 = 6;
const WINDOW_UPDATE: u8 = 8;
const CONTINUATION: u8 = 9;
const END_STREAM: u8 = 1;
const ACK: u8 = 1;

/// Pings that are free after so many pieces of data, however many more came.
const FREE_PINGS_MAX: u32 = 1_000;

/// How many of them a connection may send in a second, and at once. A proxy whose clients come and go
/// resets streams by the dozen, and some peers measure the way by pings; neither comes near it.
fn rate() -> Rate {
    const PER_SECOND: NonZeroU32 = NonZeroU32::new(200).expect("above zero");
    const BURST: NonZeroU32 = NonZeroU32::new(2_000).expect("above zero");
    Rate::new(PER_SECOND, BURST)
}

/// Follows the frames of a connection by their heads, and counts those that do nothing: pings, settings,
/// resets, priorities, empty data, and types that nobody knows. h2 answers or drops each at once, so they
/// pile up nowhere, but an endless row of them is work for nothing. Requests and their bodies have
/// bounds of their own, and windows are given back by whoever reads. Time is handed in.
#[derive(Debug)]
pub struct FrameMeter {
    rate: Rate,
    full_at: u64,
    head: [u8; HEAD],
    have: usize,
    /// Bytes until the next head.
    skip: u32,
    begun: bool,
    /// Pings that are not counted, where data pays for some.
    free_pings: Option<u32>,
}

impl Default for FrameMeter {
    fn default() -> Self {
        Self::new()
    }
}

impl FrameMeter {
    /// At a connection's beginning.
    #[must_use]
    pub fn new() -> Self {
        Self {
            rate: rate(),
            full_at: 0,
            head: [0; HEAD],
            have: 0,
            skip: PREFACE,
            begun: false,
            free_pings: None,
        }
    }

    /// The same for calls of gRPC, of whose clients some measure the way by a ping whenever they are answered:
    /// as many as there were pieces of data are free.
    #[must_use]
    pub fn of_calls() -> Self {
        Self { free_pings: Some(0), ..Self::new() }
    }

    /// Whether more has come than the preface: the head of the first frame, which is that of settings.
    #[must_use]
    pub fn has_begun(&self) -> bool {
        self.begun
    }

    /// Takes what came, at a time in nanoseconds. False if that is too much of nothing.
    pub fn takes(&mut self, bytes: &[u8], now: u64) -> bool {
        match self.count(bytes) {
            0 => true,
            idle => match self.rate.take(self.full_at, now, idle) {
                Ok((full_at, _)) => {
                    self.full_at = full_at;
                    true
                }
                Err(_) => false,
            },
        }
    }

    fn count(&mut self, mut bytes: &[u8]) -> u32 {
        let mut idle = 0;
        while !bytes.is_empty() {
            if self.skip > 0 {
                let skipped = bytes.len().min(usize::try_from(self.skip).unwrap_or(usize::MAX));
                bytes = &bytes[skipped..];
                self.skip -= u32::try_from(skipped).unwrap_or(self.skip);
                continue;
            }
            let more = bytes.len().min(HEAD - self.have);
            self.head[self.have..self.have + more].copy_from_slice(&bytes[..more]);
            bytes = &bytes[more..];
            self.have += more;
            if self.have == HEAD {
                self.have = 0;
                self.begun = true;
                let [a, b, c, kind, flags, ..] = self.head;
                self.skip = u32::from_be_bytes([0, a, b, c]);
                idle += u32::from(self.is_idle(kind, flags));
            }
        }
        idle
    }

    /// Whether the frame whose head has come does nothing.
    fn is_idle(&mut self, kind: u8, flags: u8) -> bool {
        match (kind, &mut self.free_pings) {
            (HEADERS | WINDOW_UPDATE | CONTINUATION, _) => false,
            (DATA, _) if self.skip == 0 => flags & END_STREAM == 0,
            (DATA, free) => {
                if let Some(free) = free {
                    *free = (*free + 1).min(FREE_PINGS_MAX);
                }
                false
            }
            (PING, Some(free)) if flags & ACK == 0 && *free > 0 => {
                *free -= 1;
                false
            }
            _ => true,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn frame(kind: u8, flags: u8, payload: &[u8]) -> Vec<u8> {
        let len = u32::try_from(payload.len()).expect("short").to_be_bytes();
        let mut frame = vec![len[1], len[2], len[3], kind, flags, 0, 0, 0, 1];
        frame.extend_from_slice(payload);
        frame
    }

    #[test]
    fn only_what_does_nothing_is_counted_however_it_is_cut() {
        let mut bytes = vec![b'P'; PREFACE as usize];
        for (kind, flags, payload) in [
            (4, 0, &[][..]),
            (HEADERS, 5, &[6; 30]),
            (DATA, 0, &[]),
            (DATA, END_STREAM, &[]),
            (DATA, 0, b"\0\0\0\x06"),
            (WINDOW_UPDATE, 0, &[0; 4]),
            (CONTINUATION, 4, &[3; 70]),
            (3, 0, &[0; 4]),
            (PING, 0, &[0; 8]),
            (0xbb, 0, &[1; 300]),
        ] {
            bytes.extend(frame(kind, flags, payload));
        }
        for size in 1..bytes.len() {
            let mut meter = FrameMeter::new();
            let counted: u32 = bytes.chunks(size).map(|part| meter.count(part)).sum();
            assert_eq!(counted, 5, "in parts of {size}");
        }
    }

    #[test]
    fn a_flood_is_too_much_and_a_steady_drip_is_not() {
        let ping = frame(PING, 0, &[0; 8]);
        let mut meter = FrameMeter::new();
        meter.count(&[0; PREFACE as usize]);
        let flooded = (0..10_000).position(|n| !meter.takes(&ping, n * 1_000));
        assert!(flooded.is_some_and(|n| (2_000..2_100).contains(&n)), "{flooded:?}");
        let mut meter = FrameMeter::new();
        meter.count(&[0; PREFACE as usize]);
        assert!((0..10_000).all(|n| meter.takes(&ping, n * 6_000_000)), "fewer than 200 a second");
    }

    #[test]
    fn it_has_begun_with_the_head_of_the_first_frame() {
        let mut meter = FrameMeter::new();
        assert!(meter.takes(&[b'P'; PREFACE as usize], 0) && !meter.has_begun());
        let settings = frame(4, 0, &[0; 6]);
        assert!(meter.takes(&settings[..HEAD - 1], 0) && !meter.has_begun());
        assert!(meter.takes(&settings[HEAD - 1..], 0) && meter.has_begun());
    }

    #[test]
    fn a_ping_for_each_piece_of_data_is_free_where_calls_are_carried() {
        let (ping, data) = (frame(PING, 0, &[0; 8]), frame(DATA, 0, b"an event"));
        let pairs = [&data[..], &ping].concat();
        let mut meter = FrameMeter::of_calls();
        meter.count(&[0; PREFACE as usize]);
        assert!((0..10_000).all(|n| meter.takes(&pairs, n)), "a ping for each piece of data");
        assert_eq!(meter.count(&frame(DATA, 0, &[])), 1, "empty data is none");
        assert_eq!(meter.count(&ping), 1, "and pays for no ping");
        for _ in 0..2 * FREE_PINGS_MAX {
            meter.count(&data);
        }
        let counted: u32 = (0..2 * FREE_PINGS_MAX).map(|_| meter.count(&ping)).sum();
        assert_eq!(counted, FREE_PINGS_MAX, "there is a bound on what is saved up");
        let mut meter = FrameMeter::new();
        meter.count(&[0; PREFACE as usize]);
        assert_eq!(meter.count(&pairs), 1, "where no calls are carried data pays for nothing");
    }
}
