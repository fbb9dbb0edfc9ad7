//! A stream's outlet whose client gives room as a test wants.

use std::sync::Arc;
use std::task::{Context, Waker};

use bytes::Bytes;
use evergate_fanout::Outlet;
use parking_lot::Mutex;

/// How a stream was ended from the server's side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Ended {
    Clean,
    Reset,
}

#[derive(Default)]
struct State {
    window: usize,
    body: Vec<u8>,
    sends: usize,
    asks: usize,
    gone: bool,
    ended: Option<Ended>,
    waker: Option<Waker>,
}

/// The server's end.
pub(crate) struct Pipe(Arc<Mutex<State>>);

/// The client's end.
pub(crate) struct Client(Arc<Mutex<State>>);

pub(crate) fn pipe(window: usize) -> (Pipe, Client) {
    let state = Arc::new(Mutex::new(State { window, ..State::default() }));
    (Pipe(Arc::clone(&state)), Client(state))
}

impl Client {
    /// Gives room for more.
    pub(crate) fn grant(&self, bytes: usize) {
        let waker = {
            let mut state = self.0.lock();
            state.window += bytes;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Goes.
    pub(crate) fn leave(&self) {
        let waker = {
            let mut state = self.0.lock();
            state.gone = true;
            state.waker.take()
        };
        if let Some(waker) = waker {
            waker.wake();
        }
    }

    /// Takes what came.
    pub(crate) fn read(&self) -> Vec<u8> {
        std::mem::take(&mut self.0.lock().body)
    }

    pub(crate) fn ended(&self) -> Option<Ended> {
        self.0.lock().ended
    }

    /// How often it was sent something.
    pub(crate) fn sends(&self) -> usize {
        self.0.lock().sends
    }

    /// How often it was asked for room, or whether it is there.
    pub(crate) fn asks(&self) -> usize {
        self.0.lock().asks
    }
}

impl Outlet for Pipe {
    fn room(&mut self, wanted: usize, cx: &mut Context<'_>) -> Option<usize> {
        let mut state = self.0.lock();
        state.asks += 1;
        state.waker = Some(cx.waker().clone());
        (!state.gone).then(|| state.window.min(wanted))
    }

    fn send(&mut self, bytes: Bytes, last: bool) {
        let mut state = self.0.lock();
        assert!(bytes.len() <= state.window, "sent without room");
        assert!(state.ended.is_none() && (last || !bytes.is_empty()));
        state.window -= bytes.len();
        state.sends += 1;
        state.body.extend_from_slice(&bytes);
        state.ended = last.then_some(Ended::Clean);
    }

    fn reset(self) {
        self.0.lock().ended.get_or_insert(Ended::Reset);
    }
}
