//! `/debug/heap`: off by itself, and a profile that names our code where the process was started for it.

use std::io::Read as _;

use evergate_tests::http1::{Request, Response, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::{Publisher, event};
use tempfile::NamedTempFile;

const HEAP: &str = "/debug/heap";
const TOKEN: &str = "0123456789abcdef-heap";

/// A process whose admin page has a token, and the file that holds it.
async fn guarded(options: Options) -> (Evergate, NamedTempFile) {
    let file = NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(file.path(), TOKEN).expect("it is ours");
    let path = file.path().to_str().expect("a plain path");
    (Evergate::start(options.set("admin.token_file", path)).await, file)
}

async fn ask(server: &Evergate, method: &str) -> Response {
    let request = Request::new(method, HEAP).header("Authorization", format!("Bearer {TOKEN}"));
    call(server.admin(), request).await
}

/// A refusal that says what to do.
fn says(answer: &Response, what: &str) {
    let problem = answer.problem(409);
    assert!(problem["detail"].as_str().is_some_and(|detail| detail.contains(what)), "{problem}");
}

#[tokio::test]
async fn a_process_that_was_not_started_for_it_says_how() {
    let (server, _token) = guarded(Options::memory()).await;
    says(&ask(&server, "GET").await, "_RJEM_MALLOC_CONF=prof:true");
    let unknown = call(server.admin(), Request::get(HEAP)).await;
    assert_eq!(unknown.problem(401)["title"], "Unauthorized");
}

#[tokio::test]
async fn what_is_held_is_told_by_who_allocated_it() {
    let told = "_RJEM_MALLOC_CONF=prof:true,prof_active:false,lg_prof_sample:12";
    let (server, _token) = guarded(Options::memory().launched_by(&["env", told])).await;
    says(&ask(&server, "GET").await, "begin with POST");
    assert_eq!(ask(&server, "POST").await.status(), 200);
    let publisher = Publisher::connect(server.grpc()).await;
    for _ in 0..10 {
        let events = (0..500).map(|_| event("x".repeat(1_000))).collect();
        publisher.try_batch("held", events).await.expect("the batch is taken");
    }
    let profile = ask(&server, "GET").await;
    assert_eq!(profile.status(), 200, "{profile:?}");
    let mut text = Vec::new();
    flate2::read::MultiGzDecoder::new(profile.body.as_slice()).read_to_end(&mut text).expect("it is gzip");
    // Whoever reads it needs to know which binary the addresses are of, and what is counted.
    for word in ["evergate", "inuse"] {
        assert!(text.windows(word.len()).any(|part| part == word.as_bytes()), "{word} is missing");
    }
    assert_eq!(ask(&server, "DELETE").await.status(), 200);
    says(&ask(&server, "GET").await, "begin with POST");
}
