//! What a client is left when its edge ends: a while in which it can open another stream first.

use std::time::Duration;

use evergate_tests::frame::Item;
use evergate_tests::http1::Request;
use evergate_tests::http2;
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::{End, Next, Subscription};

const EVENTS: &str = "/v1/streams/quote/events";
const PUBLISH_EVERY: Duration = Duration::from_millis(20);

/// Ids of the events that came before the news, and after it.
#[derive(Debug)]
struct Told {
    before: Vec<String>,
    after: Vec<String>,
}

/// Reads to the end, from behind this id; runs `on_news` when the news comes.
async fn read(stream: &mut Subscription, last_id: String, mut on_news: impl AsyncFnMut(&str)) -> Told {
    let (mut told, mut news) = (Told { before: vec![last_id], after: Vec::new() }, 0);
    loop {
        match stream.next().await {
            Next::Item(Item::Frame(frame)) if frame.is_event() => {
                let into = if news == 0 { &mut told.before } else { &mut told.after };
                into.push(frame.must_id().to_owned());
            }
            Next::Item(Item::Frame(frame)) => {
                assert_eq!(frame.event.as_deref(), Some("evergate.goaway"), "{frame:?}");
                assert_eq!(frame.json()["reason"], "shutdown");
                assert!(frame.retry.is_some(), "{frame:?}");
                news += 1;
                on_news(told.before.last().expect("the first")).await;
            }
            Next::Item(Item::Comment(_) | Item::Retry(_)) => {}
            Next::End(end) => {
                assert_eq!((news, end), (1, End::Clean));
                return told;
            }
        }
    }
}

#[tokio::test]
async fn events_go_on_between_the_news_and_the_end_over_every_version_of_http() {
    let test = "events_go_on_between_the_news_and_the_end";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let leaving = redis.options().set("shutdown.drain", "2s").set("shutdown.lead", "1500ms");
    let (here, there) = (Evergate::start(leaving).await, Evergate::start(redis.options()).await);
    let publisher = Publisher::connect(there.grpc()).await;
    let mut client = http2::Client::open(here.http()).await;
    let mut streams = vec![
        Subscription::open(here.http(), EVENTS).await,
        Subscription::request(here.http(), &Request::get(EVENTS).header("Accept-Encoding", "gzip")).await,
        Subscription::request(here.http(), &Request::get(EVENTS).http10()).await,
        Subscription::over_http2(&mut client, EVENTS, &[]).await,
        // With a task of its own.
        Subscription::open(here.http(), "/v1/events?stream=quote&stream=other").await,
    ];
    for stream in &mut streams {
        stream.opened().await;
    }
    let publishing = tokio::spawn(async move {
        for n in 0_u64.. {
            publisher.publish("quote", event(n.to_string())).await;
            tokio::time::sleep(PUBLISH_EVERY).await;
        }
    });
    for stream in &mut streams {
        stream.events(3).await;
    }
    here.terminate();
    for (n, mut stream) in streams.into_iter().enumerate() {
        let told = read(&mut stream, String::new(), async |_| {}).await;
        assert!(
            told.after.len() >= 10,
            "stream {n}: only {} events in a second and a half",
            told.after.len()
        );
    }
    publishing.abort();
}

#[tokio::test]
async fn who_opens_the_new_stream_first_is_never_without_one() {
    let test = "who_opens_the_new_stream_first_is_never_without_one";
    let Some(redis) = RedisServer::start(test, Keeps::Everything).await else { return };
    let leaving = redis.options().set("shutdown.drain", "1500ms");
    let (mut here, there) = (Evergate::start(leaving).await, Evergate::start(redis.options()).await);
    let publisher = Publisher::connect(there.grpc()).await;
    let target = format!("{EVENTS}?client_id=alice");
    let mut old = Subscription::open(here.http(), &target).await;
    old.opened().await;
    let publishing = tokio::spawn(async move {
        for n in 0_u64.. {
            publisher.publish("quote", event(n.to_string())).await;
            tokio::time::sleep(PUBLISH_EVERY).await;
        }
    });
    let last_id = old.events(3).await.pop().expect("three").must_id().to_owned();
    here.terminate();
    let mut new = None;
    let told = read(&mut old, last_id, async |last| {
        let mut stream = Subscription::resume(there.http(), &target, last).await;
        assert_eq!(stream.opened().await.resume, "exact");
        new = Some(stream);
    })
    .await;
    // The new stream has from its first event on all that the old one had still to bring.
    let again = new.expect("it was opened").events(told.after.len().max(1)).await;
    let again: Vec<_> = again.iter().map(|frame| frame.must_id().to_owned()).collect();
    assert_eq!(again[..told.after.len()], told.after[..]);
    assert!(!told.after.is_empty());
    publishing.abort();
    let status = here.ended(evergate_tests::PATIENCE).await;
    assert_eq!(status.code(), Some(0), "{}", here.output());
}
