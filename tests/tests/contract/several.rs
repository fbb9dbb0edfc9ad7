//! Several streams on one connection.

use evergate_tests::frame::Frame;
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event, keyed};
use evergate_tests::subscription::Subscription;

/// Stream and data of an enveloped event.
fn told(frame: &Frame) -> (String, String) {
    let json = frame.json();
    let text = |name: &str| json[name].as_str().unwrap_or_else(|| panic!("{name}: {json}")).to_owned();
    (text("stream"), text("data"))
}

fn pair(stream: &str, data: &str) -> (String, String) {
    (stream.to_owned(), data.to_owned())
}

#[tokio::test]
async fn events_come_in_envelopes_unless_told_otherwise() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut wrapped = Subscription::open(server.http(), "/v1/events?stream=a&stream=b").await;
    let mut bare = Subscription::open(server.http(), "/v1/events?stream=a&stream=b&envelope=0").await;
    wrapped.opened().await;
    bare.opened().await;
    publisher.publish("a", event("1")).await;
    publisher.publish("b", event("2")).await;
    let mut seen = [told(&wrapped.event().await), told(&wrapped.event().await)];
    seen.sort();
    assert_eq!(seen, [pair("a", "1"), pair("b", "2")]);
    let mut seen = bare.data(2).await;
    seen.sort();
    assert_eq!(seen, ["1", "2"]);
}

#[tokio::test]
async fn one_token_resumes_every_stream_exactly() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut stream = Subscription::open(server.http(), "/v1/events?stream=b&stream=a").await;
    let opened = stream.opened().await;
    assert_eq!(opened.frame.must_id(), opened.cursor);
    publisher.publish_all("a", ["a1", "a2", "a3"]).await;
    publisher.publish_all("b", ["b1", "b2", "b3"]).await;
    let frames = stream.events(6).await;
    drop(stream);
    let all: Vec<_> = frames.iter().map(told).collect();
    let mut sorted = all.clone();
    sorted.sort();
    let expected = ["a1", "a2", "a3", "b1", "b2", "b3"].map(|data| pair(&data[..1], data));
    assert_eq!(sorted, expected);

    // Whatever id the client holds, it gets exactly what it has not seen. The order of the names in
    // the request makes no difference.
    let ids = std::iter::once(opened.cursor.as_str()).chain(frames.iter().map(Frame::must_id));
    for (seen, id) in ids.enumerate() {
        let target = "/v1/events?stream=a&stream=b";
        let mut resumed = Subscription::resume(server.http(), target, id).await;
        assert_eq!(resumed.opened().await.resume, "exact");
        let mut rest: Vec<_> = resumed.events(all.len() - seen).await.iter().map(told).collect();
        let mut wanted = all[seen..].to_vec();
        rest.sort();
        wanted.sort();
        assert_eq!(rest, wanted, "after {id}");
    }
}

#[tokio::test]
async fn twelve_streams_fit_an_id_that_browsers_send_back() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let names: Vec<String> = (0..12).map(|n| format!("stream-{n:02}")).collect();
    for name in &names {
        publisher.publish(name, event("x")).await;
    }
    let query: Vec<String> = names.iter().map(|name| format!("stream={name}")).collect();
    let target = format!("/v1/events?from=earliest&{}", query.join("&"));
    let mut stream = Subscription::open(server.http(), &target).await;
    stream.opened().await;
    for frame in stream.events(12).await {
        let id = frame.must_id();
        assert!(id.len() <= 128, "{} bytes: {id}", id.len());
    }
}

#[tokio::test]
async fn another_subscription_s_token_is_refused() {
    let server = Evergate::start(Options::memory()).await;
    let mut stream = Subscription::open(server.http(), "/v1/events?stream=a&stream=b").await;
    let token = stream.opened().await.cursor;
    let mut three = Subscription::open(server.http(), "/v1/events?stream=a&stream=b&stream=c").await;
    let token_of_three = three.opened().await.cursor;
    for (target, token) in [
        ("/v1/events?stream=a&stream=c", &token),
        ("/v1/events?stream=a&stream=b&stream=c", &token),
        ("/v1/events?stream=a&stream=b", &token_of_three),
    ] {
        let answer = call(server.http(), Request::get(target).header("Last-Event-ID", token)).await;
        let told = answer.problem_with(400, "header.Last-Event-ID");
        assert_eq!(told["detail"], "the cursor was made for another set of streams", "{target}");
        let answer = call(server.http(), Request::get(&format!("{target}&last_event_id={token}"))).await;
        let told = answer.problem_with(400, "query.last_event_id");
        assert_eq!(told["detail"], "the cursor was made for another set of streams", "{target}");
    }
    // Over one stream a cursor is an offset, which a token is not.
    let one = Request::get("/v1/streams/a/events").header("Last-Event-ID", &token);
    call(server.http(), one).await.problem_with(400, "header.Last-Event-ID");
}

/// Another set of streams is another subscription, and has a place of its own.
#[tokio::test]
async fn a_client_that_changes_its_streams_has_another_place() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let of = |streams: &str| format!("/v1/events?{streams}&client_id=alice&acks=1&from=earliest&envelope=0");
    let (three, two) = (of("stream=a&stream=b&stream=c"), of("stream=a&stream=b"));
    publisher.publish_all("a", ["1", "2", "3"]).await;
    let mut stream = Subscription::open(server.http(), &three).await;
    let opened = stream.opened().await;
    assert_eq!(opened.resume, "live");
    let cursor = stream.events(2).await[1].must_id().to_owned();
    let body = serde_json::json!({ "connection": opened.connection, "cursor": cursor }).to_string();
    let told = call(server.http(), Request::post("/v1/acks", "application/json", body)).await;
    assert_eq!(told.status(), 204, "{}", told.text());
    let mut fewer = Subscription::open(server.http(), &two).await;
    assert_eq!(fewer.opened().await.resume, "live", "nothing is kept for these two");
    assert_eq!(fewer.data(3).await, ["1", "2", "3"]);
    let mut again = Subscription::open(server.http(), &three).await;
    let opened = again.opened().await;
    assert_eq!((opened.resume.as_str(), &opened.cursor), ("stored", &cursor));
    assert_eq!(again.data(1).await, ["3"]);
}

#[tokio::test]
async fn there_is_a_limit_to_the_streams_of_one_connection() {
    let server = Evergate::start(Options::memory()).await;
    let target = |n: usize| {
        let names: Vec<String> = (0..n).map(|n| format!("stream=s{n}")).collect();
        format!("/v1/events?{}", names.join("&"))
    };
    let mut stream = Subscription::open(server.http(), &target(16)).await;
    stream.opened().await;
    call(server.http(), Request::get(&target(17))).await.problem(400);
    call(server.http(), Request::get("/v1/events")).await.problem(400);
}

#[tokio::test]
async fn a_key_filter_belongs_to_one_stream() {
    let server = Evergate::start(Options::memory()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let mut stream =
        Subscription::open(server.http(), "/v1/events?stream=quote&stream=news&key=quote/AAPL").await;
    stream.opened().await;
    publisher.publish("quote", keyed("MSFT", "not wanted")).await;
    publisher.publish("news", keyed("MSFT", "news")).await;
    assert_eq!(told(&stream.event().await), pair("news", "news"));
    publisher.publish("quote", keyed("AAPL", "wanted")).await;
    assert_eq!(told(&stream.event().await), pair("quote", "wanted"));
    let target = "/v1/events?stream=quote&stream=news&key=other/AAPL";
    call(server.http(), Request::get(target)).await.problem(400);
}

#[tokio::test]
async fn a_gap_in_one_stream_is_told_for_that_stream() {
    let server = Evergate::start(Options::memory().set("retention.events", "10")).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let target = "/v1/events?stream=long&stream=short";
    let mut stream = Subscription::open(server.http(), target).await;
    let start = stream.opened().await.cursor;
    drop(stream);
    publisher.publish("short", event("kept")).await;
    let long = publisher.publish_all("long", (1..=100).map(|n| n.to_string())).await;

    let mut resumed = Subscription::resume(server.http(), target, &start).await;
    let opened = resumed.opened().await;
    assert_eq!((opened.resume.as_str(), opened.cursor.as_str()), ("gap", start.as_str()));
    let gap = resumed.control("evergate.gap").await;
    assert_eq!(gap.json()["stream"], "long");
    assert_eq!(gap.json()["first_missing"], long[0].to_string());

    // The notice's own id resumes past the gap, and in the other stream where it was.
    let mut later = Subscription::resume(server.http(), target, gap.must_id()).await;
    assert_eq!(later.opened().await.resume, "exact");
    let mut kept = Vec::new();
    loop {
        let (name, data) = told(&later.event().await);
        let last = kept.len() >= 10 && (data == "100" || name == "short");
        kept.push((name, data));
        if last && kept.contains(&pair("short", "kept")) && kept.contains(&pair("long", "100")) {
            break;
        }
    }
    let lost = usize::try_from(gap.json()["lost"].as_u64().expect("it can be known")).expect("small");
    assert_eq!(kept.len(), 100 - lost + 1, "everything that was not told as lost: {kept:?}");
}
