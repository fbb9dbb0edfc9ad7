//! Clients that people use: curl, the npm package `eventsource`, Python with httpx-sse and grpcio,
//! and Chromium. Each is cut and resumes with nothing lost and nothing doubled.

use std::ffi::OsStr;
use std::path::Path;

use evergate_tests::clients::{Pinned, pinned, script, system};
use evergate_tests::controls::{Controls, wait};
use evergate_tests::frame::{Frame, FrameParser, Item};
use evergate_tests::http1::{Request, call};
use evergate_tests::offset::offset;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::program::Program;
use evergate_tests::publisher::{Event, Publisher, event, keyed};
use evergate_tests::subscription::Subscription;
use serde_json::{Value, json};

const EVENTS: &str = "/v1/streams/s/events";
/// Control events, which a client hears only if it asks for them by name.
const CONTROLS: [&str; 2] = ["evergate.open", "evergate.gap"];

/// Clients come back quickly, so that a test need not wait for them.
async fn server() -> Evergate {
    Evergate::start(Options::disk().set("sse.retry_min", "200ms").set("sse.retry_max", "300ms")).await
}

/// Cuts a connection from the server's side, as a broken network would.
async fn cut(server: &Evergate, opened: &Value) {
    let connection = opened["connection"].as_str().expect("open names the connection");
    let answer = call(server.http(), Request::new("POST", &format!("/dev/cut/{connection}"))).await;
    assert_eq!(answer.status(), 204, "{answer:?}");
}

/// How many events the server has deflated.
async fn deflated(server: &Evergate) -> u64 {
    let metrics = call(server.admin(), Request::get("/metrics")).await;
    let line = metrics.text().lines().find(|line| line.starts_with("evergate_events_deflated_total{"));
    let count = line.and_then(|line| line.rsplit(' ').next()).expect("it is told from the start");
    count.parse().expect("a count")
}

async fn publish(publisher: &Publisher, numbers: std::ops::RangeInclusive<u64>) {
    publisher.publish_all("s", numbers.map(|n| n.to_string())).await;
}

fn control_data(told: &Value) -> Value {
    serde_json::from_str(told["data"].as_str().expect("data is text")).expect("control data is JSON")
}

/// Follows a client that prints its events as JSON through a cut: events 1 to 10 reach it, each
/// once. Returns what it printed in between, event by event.
async fn follow_through_a_cut(server: &Evergate, client: &mut Program) -> Vec<Value> {
    let publisher = Publisher::connect(server.grpc()).await;
    let mut printed = Vec::new();
    let opened = next_event(client, "evergate.open", &mut printed).await;
    publish(&publisher, 1..=5).await;
    for n in 1..=5u64 {
        let told = next_event(client, "message", &mut printed).await;
        assert_eq!(told["data"], n.to_string());
    }
    cut(server, &control_data(&opened)).await;
    publish(&publisher, 6..=9).await;
    let again = next_event(client, "evergate.open", &mut printed).await;
    assert_eq!(control_data(&again)["resume"], "exact", "it came back with its id");
    publish(&publisher, 10..=10).await;
    for n in 6..=10u64 {
        let told = next_event(client, "message", &mut printed).await;
        assert_eq!(told["data"], n.to_string());
        assert_eq!(offset(told["id"].as_str().expect("an id")).seq, n);
    }
    assert!(printed.iter().all(|told| told["event"] != "evergate.gap"), "{printed:?}");
    printed
}

/// The next event of this name. Others are passed over if they are the client's own remarks.
async fn next_event(client: &mut Program, name: &str, printed: &mut Vec<Value>) -> Value {
    loop {
        let told = client.json().await;
        printed.push(told.clone());
        if told["event"] == name {
            return told;
        }
        let remark = matches!(told["event"].as_str(), Some("request" | "response" | "disconnected"));
        assert!(remark, "{name} was expected, not {told}");
    }
}

/// The last one of this name among those that were printed.
fn last_of<'a>(printed: &'a [Value], name: &str) -> &'a Value {
    printed.iter().rfind(|told| told["event"] == name).expect("it was printed")
}

/// curl's standard output, as frames.
struct Curl {
    program: Program,
    parser: FrameParser,
}

impl Curl {
    fn start(binary: &Path, arguments: &[&str]) -> Self {
        let program = Program::start(binary, &[&["-sS", "-N"], arguments].concat(), &[]);
        Self { program, parser: FrameParser::new() }
    }

    async fn frame(&mut self) -> Frame {
        loop {
            if let Some(Item::Frame(frame)) = self.parser.item().expect("a well-formed stream") {
                return frame;
            }
            let line = self.program.line().await;
            self.parser.feed(format!("{line}\n").as_bytes());
        }
    }

    async fn data(&mut self) -> String {
        let frame = self.frame().await;
        assert!(frame.is_event(), "{frame:?}");
        frame.data
    }
}

#[tokio::test]
async fn curl_reads_is_cut_and_resumes() {
    let Some(curl) = system("curl_reads_is_cut_and_resumes", &["curl"]) else { return };
    let server = server().await;
    let publisher = Publisher::connect(server.grpc()).await;
    let url = server.url(EVENTS);
    let versions = ["--http1.1", "--http1.0", "--http2-prior-knowledge"];
    for (version, packed) in versions
        .into_iter()
        .flat_map(|version| ["--no-compressed", "--compressed"].map(|packed| (version, packed)))
    {
        let before = deflated(&server).await;
        let mut first = Curl::start(&curl, &[version, packed, &url]);
        let opened = first.frame().await;
        publish(&publisher, 1..=3).await;
        let mut last = Frame::default();
        for n in 1..=3 {
            last = first.frame().await;
            assert_eq!(last.data, n.to_string(), "{version}");
        }
        cut(&server, &opened.json()).await;
        assert!(first.program.try_line().await.is_none(), "nothing after the cut");
        assert!(!first.program.ended().await.success(), "{version}: curl noticed that it was cut");

        publish(&publisher, 4..=6).await;
        let field = format!("Last-Event-ID: {}", last.must_id());
        let mut second = Curl::start(&curl, &[version, packed, "-H", &field, &url]);
        assert_eq!(second.frame().await.json()["resume"], "exact");
        publish(&publisher, 7..=7).await;
        for n in 4..=7 {
            assert_eq!(second.data().await, n.to_string(), "{version} {packed}");
        }
        let packed = packed == "--compressed";
        assert!(!packed || deflated(&server).await >= before + 7, "{version}: it was not compressed");
    }
}

#[tokio::test]
async fn curl_publishes() {
    let Some(curl) = system("curl_publishes", &["curl"]) else { return };
    let server = server().await;
    let url = server.url(EVENTS);
    let large = "x".repeat(100_000);
    let body = json!({ "data": { "price": 1.5 }, "type": "trade", "key": "AAPL" }).to_string();
    let json_type = "Content-Type: application/json";
    let calls: [&[&str]; 4] = [
        &["-H", json_type, "-d", &body, &url],
        &["-H", "Content-Type: text/plain", "-H", "Evergate-Type: note", "-d", "plain", &url],
        // Bodies of this size curl announces with Expect: 100-continue over HTTP/1.1.
        &["-H", "Content-Type: text/plain", "-H", "Expect: 100-continue", "-d", &large, &url],
        &["--http2-prior-knowledge", "-H", json_type, "-d", &body, &url],
    ];
    for (n, arguments) in (1..).zip(calls) {
        let mut program = Program::start(&curl, &[&["-sS", "--fail-with-body"], arguments].concat(), &[]);
        let answer = program.json().await;
        assert_eq!(answer["duplicate"], false, "{answer}");
        assert_eq!(offset(answer["offset"].as_str().expect("an offset")).seq, n);
        program.finish().await;
    }
    let mut stream = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    stream.opened().await;
    assert_eq!(stream.data(4).await, ["{\"price\":1.5}", "plain", &large, "{\"price\":1.5}"]);
}

#[tokio::test]
async fn the_npm_package_eventsource_is_cut_and_resumes() {
    let Some(pinned) = pinned("the_npm_package_eventsource_is_cut_and_resumes") else { return };
    let server = server().await;
    let mut client =
        node(&pinned, "node/eventsource.cjs", &[&[server.url(EVENTS).as_str()], &CONTROLS[..]].concat());
    follow_through_a_cut(&server, &mut client).await;

    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", event("two\nlines\r\nand a third: 🦀")).await;
    let told = next_event(&mut client, "message", &mut Vec::new()).await;
    assert_eq!(told["data"], "two\nlines\nand a third: 🦀");
    client.finish().await;
    assert!(deflated(&server).await >= 11, "all of it was compressed");
}

#[tokio::test]
async fn python_with_httpx_sse_is_cut_and_resumes() {
    let Some(pinned) = pinned("python_with_httpx_sse_is_cut_and_resumes") else { return };
    let server = server().await;
    let arguments = [script("python/sse.py").into_os_string(), server.url(EVENTS).into()];
    let mut client = Program::start(&pinned.python, &arguments, &[]);
    follow_through_a_cut(&server, &mut client).await;
    assert!(deflated(&server).await >= 10, "all of it was compressed");
}

#[tokio::test]
async fn python_with_grpcio_publishes() {
    let Some(pinned) = pinned("python_with_grpcio_publishes") else { return };
    let server = server().await;
    let arguments =
        [script("python/publish.py").into_os_string(), server.grpc().to_string().into(), "s".into()];
    let environment = [("PYTHONPATH", pinned.stubs.as_os_str())];
    let mut client = Program::start(&pinned.python, &arguments, &environment);
    let seq = |told: &Value| offset(told["offset"].as_str().expect("an offset")).seq;

    let (first, again) = (client.json().await, client.json().await);
    assert_eq!((seq(&first), &first["duplicate"]), (1, &json!(false)));
    assert_eq!((seq(&again), &again["duplicate"]), (1, &json!(true)));
    for n in 2..=4 {
        let told = client.json().await;
        assert_eq!((told["call"].as_str(), seq(&told)), (Some("batch"), n));
    }
    for n in 0..100 {
        let told = client.json().await;
        assert_eq!((told["correlation"].as_u64(), seq(&told)), (Some(n), n + 5));
    }
    let refused = client.json().await;
    assert_eq!(refused["code"], "INVALID_ARGUMENT", "{refused}");
    assert!(refused["message"].as_str().is_some_and(|text| !text.is_empty()), "{refused}");
    client.finish().await;

    let mut stream = Subscription::open(server.http(), &format!("{EVENTS}?from=earliest")).await;
    stream.opened().await;
    let first = stream.event().await;
    assert_eq!((first.event.as_deref(), first.data.as_str()), (Some("t"), "one"));
    assert_eq!(stream.events(103).await.last().map(|frame| frame.data.as_str()), Some("stream 99"));
}

const CHROMIUM: [&str; 3] = ["chromium", "chromium-browser", "google-chrome"];

#[tokio::test]
async fn chromium_s_own_eventsource_is_cut_and_resumes_by_header() {
    const TEST: &str = "chromium_s_own_eventsource_is_cut_and_resumes_by_header";
    let (Some(pinned), Some(chromium)) = (pinned(TEST), system(TEST, &CHROMIUM)) else { return };
    let server = server().await;
    let chromium = chromium.to_string_lossy();
    let url = server.url(EVENTS);
    let mut page =
        node(&pinned, "node/browser.cjs", &[&[&*chromium, url.as_str()], &CONTROLS[..], &["trade"]].concat());
    let printed = follow_through_a_cut(&server, &mut page).await;

    let requests: Vec<&Value> = printed.iter().filter(|told| told["event"] == "request").collect();
    assert!(requests.len() >= 2, "{printed:?}");
    assert!(requests[0]["last_event_id"].is_null(), "{printed:?}");
    let fifth = printed.iter().find(|told| told["data"] == "5").expect("the last event before the cut");
    let resumed = requests.last().expect("two at least");
    assert_eq!(resumed["last_event_id"], fifth["id"], "{printed:?}");

    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish("s", Event { r#type: "trade".into(), ..event("typed") }).await;
    assert_eq!(next_event(&mut page, "trade", &mut Vec::new()).await["data"], "typed");

    // A long stream, small events and large ones, and a cut in the middle of it.
    let opened = last_of(&printed, "evergate.open");
    for round in 0..2 {
        for n in 0..500 {
            let size = if n % 100 == 0 { 70_000 } else { n % 50 };
            publisher.publish("s", event(format!("{round} {n} {}", "x".repeat(size)))).await;
        }
        if round == 0 {
            cut(&server, &control_data(opened)).await;
        }
    }
    let mut cut = false;
    for round in 0..2 {
        for n in 0..500 {
            let mut told = page.json().await;
            while told["event"] != "message" {
                assert_ne!(told["event"], "evergate.gap");
                cut |= told["event"] == "evergate.open";
                told = page.json().await;
            }
            let begin = format!("{round} {n} ");
            assert!(told["data"].as_str().is_some_and(|data| data.starts_with(&begin)), "{begin}: {told}");
        }
    }
    assert!(cut, "it was to be cut");
    assert!(deflated(&server).await >= 1_011, "all of it was compressed");
    page.finish().await;
}

#[tokio::test]
async fn the_demo_page_tells_its_story() {
    const TEST: &str = "the_demo_page_tells_its_story";
    let (Some(pinned), Some(chromium)) = (pinned(TEST), system(TEST, &CHROMIUM)) else { return };
    let server = server().await;
    let screenshot = Path::new(env!("CARGO_TARGET_TMPDIR")).join("demo.png");
    let (chromium, picture) = (chromium.to_string_lossy(), screenshot.to_string_lossy());
    let mut page = node(&pinned, "node/demo.cjs", &[&*chromium, server.url("/").as_str(), &*picture]);
    let shown = page.json().await;
    page.finish().await;

    let story = &shown["story"];
    assert_eq!(story["resume"], "exact", "{shown}");
    assert_eq!(story["lost"], "0", "{shown}");
    assert_eq!(story["duplicated"], "0", "{shown}");
    let replayed: u64 = story["replayed"].as_str().and_then(|n| n.parse().ok()).expect("a number");
    assert!(replayed >= 5, "five were published while it was away: {shown}");
    for counter in ["gaps", "holes", "duplicates"] {
        assert_eq!(shown[counter], 0, "{counter}: {shown}");
    }
    assert!(shown["received"].as_u64().is_some_and(|n| n >= 25), "{shown}");
    assert!(shown["byHand"].as_str().is_some_and(|row| row.contains("published by hand")), "{shown}");
    assert_eq!(shown["state"], "live", "{shown}");
    // The cut itself is an error to the console; anything else would be a mistake of the page's.
    let errors = shown["errors"].as_array().expect("a list");
    let cut = |error: &Value| error.as_str().is_some_and(|text| text.contains("net::ERR_"));
    assert!(errors.iter().all(cut), "{errors:?}");
    assert!(screenshot.metadata().is_ok_and(|file| file.len() > 10_000), "a picture was taken");
}

/// What stands on the admin page of this server, after events have flowed and somebody has used it by the keyboard.
async fn shown_on_admin_page(pinned: &Pinned, server: &Evergate, picture_of: &str, nodes: usize) -> Value {
    let chromium = system("the admin page", &CHROMIUM).expect("it was there");
    let publisher = Publisher::connect(server.grpc()).await;
    let mut subscriber = Subscription::open(server.http(), "/v1/streams/quote/events").await;
    subscriber.opened().await;
    // What an event holds is text on the page, whatever it looks like.
    publisher.publish("quote", keyed("AAPL", ODD)).await;
    // The page tells of it also to whoever comes later.
    told_of_a_gap(server).await;
    let base = format!("http://{}", server.admin());
    let pictures = Path::new(env!("CARGO_TARGET_TMPDIR")).join(picture_of);
    std::fs::create_dir_all(&pictures).expect("it is ours");
    let (chromium, pictures, nodes) =
        (chromium.to_string_lossy(), pictures.to_string_lossy(), nodes.to_string());
    let mut page =
        node(pinned, "node/admin.cjs", &[&*chromium, base.as_str(), ADMIN_TOKEN, &*pictures, nodes.as_str()]);
    // Events flow while it is looked at, until it has seen enough.
    let publishing = async {
        loop {
            publisher.publish("quote", keyed("MSFT", "flows")).await;
            tokio::time::sleep(std::time::Duration::from_millis(20)).await;
        }
    };
    let shown = tokio::select! {
        shown = page.json() => shown,
        () = publishing => unreachable!("it publishes until it is dropped"),
    };
    page.finish().await;
    for picture in ["admin-light.png", "admin-dark.png"] {
        let file = Path::new(&*pictures).join(picture);
        assert!(file.metadata().is_ok_and(|file| file.len() > 10_000), "a picture was taken");
    }
    shown
}

const ADMIN_TOKEN: &str = "0123456789abcdef-admin";
const ODD: &str = "<img src=x onerror=document.title='broken'>";

/// A file with the token for the admin page.
fn admin_token() -> tempfile::NamedTempFile {
    let secret = tempfile::NamedTempFile::new().expect("a temporary file can be made");
    std::fs::write(secret.path(), ADMIN_TOKEN).expect("it is ours");
    secret
}

#[tokio::test]
async fn the_admin_page_shows_what_goes_on_inside() {
    const TEST: &str = "the_admin_page_shows_what_goes_on_inside";
    let (Some(pinned), Some(_)) = (pinned(TEST), system(TEST, &CHROMIUM)) else { return };
    let secret = admin_token();
    let token_file = secret.path().to_str().expect("a plain path");
    let options = Options::memory().set("node", "edge-shown").set("admin.token_file", token_file);
    let server = Evergate::start(options).await;
    let shown = shown_on_admin_page(&pinned, &server, "alone", 0).await;

    assert_eq!(shown["unknown"], 401, "without a token nobody sees it: {shown}");
    assert_eq!(shown["node"], "edge-shown", "{shown}");
    assert_eq!(shown["stage"], "ready", "{shown}");
    assert!(shown["streams"].as_str().is_some_and(|told| told.contains("quote")), "{shown}");
    assert_eq!(shown["connections"], "1 of ", "{shown}");
    assert!(shown["rate"].as_f64().is_some_and(|rate| rate > 1.0), "events flow: {shown}");
    assert_eq!(shown["look"], "quote", "by the keyboard alone: {shown}");
    assert_eq!(shown["events"], 20, "{shown}");
    assert!(shown["oldest"].as_str().is_some(), "{shown}");
    let facts = shown["facts"].as_str().expect("text");
    assert!(facts.contains("Kept at most") && facts.contains(" events, "), "what is kept: {shown}");
    assert_eq!(shown["focusBack"], "Look at quote", "the keyboard's place is where it was: {shown}");
    assert_eq!(shown["odd"], ODD, "{shown}");
    assert_ne!(shown["title"], "broken", "{shown}");
    assert_eq!(shown["errors"], serde_json::json!([]), "{shown}");
    assert_eq!(shown["elsewhere"], serde_json::json!([]), "nothing is asked for elsewhere: {shown}");
    assert_eq!(shown["nodes"], serde_json::json!([]), "there is no cluster: {shown}");
    assert_eq!(shown["clusterCards"], serde_json::json!([]), "there is no cluster: {shown}");
}

#[tokio::test]
async fn the_admin_page_shows_the_cluster_and_what_happened_before_it_was_opened() {
    const TEST: &str = "the_admin_page_shows_the_cluster_and_what_happened_before_it_was_opened";
    let (Some(pinned), Some(_)) = (pinned(TEST), system(TEST, &CHROMIUM)) else { return };
    let secret = admin_token();
    let token_file = secret.path().to_str().expect("a plain path");
    let controls = Controls::start(1).await;
    let of_cluster = |node: &str, zone: &str| {
        let options = controls.followed_by(Options::memory()).set("node", node).set("cluster.zone", zone);
        options.set("admin.token_file", token_file)
    };
    let server = Evergate::start(of_cluster("edge-shown", "a")).await;
    let _other = Evergate::start(of_cluster("edge-other", "b")).await;
    Publisher::connect(server.grpc()).await.publish("quote", event("the first")).await;
    wait("both nodes and the gap in the journal", async || {
        // A gap that nobody was looking at.
        told_of_a_gap(&server).await;
        let state = first_state(&server).await;
        let journal = state["journal"].to_string();
        let nodes = state["cluster"]["nodes"].as_array().map_or(0, Vec::len);
        (nodes == 2 && journal.contains("told of a gap")).then_some(())
    })
    .await;
    let shown = shown_on_admin_page(&pinned, &server, "cluster", 2).await;

    let nodes = shown["nodes"].as_array().expect("a list");
    let row = |at: usize, column: usize| nodes[at][column].as_str().expect("text").to_owned();
    // Node, role, region, zone, state, ring, streams, arrivals, version.
    assert_eq!((row(0, 0), row(1, 0)), ("edge-other".to_owned(), "edge-shown".to_owned()), "{shown}");
    assert_eq!((row(0, 3), row(1, 3)), ("b".to_owned(), "a".to_owned()), "{shown}");
    for at in 0..2 {
        assert_eq!((row(at, 1), row(at, 4)), ("edge".to_owned(), "here".to_owned()), "{shown}");
        assert!(row(at, 5).ends_with(" %"), "{shown}");
    }
    let share = |at: usize| row(at, 5).trim_end_matches(" %").parse::<f64>().expect("a number");
    assert!((share(0) + share(1) - 100.0).abs() < 0.2, "together they have the whole ring: {shown}");
    let cards = shown["clusterCards"].to_string();
    assert!(["Lease", "View", "Age of the view", "Ring"].iter().all(|card| cards.contains(card)), "{shown}");
    let journal = shown["journal"].to_string();
    assert!(journal.contains("told of a gap") && journal.contains("this process is ready"), "{shown}");
    assert_eq!(shown["errors"], serde_json::json!([]), "{shown}");
}

/// Somebody comes from a history that never was.
async fn told_of_a_gap(server: &Evergate) {
    let mut subscriber = Subscription::resume(server.http(), "/v1/streams/quote/events", "1-1").await;
    subscriber.opened().await;
    subscriber.control("evergate.gap").await;
}

/// What the admin page is told first.
async fn first_state(server: &Evergate) -> Value {
    let token = format!("Bearer {ADMIN_TOKEN}");
    let request = Request::get("/admin/events").header("authorization", token);
    let state = Subscription::request(server.admin(), &request).await.frame().await;
    serde_json::from_str(&state.data).expect("JSON")
}

/// Starts one of our scripts under the pinned Node.js.
fn node<S: AsRef<OsStr>>(pinned: &Pinned, path: &str, arguments: &[S]) -> Program {
    let mut words = vec![script(path).into_os_string()];
    words.extend(arguments.iter().map(|word| word.as_ref().to_owned()));
    Program::start(&pinned.node, &words, &[("NODE_PATH", pinned.node_modules.as_os_str())])
}
