//! Thousands of pages in one process, each as lean as it can be: the machine is the server's, too.
//!
//! Each crowd has threads of its own, so that those who come back do not hold up those who only listen,
//! other than on the processor. A page comes back by itself, with its last id, to the edge that it is told
//! to; it notes what it received and when, and feeds the ledger afterwards.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};

use evergate_tests::frame::{Frame, FrameParser, Item};
use evergate_tests::ledger::Ledger;
use evergate_tests::offset::Offset;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::runtime::Runtime;
use tokio::task::JoinSet;

/// An event is `<number> <microseconds since the beginning>`: it names itself, and says when it was sent.
pub(crate) fn text(number: usize, sent: u64) -> String {
    format!("{number} {sent}")
}

/// What everybody looks at.
pub(crate) struct Scene {
    pub(crate) begun: Instant,
    /// Streams that are open now.
    pub(crate) live: AtomicUsize,
    /// Events that came, over all pages.
    pub(crate) received: AtomicUsize,
    /// Answers that asked to come back.
    pub(crate) busy: AtomicUsize,
    /// Connects that failed, before or after the fault.
    pub(crate) failed: AtomicUsize,
}

impl Scene {
    pub(crate) fn new() -> Arc<Self> {
        let count = AtomicUsize::default;
        Arc::new(Self {
            begun: Instant::now(),
            live: count(),
            received: count(),
            busy: count(),
            failed: count(),
        })
    }

    /// Microseconds since the beginning.
    pub(crate) fn now(&self) -> u64 {
        u64::try_from(self.begun.elapsed().as_micros()).expect("a drill is short")
    }
}

/// One page, and what it has noted.
#[derive(Debug, Default)]
pub(crate) struct Page {
    name: String,
    last_id: String,
    retry: Duration,
    /// Where it was told to be, and the moment: first when it began, then at each return.
    pub(crate) opened: Vec<(Offset, u64)>,
    pub(crate) received: Vec<Receipt>,
}

/// An event as it came.
#[derive(Debug)]
pub(crate) struct Receipt {
    pub(crate) at: Offset,
    text: String,
    /// When it was sent, and when it came.
    pub(crate) sent: u64,
    pub(crate) came: u64,
}

/// Pages that read until they are told to stop.
pub(crate) struct Crowd {
    threads: Option<Runtime>,
    pages: JoinSet<()>,
    notes: Arc<Mutex<Vec<Page>>>,
    stop: tokio::sync::watch::Sender<bool>,
}

impl Crowd {
    pub(crate) fn new() -> Self {
        let threads = tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build();
        Self {
            threads: Some(threads.expect("threads can be had")),
            pages: JoinSet::new(),
            notes: Arc::default(),
            stop: tokio::sync::watch::Sender::new(false),
        }
    }

    /// One more page. It goes to `first`, and ever after to `then`.
    pub(crate) fn join(&mut self, scene: &Arc<Scene>, name: String, first: SocketAddr, then: SocketAddr) {
        let (scene, notes, mut stop) = (Arc::clone(scene), Arc::clone(&self.notes), self.stop.subscribe());
        let threads = self.threads.as_ref().expect("until it ends").handle();
        let page = async move {
            let mut page = Page { name, retry: Duration::from_millis(100), ..Page::default() };
            tokio::select! {
                () = page.read_for_ever(&scene, first, then) => {}
                _ = stop.wait_for(|stop| *stop) => {}
            }
            notes.lock().expect("nobody panicked with it").push(page);
        };
        self.pages.spawn_on(page, threads);
    }

    /// What was wrong, if a page has met something that must not be.
    pub(crate) fn check(&mut self) {
        if let Some(ended) = self.pages.try_join_next() {
            ended.expect("a page found something wrong");
            panic!("a page went home early");
        }
    }

    /// Ends all pages, and gives what they have noted.
    pub(crate) async fn end(mut self) -> Vec<Page> {
        self.stop.send_replace(true);
        while let Some(ended) = self.pages.join_next().await {
            ended.expect("a page found nothing wrong");
        }
        if let Some(threads) = self.threads.take() {
            threads.shutdown_background();
        }
        std::mem::take(&mut *self.notes.lock().expect("nobody panicked with it"))
    }
}

impl Page {
    async fn read_for_ever(&mut self, scene: &Scene, first: SocketAddr, then: SocketAddr) {
        let mut to = first;
        loop {
            let before = self.opened.len();
            if self.read(scene, to).await.is_err() {
                scene.failed.fetch_add(1, Ordering::Relaxed);
            }
            if self.opened.len() > before {
                scene.live.fetch_sub(1, Ordering::Relaxed);
                to = then;
            }
            tokio::time::sleep(self.retry).await;
        }
    }

    /// Until the stream ends or breaks.
    async fn read(&mut self, scene: &Scene, to: SocketAddr) -> std::io::Result<()> {
        let mut socket = TcpStream::connect(to).await?;
        let mut request = format!("GET /v1/streams/s/events HTTP/1.1\r\nHost: {to}\r\n");
        if !self.last_id.is_empty() {
            request.push_str(&format!("Last-Event-ID: {}\r\n", self.last_id));
        }
        request.push_str("\r\n");
        socket.write_all(request.as_bytes()).await?;
        let (mut unread, mut headed) = (Vec::with_capacity(1024), false);
        let mut parser = FrameParser::new();
        loop {
            let mut bytes = [0; 2048];
            let n = socket.read(&mut bytes).await?;
            if n == 0 {
                return Ok(());
            }
            let came = scene.now();
            unread.extend_from_slice(&bytes[..n]);
            let mut from = 0;
            while let Some(n) = unread[from..].iter().position(|&byte| byte == b'\n') {
                let line = &unread[from..=from + n];
                from += n + 1;
                if let Some(line) = line.strip_suffix(b"\r\n") {
                    // The head, and the lines between chunks: the stream itself has no CR.
                    if !headed {
                        assert!(line.starts_with(b"HTTP/1.1 200"), "{}", String::from_utf8_lossy(line));
                        headed = true;
                    }
                } else {
                    parser.feed(line);
                }
            }
            unread.drain(..from);
            while let Some(item) = parser.item().unwrap_or_else(|wrong| panic!("{}: {wrong}", self.name)) {
                if let Item::Frame(frame) = item {
                    self.take(scene, frame, came);
                }
            }
        }
    }

    fn take(&mut self, scene: &Scene, frame: Frame, came: u64) {
        match frame.event.as_deref() {
            Some("evergate.open") => {
                let resume = if self.last_id.is_empty() { "live" } else { "exact" };
                assert_eq!(frame.json()["resume"], resume, "{}: {}", self.name, frame.data);
                self.opened.push((frame.offset(), came));
                scene.live.fetch_add(1, Ordering::Relaxed);
            }
            Some("evergate.busy") => drop(scene.busy.fetch_add(1, Ordering::Relaxed)),
            Some(other) => panic!("{} is told {other}: {}", self.name, frame.data),
            None => {
                let sent = frame.data.split(' ').next_back().and_then(|sent| sent.parse().ok());
                let sent = sent.expect("it says when it was sent");
                let at = frame.offset();
                self.received.push(Receipt { at, text: frame.data, sent, came });
                scene.received.fetch_add(1, Ordering::Relaxed);
            }
        }
        if let Some(id) = frame.id {
            self.last_id = id;
        }
        if let Some(ms) = frame.retry {
            self.retry = Duration::from_millis(ms);
        }
    }

    /// Tells the ledger everything, in the order in which it happened.
    pub(crate) fn tell(&self, ledger: &mut Ledger) {
        let mut opened = self.opened.iter().peekable();
        if let Some((begin, _)) = opened.next() {
            ledger.subscribed(&self.name, "s", *begin);
        }
        for receipt in &self.received {
            while let Some((at, _)) = opened.next_if(|(_, when)| *when < receipt.came) {
                ledger.resumed(&self.name, "s", *at);
            }
            ledger.received(&self.name, "s", receipt.at, &receipt.text);
        }
        opened.for_each(|(at, _)| ledger.resumed(&self.name, "s", *at));
    }
}
