//! Streams of several levels in one log, and processes that disagree about them.

use std::time::Duration;

use evergate_domain::{EventDraft, Level, Retention, StreamLevels, StreamName, StreamPolicies};

use super::super::testing::{Server, clock, log, until};
use super::super::{RedisLog, RedisOptions};
use crate::{AppendError, EventLog as _, ReadLimit, TailItem};

fn stream(name: &str) -> StreamName {
    StreamName::new(name).expect("valid")
}

fn one(text: &str) -> Vec<EventDraft> {
    vec![EventDraft::new(text)]
}

/// `HOME` but for some.
fn options(server: &Server, named: &[(&str, Level)]) -> RedisOptions {
    let mut levels = StreamLevels::all(Level::Home);
    for (pattern, level) in named {
        levels.named.insert(pattern.parse::<evergate_domain::StreamPattern>().expect("valid"), *level);
    }
    RedisOptions { levels, ..RedisOptions::new(server.url()) }
}

async fn opened(options: RedisOptions) -> std::sync::Arc<RedisLog> {
    log(options, StreamPolicies::open(Retention::FOREVER), clock()).await
}

/// Counts, and no times: what waits for a replica gets no answer as long as there is none, and what
/// does not gets a hundred meanwhile. Behind a `WAIT` each of them would take half a second.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_replica_confirms_holds_up_nothing_else() {
    let server = Server::start().await;
    let replica = server.replica().await;
    let log = opened(options(&server, &[("order*", Level::Replicated)])).await;
    let (quote, order) = (stream("quote"), stream("order.1"));
    assert_eq!((log.level(&quote), log.level(&order)), (Level::Home, Level::Replicated));
    log.append(&quote, one("a")).await.expect("appends");
    log.append(&order, one("a")).await.expect("a replica confirms it");

    replica.signal(rustix::process::Signal::STOP);
    let waiting = tokio::spawn({
        let (log, order) = (log.clone(), order.clone());
        async move { log.append(&order, one("b")).await }
    });
    until("it is written", || async {
        let tail: Option<String> =
            server.ask(&["HGET", &super::super::keys::Keys::of(&order).meta(), "tail"]).await.expect("asks");
        tail.as_deref() == Some("2")
    })
    .await;
    for n in 0..100 {
        log.append(&quote, one(&n.to_string())).await.expect("needs no replica");
    }
    assert!(!waiting.is_finished(), "nobody confirmed it");
    let seen = log.status(&order).await.expect("tells").tail;
    assert_eq!(seen.seq.get(), 1, "it is shown to nobody");
    replica.signal(rustix::process::Signal::CONT);
    let placed = waiting.await.expect("ends").expect("the replica is back");
    assert_eq!(placed[0].offset.seq.get(), 2);
    log.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_stream_keeps_the_level_at_which_it_was_made() {
    let server = Server::start().await;
    let _replica = server.replica().await;
    let first = opened(options(&server, &[("order", Level::Replicated)])).await;
    first.append(&stream("quote"), one("a")).await.expect("appends");
    first.append(&stream("order"), one("a")).await.expect("appends");
    assert_eq!(first.troubles(), Vec::<String>::new());

    // Another process wants it the other way round.
    let other = opened(options(&server, &[("quot*", Level::Replicated)])).await;
    let refused = other.append(&stream("quote"), one("b")).await.expect_err("less safe than is configured");
    let AppendError::OtherLevel { made: Level::Home, configured: Level::Replicated, .. } = refused else {
        panic!("{refused}")
    };
    assert_eq!(refused.retry(), crate::Retry::Never);
    assert_eq!(other.level(&stream("quote")), Level::Home, "nobody is promised more than there is");
    let again = other.append(&stream("quote"), one("b")).await;
    assert!(matches!(again, Err(AppendError::OtherLevel { .. })), "{again:?}");
    other.append(&stream("order"), one("b")).await.expect("safer than is configured");
    assert_eq!(other.level(&stream("order")), Level::Replicated);
    other.append(&stream("order"), one("c")).await.expect("over the link for that");
    let told = other.troubles().join("; ");
    assert!(
        told.contains("the stream order was made at REPLICATED, and HOME is configured: it stays"),
        "{told}"
    );
    assert!(told.contains("the stream quote was made at HOME, and REPLICATED is configured: pub"), "{told}");

    // Nothing came of what was refused, and the first process goes on.
    first.append(&stream("quote"), one("c")).await.expect("appends");
    let all = ReadLimit { events: 10, bytes: 1000 };
    let page = first.read(&stream("quote"), evergate_domain::Offset::BEGINNING, all).await.expect("reads");
    let crate::Page::Events { events, .. } = page else { panic!("{page:?}") };
    assert_eq!(events.iter().map(|event| event.data.as_str()).collect::<Vec<_>>(), ["a", "c"]);
    first.close().await;
    other.close().await;
}

#[tokio::test]
async fn a_stream_that_is_named_at_another_level_is_told_at_the_start() {
    let server = Server::start().await;
    let first = opened(options(&server, &[])).await;
    first.append(&stream("quote"), one("a")).await.expect("appends");
    first.close().await;
    let wanted = options(&server, &[("quote", Level::Replicated), ("unknown", Level::Replicated)]);
    let refused = RedisLog::open(wanted, std::sync::Arc::default(), clock()).await.err().expect("refused");
    assert_eq!(
        refused.to_string(),
        "the stream quote was made at HOME, and REPLICATED is configured for it; a stream keeps its level, so configure that, or take another name"
    );
    opened(options(&server, &[("quote", Level::Home)])).await.close().await;
}

/// What `HOME` may have lost is told for ever, whatever is configured later.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_follower_over_a_crash_is_told_although_another_level_is_configured_since() {
    let server = Server::start_durable().await;
    let name = stream("quote");
    let log = opened(options(&server, &[])).await;
    let start = log.append(&name, one("a")).await.expect("appends")[0].offset;
    log.close().await;
    server.kill();
    server.run().await;
    let log = opened(options(&server, &[("quot*", Level::Replicated)])).await;
    let refused = log.append(&name, one("b")).await;
    assert!(matches!(refused, Err(AppendError::OtherLevel { .. })), "{refused:?}");
    let log_at_home = opened(options(&server, &[])).await;
    log_at_home.append(&name, one("b")).await.expect("appends");
    let all = ReadLimit { events: 10, bytes: 1000 };
    for log in [&log, &log_at_home] {
        let page = log.read(&name, start, all).await.expect("reads");
        assert!(matches!(page, crate::Page::Gap(_)), "{page:?}");
    }
    let mut tail = log.follow(&name).await.expect("follows");
    log_at_home.append(&name, one("c")).await.expect("appends");
    let heard = tokio::time::timeout(Duration::from_secs(20), tail.next()).await.expect("hears");
    assert!(matches!(heard, TailItem::Events(_)), "{heard:?}");
    log.close().await;
    log_at_home.close().await;
}
