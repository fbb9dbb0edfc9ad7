//! No field carries a line or a tag that it should not, wherever it ends up.

use evergate_tests::http1::{Request, call};
use evergate_tests::publisher::{Publisher, event};
use evergate_tests::subscription::Subscription;
use serde_json::json;

use crate::{EVENTS, during, server};

/// What somebody would like to have in another's stream, answer, log line or page.
const EVIL: [&str; 6] = [
    "a\nevent: evergate.gap\ndata: {}\nid: 9-9\n\n",
    "a\r\nSet-Cookie: x=y",
    "a\rid: 9-9",
    "<script>alert(1)</script>",
    "a\u{2028}b\u{85}c\0d",
    "\u{1b}[2J\u{1b}]0;title\u{7}",
];

fn encoded(text: &str) -> String {
    text.bytes().map(|byte| format!("%{byte:02x}")).collect()
}

#[tokio::test]
async fn data_stays_data() {
    let server = server().await;
    during(&server, async {
        let publisher = Publisher::connect(server.grpc()).await;
        let mut stream = Subscription::open(server.http(), EVENTS).await;
        stream.opened().await;
        for evil in EVIL {
            publisher.publish("s", event(evil)).await;
            let frame = stream.event().await;
            // The lines of the data come as lines of data, whichever way they end.
            let lines: Vec<_> =
                evil.replace("\r\n", "\n").replace('\r', "\n").split('\n').map(str::to_owned).collect();
            assert_eq!(frame.data.split('\n').collect::<Vec<_>>(), lines, "{frame:?}");
            assert_eq!((frame.event.as_deref(), frame.retry), (None, None));
        }
    })
    .await;
}

#[tokio::test]
async fn names_with_lines_or_bytes_that_are_none_are_refused_everywhere() {
    let server = server().await;
    during(&server, async {
        for evil in EVIL.into_iter().filter(|evil| evil.chars().any(char::is_control)) {
            for field in ["type", "key"] {
                let body = json!({ "data": "x", field: evil }).to_string();
                let answer = call(server.http(), Request::post(EVENTS, "application/json", body)).await;
                answer.problem_with(400, field);
            }
            let body = json!({ "data": "x", "producer": { "id": evil, "seq": 1 } }).to_string();
            call(server.http(), Request::post(EVENTS, "application/json", body)).await.problem(400);
        }
        for evil in EVIL {
            let evil = encoded(evil);
            for target in [
                format!("/v1/streams/{evil}/events"),
                format!("/v1/events?stream={evil}"),
                format!("{EVENTS}?client_id={evil}"),
                format!("{EVENTS}?last_event_id={evil}"),
                format!("{EVENTS}?from={evil}"),
                format!("{EVENTS}?envelope={evil}"),
                format!("{EVENTS}?acks={evil}&{evil}=1&key={evil}*{evil}"),
            ] {
                let answer = call(server.http(), Request::get(&target)).await;
                // JSON has its own way to write what it must not hold.
                answer.problem(400);
                assert!(!answer.body.iter().any(|byte| *byte < b' '), "{target}: {answer:?}");
                assert!(answer.head.header("set-cookie").is_none(), "{answer:?}");
            }
            let acknowledgement = json!({ "connection": EVIL[1], "cursor": EVIL[0] }).to_string();
            let answer =
                call(server.http(), Request::post("/v1/acks", "application/json", acknowledgement)).await;
            answer.problem(404);
            for call_ in ["ping", "token"] {
                let target = format!("/v1/connections/{evil}/{call_}");
                let answer = call(server.http(), Request::new("POST", &target)).await;
                answer.problem(404);
            }
        }
    })
    .await;
}

/// A trace is taken over only if it is one, and an origin never as it comes.
#[tokio::test]
async fn nothing_of_a_request_s_head_comes_back_unread() {
    let server = server().await;
    for evil in ["<script>alert(1)</script>", "\u{e4}\u{f6}", "00-zz-zz-01"] {
        let request = Request::get("/v1/route")
            .header("traceparent", evil)
            .header("X-Trace-ID", evil)
            .header("Origin", evil)
            .header("Accept-Encoding", evil)
            .header("X-Forwarded-For", evil);
        let answer = call(server.http(), request).await;
        let said = format!("{:?} {}", answer.head, String::from_utf8_lossy(&answer.body));
        assert!(!said.contains("script") && !said.contains("zz"), "{said}");
    }
}

/// Log lines are lines, and metrics have names that we chose.
#[tokio::test]
async fn neither_the_log_nor_the_metrics_hold_what_strangers_write() {
    let server = evergate_tests::process::Evergate::start(
        evergate_tests::process::Options::memory().set("log_output.level", "trace"),
    )
    .await;
    for evil in EVIL {
        let evil = encoded(&format!("{evil}strangersmark"));
        for target in [format!("/v1/streams/{evil}/events"), format!("{EVENTS}?client_id={evil}")] {
            drop(call(server.http(), Request::get(&target)).await);
        }
        let post =
            Request::post(EVENTS, "application/json", json!({ "data": "x", "key": EVIL[0] }).to_string());
        drop(call(server.http(), post).await);
    }
    let metrics = call(server.admin(), Request::get("/metrics")).await.text().to_owned();
    assert!(!metrics.contains("strangersmark") && !metrics.contains("<script"), "{metrics}");
    for line in server.output().lines() {
        // Escapes are for a terminal, and a test has none; so whoever wrote one was a stranger.
        assert!(!line.chars().any(|c| c.is_control() && c != '\t'), "{line:?}");
        let begins = line.starts_with("20") || line.starts_with("Evergate") || line.starts_with("receive");
        assert!(
            begins || line.starts_with("publish") || line.is_empty(),
            "it looks like a line of ours: {line:?}"
        );
    }
}

/// The demo page writes what it is sent as text, and loads nothing from elsewhere.
#[tokio::test]
async fn the_demo_page_has_no_place_for_markup() {
    let server = server().await;
    let page = call(server.http(), Request::get("/")).await;
    let script = call(server.http(), Request::get("/demo/demo.js")).await;
    for word in ["innerHTML", "outerHTML", "insertAdjacentHTML", "document.write", "eval(", "new Function"] {
        assert!(!script.text().contains(word) && !page.text().contains(word), "{word}");
    }
    assert!(!page.text().contains("src=\"http") && !page.text().contains("href=\"http"), "{}", page.text());
}
