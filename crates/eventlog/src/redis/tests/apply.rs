//! One log copied into another, event by event or in any portions, and what is no copy refused.

use evergate_domain::{ProducerId, ProducerSeq, Retention, Seq};
use redis::cmd;

use super::super::testing::clock;
use super::super::{library, reply};
use super::*;

const EVENTS: usize = 40;

/// An entry as it is stored: its offset, its time, and the event's text.
type Entry = (Offset, String, String);

async fn entries(server: &Server, keys: &Keys) -> Vec<Entry> {
    let all: Vec<(String, Vec<String>)> =
        server.ask(&["XRANGE", &keys.log(), "-", "+"]).await.expect("reads");
    all.into_iter()
        .map(|(id, fields)| (id.parse().expect("an offset"), fields[1].clone(), fields[3].clone()))
        .collect()
}

struct Copy {
    server: Server,
    keys: Keys,
    epoch: u64,
}

impl Copy {
    /// An empty log whose gate is open under this epoch.
    async fn new(keys: &Keys, epoch: u64) -> Self {
        let server = Server::start().await;
        let mut connection = server.connect().await.expect("connects");
        library::ensure(&mut connection, library::LOADED_KEY).await.expect("loads");
        let record = keys.slot.record();
        let opened: Vec<String> = server
            .ask(&["FCALL", "evergate_1_open", "1", &record, "0", &epoch.to_string(), "token"])
            .await
            .expect("opens");
        assert_eq!(opened[0], "OPEN");
        Self { server, keys: keys.clone(), epoch }
    }

    /// Applies entries behind `before`; returns the answer's words.
    async fn apply(&self, before: Offset, entries: &[Entry], hwm: u64) -> redis::RedisResult<Vec<String>> {
        let keys = &self.keys;
        let mut apply = cmd("FCALL");
        apply.arg("evergate_1_apply").arg(7).arg(keys.slot.record()).arg(keys.slot.streams());
        apply.arg(keys.meta()).arg(keys.log()).arg(keys.index()).arg(keys.producers()).arg(keys.recent());
        apply.arg(self.epoch).arg("token").arg(1).arg(hwm).arg("").arg("").arg(keys.channel(0));
        apply.arg(keys.stream().as_str()).arg(before.epoch.get()).arg(before.seq.get());
        for (offset, time, event) in entries {
            apply.arg(offset.epoch.get()).arg(offset.seq.get()).arg(time).arg(1).arg(event);
        }
        let mut connection = self.server.connect().await?;
        let answer: redis::Value = apply.query_async(&mut connection).await?;
        Ok(reply::words(answer).expect("words"))
    }

    async fn entries(&self) -> Vec<Entry> {
        entries(&self.server, &self.keys).await
    }
}

/// A stream with three epochs, of a producer that numbers its events.
async fn original(name: &StreamName) -> (Server, Vec<Entry>) {
    let server = Server::start().await;
    let log = log(server.options(Level::Home), StreamPolicies::open(Retention::FOREVER), clock()).await;
    for n in 1..=EVENTS as u64 {
        if n == 15 || n == 30 {
            reader::take_over(&log.shared, Keys::of(name).slot).await.expect("opens a new epoch");
        }
        let producer =
            ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: Seq::new(n).expect("fits") };
        let draft = EventDraft { producer: Some(producer), ..EventDraft::new(format!("event {n}")) };
        log.append(name, vec![draft]).await.expect("appends");
    }
    log.close().await;
    let all = entries(&server, &Keys::of(name)).await;
    assert_eq!(all.len(), EVENTS);
    (server, all)
}

#[tokio::test]
async fn a_copy_holds_the_same_under_the_same_offsets() {
    let name = StreamName::new("copied").expect("valid");
    let (_original, all) = original(&name).await;
    let copy = Copy::new(&Keys::of(&name), all[EVENTS - 1].0.epoch.get() + 1).await;
    // In portions that overlap what is there already, up to all of it.
    let mut have = 0;
    while have < EVENTS {
        let from = fastrand::usize(0..=have);
        let to = fastrand::usize(have..=EVENTS);
        let before = if from == 0 { Offset::BEGINNING } else { all[from - 1].0 };
        let words = copy.apply(before, &all[from..to], 7).await.expect("applies");
        have = have.max(to);
        let tail = if have == 0 { "0-0".to_owned() } else { all[have - 1].0.to_string() };
        assert_eq!(words, ["OK", &tail, &have.min(7).to_string()], "{from}..{to}");
    }
    assert_eq!(copy.entries().await, all);

    // Readers see what is committed, and a retry finds its first attempt.
    let log = copy.server.log(Level::Replicated).await;
    let limit = ReadLimit { events: 100, bytes: 1 << 20 };
    let page = log.read(&name, Offset::BEGINNING, limit).await.expect("reads");
    let Page::Events { events, .. } = page else { panic!("{page:?}") };
    assert_eq!(
        events.iter().map(|event| event.offset).collect::<Vec<_>>(),
        all[..7].iter().map(|e| e.0).collect::<Vec<_>>()
    );
    assert_eq!(events[6].data, "event 7");
    log.close().await;
    let log = log_at_home(&copy.server).await;
    let producer = ProducerSeq { id: ProducerId::new("p").expect("valid"), seq: Seq::new(5).expect("fits") };
    let again = EventDraft { producer: Some(producer), ..EventDraft::new("event 5") };
    let _ = copy.apply(all[EVENTS - 1].0, &[], EVENTS as u64).await.expect("commits");
    let placed = log.append(&name, vec![again]).await.expect("is known");
    assert_eq!(placed, [Placed { offset: all[4].0, duplicate: true }]);
    log.close().await;
}

async fn log_at_home(server: &Server) -> Arc<RedisLog> {
    server.log(Level::Home).await
}

#[tokio::test]
async fn a_hole_or_a_fork_is_never_taken() {
    let name = StreamName::new("forked").expect("valid");
    let (_original, all) = original(&name).await;
    let copy = Copy::new(&Keys::of(&name), all[EVENTS - 1].0.epoch.get() + 1).await;
    copy.apply(Offset::BEGINNING, &all[..20], 20).await.expect("applies");
    let there = copy.entries().await;
    let tail = all[19].0.to_string();

    // A hole.
    assert_eq!(copy.apply(all[21].0, &all[22..], 0).await.expect("answers")[..2], ["PREV", &tail]);
    // The predecessor has the right sequence and another epoch.
    let elsewhere = Offset::new(all[0].0.epoch, all[19].0.seq);
    assert_eq!(copy.apply(elsewhere, &all[20..], 0).await.expect("answers")[..2], ["FORK", &tail]);
    // What is there has another epoch, and so has everything behind it.
    let mut fork = all.clone();
    for entry in &mut fork[17..] {
        entry.0 = Offset::new(all[EVENTS - 1].0.epoch, entry.0.seq);
    }
    assert_eq!(copy.apply(all[16].0, &fork[17..], 0).await.expect("answers")[..2], ["FORK", &tail]);
    // No run of events at all: back in epochs, or with a hole of its own.
    let back =
        [all[20].clone(), (Offset::new(all[0].0.epoch, all[21].0.seq), "1".to_owned(), "x".to_owned())];
    copy.apply(all[19].0, &back, 0).await.expect_err("epochs only rise");
    copy.apply(all[19].0, &[all[20].clone(), all[22].clone()], 0).await.expect_err("sequences are dense");
    assert_eq!(copy.entries().await, there, "nothing of it was taken");

    // Under another's gate nothing is.
    let other = Copy { epoch: copy.epoch + 1, ..copy };
    assert_eq!(other.apply(all[19].0, &all[20..], 0).await.expect("answers")[0], "FENCED");
    assert_eq!(other.entries().await, there);
}
