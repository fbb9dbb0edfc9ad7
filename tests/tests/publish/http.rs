//! Publishing over HTTP, for people with curl.

use evergate_tests::http1::{Connection, Request, Response, call};
use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::subscription::Subscription;
use serde_json::json;

use crate::stored;

const EVENTS: &str = "/v1/streams/s/events";

fn json_request(body: &str) -> Request {
    Request::post(EVENTS, "application/json", body)
}

/// The seq an answer tells of one event newly stored.
fn new_seq(answer: &Response) -> u64 {
    assert_eq!(answer.status(), 200, "{answer:?}");
    let told = answer.json();
    assert_eq!(told["duplicate"], false, "{told}");
    assert_eq!(told.as_object().expect("an object").len(), 2, "{told}");
    offset(told["offset"].as_str().expect("an offset")).seq
}

#[tokio::test]
async fn json_data_is_text_as_it_is_or_any_value_in_its_compact_form() {
    let server = Evergate::start(Options::memory()).await;
    let cases = [
        (r#"{"data": "plain \"text\"\n\u00e9"}"#, "plain \"text\"\né"),
        (
            r#"{"data": { "b" : 1.10, "a" : [ 1 , 12345678901234567890, " x " ] }}"#,
            r#"{"b":1.10,"a":[1,12345678901234567890," x "]}"#,
        ),
        (r#"{"data": 42}"#, "42"),
        (r#"{"data": true}"#, "true"),
        (r#"{"data": null}"#, "null"),
        (r#"{"data": []}"#, "[]"),
        (r#"{"data": ""}"#, ""),
    ];
    let mut connection = Connection::open(server.http()).await;
    for (n, (body, _)) in (1..).zip(&cases) {
        assert_eq!(new_seq(&connection.call(&json_request(body)).await), n, "{body}");
    }
    let texts: Vec<String> = stored(&server, cases.len()).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, cases.map(|(_, text)| text));
}

#[tokio::test]
async fn type_key_and_producer_are_taken_along() {
    let server = Evergate::start(Options::memory()).await;
    let target = format!("{EVENTS}?envelope=1");
    let mut stream = Subscription::open(server.http(), &target).await;
    stream.opened().await;
    let body = json!({ "data": "x", "type": "trade", "key": "AAPL", "producer": { "id": "p", "seq": 7 } })
        .to_string();
    let raw = Request::post(EVENTS, "text/plain; charset=utf-8", "x")
        .header("Evergate-Type", "trade")
        .header("Evergate-Key", "AAPL");
    let first = call(server.http(), json_request(&body)).await;
    assert_eq!(new_seq(&first), 1);
    assert_eq!(new_seq(&call(server.http(), raw.clone()).await), 2);
    for _ in 0..2 {
        let told = stream.event().await.json();
        assert_eq!(
            (&told["type"], &told["key"], &told["data"]),
            (&json!("trade"), &json!("AAPL"), &json!("x"))
        );
    }
    let offset = first.json()["offset"].clone();
    for retry in [json_request(&body), raw.header("Evergate-Producer", "p/7")] {
        let answer = call(server.http(), retry).await;
        assert_eq!(answer.json(), json!({ "offset": offset, "duplicate": true }));
    }
}

#[tokio::test]
async fn any_text_is_data() {
    let server = Evergate::start(Options::memory()).await;
    for (n, content_type) in
        (1..).zip(["text/plain", "text/csv", "text/plain; charset=UTF-8", "Text/Markdown"])
    {
        let answer = call(server.http(), Request::post(EVENTS, content_type, "{\"a\":\r\n1}")).await;
        assert_eq!(new_seq(&answer), n, "{content_type}");
    }
    assert!(stored(&server, 4).await.iter().all(|(_, text)| text == "{\"a\":\n1}"));
}

#[tokio::test]
async fn a_batch_of_lines_is_answered_by_a_list() {
    let server = Evergate::start(Options::memory()).await;
    let lines = "{\"data\":\"1\"}\n{\"data\":{\"n\":2},\"key\":\"k\"}\r\n{\"data\":\"3\",\"producer\":{\"id\":\"p\",\"seq\":1}}\n";
    let request = || Request::post(EVENTS, "application/x-ndjson", lines);
    let answer = call(server.http(), request()).await;
    assert_eq!(answer.status(), 200, "{answer:?}");
    let told = answer.json();
    let list = told.as_array().expect("a list");
    assert_eq!(list.len(), 3, "{told}");
    assert!(list.iter().all(|one| one["duplicate"] == false), "{told}");
    let again = call(server.http(), request()).await.json();
    assert_eq!(again[2], json!({ "offset": list[2]["offset"], "duplicate": true }));
    let texts: Vec<String> = stored(&server, 5).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["1", "{\"n\":2}", "3", "1", "{\"n\":2}"]);
}

#[tokio::test]
async fn bodies_come_in_every_way_that_http_knows() {
    let server = Evergate::start(Options::memory()).await;
    let mut connection = Connection::open(server.http()).await;

    let chunked = Request::post(EVENTS, "text/plain", "3\r\nabc\r\n2\r\nde\r\n0\r\n\r\n")
        .header("Transfer-Encoding", "chunked");
    assert_eq!(new_seq(&connection.call(&chunked).await), 1);

    // As curl does for larger bodies: it waits for leave to send.
    let asked = Request::new("POST", EVENTS)
        .header("Content-Type", "text/plain")
        .header("Content-Length", "5")
        .header("Expect", "100-continue");
    connection.send(&asked).await;
    assert_eq!(connection.read_head().await.status, 100);
    connection.send_bytes(b"fghij").await;
    assert_eq!(new_seq(&connection.read_response(false).await), 2);

    // Two requests at once, answered in order.
    let both = [
        Request::post(EVENTS, "text/plain", "1").encode(),
        Request::post(EVENTS, "text/plain", "2").encode(),
    ];
    connection.send_bytes(&both.concat()).await;
    assert_eq!(new_seq(&connection.read_response(false).await), 3);
    assert_eq!(new_seq(&connection.read_response(false).await), 4);

    assert_eq!(new_seq(&call(server.http(), Request::post(EVENTS, "text/plain", "old").http10()).await), 5);
    let texts: Vec<String> = stored(&server, 5).await.into_iter().map(|(_, text)| text).collect();
    assert_eq!(texts, ["abcde", "fghij", "1", "2", "old"]);
}
