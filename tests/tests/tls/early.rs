//! TLS 1.3's early data, taken by the edge: a stream is answered a round trip earlier, nothing that could be
//! sent again changes anything, and whoever does not end its handshake is not there for long.

use std::fs;
use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use evergate_tests::PATIENCE;
use evergate_tests::authority::{Authority, over_tls, text};
use evergate_tests::clients::system;
use evergate_tests::early::{Returning, replay};
use evergate_tests::figures::until_metric;
use evergate_tests::http1::{Connection, Request, Response};
use evergate_tests::http2::Client;
use evergate_tests::issuer::Issuer;
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::{End, Subscription};
use rustix::process::Signal;
use serde_json::json;
use tokio::io::AsyncWriteExt as _;
use tokio::net::{TcpSocket, TcpStream};
use tokio::task::JoinSet;

use crate::{EVENTS, HERE, metric};

const REQUESTS: &str = "evergate_early_requests_total";
const HANDSHAKES: &str = "evergate_tls_handshakes_total";
const ENDED: &str = "evergate_connections_ended_total";

/// What lets clients be heard early, unless a flag says something else.
fn taking(options: Options) -> Options {
    options.configured("[tls]\nresumption = \"sessions\"\nearly_data_bytes_max = \"16KiB\"\n")
}

/// A server that takes early data, and a client over HTTP/1.1 that has been there.
async fn known_to(options: Options) -> (Authority, Evergate, Returning) {
    let authority = Authority::new();
    let options = over_tls(taking(options), &authority.sign("edge", &HERE));
    let server = Evergate::start(options).await;
    let client = Returning::new(&authority, "http/1.1");
    client.visit(server.http()).await;
    (authority, server, client)
}

async fn requests(server: &Evergate, outcome: &str) -> f64 {
    metric(server, REQUESTS, &["taken_by=\"edge\"", &format!("outcome=\"{outcome}\"")]).await
}

async fn heard_early(server: &Evergate) -> f64 {
    metric(server, HANDSHAKES, &["listener=\"http\"", "outcome=\"early\""]).await
}

/// The answer to a request that came early and whose client never ends its handshake.
async fn answered_early(server: &Evergate, client: &Returning, request: &Request) -> Response {
    client.visit(server.http()).await;
    let mut wire = client.come(server.http()).await;
    wire.write_all(&request.encode()).await.expect("taken");
    assert!(wire.shake().await, "the server took it");
    Connection::over(wire).read_response(false).await
}

fn post(text: &str) -> Request {
    Request::post(EVENTS, "text/plain", text)
}

/// All that is in the stream, with a last event that is published for it.
async fn log(server: &Evergate, client: &Returning) -> Vec<String> {
    Publisher::connect(server.grpc()).await.publish_all("s", ["the end"]).await;
    let mut wire = client.come(server.http()).await;
    wire.shake().await;
    wire.hold().release();
    let mut connection = Connection::over(wire);
    connection.send(&Request::get(&format!("{EVENTS}?from=earliest"))).await;
    let mut all = Subscription::over(connection).await.expect("answered");
    all.opened().await;
    let mut data = Vec::new();
    while data.last().is_none_or(|last| last != "the end") {
        data.append(&mut all.data(1).await);
    }
    data
}

#[tokio::test]
async fn a_stream_is_answered_before_its_client_has_ended_the_handshake_and_loses_nothing_by_it() {
    let (_, server, client) = known_to(Options::disk()).await;
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", ["1", "2"]).await;
    let open = async |request: &Request| {
        let mut wire = client.come(server.http()).await;
        let hold = wire.hold();
        wire.write_all(&request.encode()).await.expect("taken");
        assert!(wire.shake().await, "the server took it");
        let connection = Connection::over(wire);
        (Subscription::over(connection).await.expect("answered"), hold)
    };

    let (mut stream, hold) = open(&Request::get(&format!("{EVENTS}?from=earliest"))).await;
    stream.opened().await;
    assert_eq!(stream.data(2).await, ["1", "2"], "what was there, before the handshake is over");
    publisher.publish_all("s", ["3"]).await;
    assert_eq!(stream.data(1).await, ["3"], "and what is new");
    assert!(metric(&server, "evergate_connections_parked", &[]).await < 0.5, "no shard has it yet");
    assert_eq!((requests(&server, "answered").await, heard_early(&server).await), (1.0, 1.0));

    hold.release();
    publisher.publish_all("s", ["4"]).await;
    assert_eq!(stream.data(1).await, ["4"]);
    until_metric(&server, "evergate_connections_parked", "", 1.0, PATIENCE).await;
    publisher.publish_all("s", ["5", "6"]).await;
    let events = stream.events(2).await;
    let id = events[0].must_id().to_owned();
    assert_eq!((events[0].data.as_str(), events[1].data.as_str()), ("5", "6"));
    drop(stream);

    // It has brought new sessions home, of the connection that began early.
    let (mut again, hold) = open(&Request::get(EVENTS).header("Last-Event-ID", &id)).await;
    assert_eq!(again.opened().await.resume, "exact");
    hold.release();
    publisher.publish_all("s", ["7"]).await;
    assert_eq!(again.data(2).await, ["6", "7"]);
}

#[tokio::test]
async fn what_would_change_something_is_refused_until_the_handshake_is_over() {
    let (_, server, client) = known_to(Options::memory()).await;
    let early = async |request: Request| answered_early(&server, &client, &request).await;
    for request in [
        post("early"),
        Request::get(&format!("{EVENTS}?client_id=ann")),
        Request::get(&format!("{EVENTS}?ticket=one")),
        Request::post("/v1/acks", "application/json", "{}"),
        Request::new("DELETE", EVENTS),
    ] {
        assert_eq!(early(request).await.problem(425)["code"], "too-early");
    }
    assert_eq!(early(Request::get("/v1/route")).await.status(), 200);
    assert_eq!(early(Request::new("OPTIONS", EVENTS)).await.status(), 204);
    assert_eq!((requests(&server, "answered").await, requests(&server, "refused").await), (2.0, 5.0));

    // On the same connection, once the handshake is over.
    client.visit(server.http()).await;
    let mut wire = client.come(server.http()).await;
    let hold = wire.hold();
    wire.write_all(&post("again").encode()).await.expect("taken");
    assert!(wire.shake().await, "the server took it");
    let mut connection = Connection::over(wire);
    connection.read_response(false).await.problem(425);
    hold.release();
    assert_eq!(connection.call(&post("again")).await.status(), 200, "it is an ordinary one now");
    assert_eq!(log(&server, &client).await, ["again", "the end"]);
}

#[tokio::test]
async fn a_token_opens_a_stream_early_and_a_ticket_is_not_used_up() {
    let issuer = Issuer::new("issuer");
    let (_, server, client) =
        known_to(issuer.guard(Options::memory()).set("access.anonymous_publish", "s")).await;
    let bearer = format!("Bearer {}", issuer.token("alice", 600, &json!({ "subscribe": ["s"] })));
    let mut wire = client.come(server.http()).await;
    wire.shake().await;
    wire.hold().release();
    let given = Request::new("POST", "/v1/tickets").header("Authorization", &bearer);
    let given = Connection::over(wire).call(&given).await;
    let ticket = given.json()["ticket"].as_str().expect("a ticket").to_owned();

    let by_ticket = Request::get(&format!("{EVENTS}?ticket={ticket}"));
    for _ in 0..2 {
        answered_early(&server, &client, &by_ticket).await.problem(425);
    }
    answered_early(&server, &client, &Request::get(EVENTS)).await.problem(401);
    for (request, early) in
        [(Request::get(EVENTS).header("Authorization", &bearer), true), (by_ticket, false)]
    {
        client.visit(server.http()).await;
        let mut wire = client.come(server.http()).await;
        if !early {
            wire.shake().await;
            wire.hold().release();
        }
        let mut connection = Connection::over(wire);
        connection.send(&request).await;
        Subscription::over(connection).await.expect("answered").opened().await;
    }
    assert_eq!(requests(&server, "refused").await, 2.0);
}

#[tokio::test]
async fn what_was_recorded_is_taken_once_however_often_it_is_sent() {
    const TIMES: usize = 8;
    let (_, server, client) = known_to(Options::memory().set("tls.handshake_timeout", "700ms")).await;
    let again = async |recorded: Vec<u8>| {
        let mut replays = JoinSet::new();
        for _ in 0..TIMES {
            let (address, recorded) = (server.http(), recorded.clone());
            replays.spawn(async move { replay(address, &recorded).await });
        }
        while let Some(came) = replays.join_next().await {
            assert!(came.expect("hung up on") > 100, "a handshake is begun with everybody");
        }
    };
    // All at once, each until it is cut, as none can end its handshake.
    again(client.recorded(&Request::get(EVENTS).encode())).await;
    assert_eq!((requests(&server, "answered").await, heard_early(&server).await), (1.0, 1.0));
    assert_eq!(metric(&server, "evergate_streams_total", &[]).await, 1.0);
    again(client.recorded(&post("recorded").encode())).await;
    assert_eq!((requests(&server, "refused").await, heard_early(&server).await), (1.0, 2.0));
    assert_eq!(metric(&server, ENDED, &["reason=\"tls-timeout\""]).await, 2.0);
    let refused = metric(&server, "evergate_connections_refused_total", &["reason=\"tls-timeout\""]).await;
    assert_eq!(refused, 2.0 * (TIMES as f64 - 1.0), "the others were never heard");
    assert_eq!(log(&server, &client).await, ["the end"]);
}

#[tokio::test]
async fn nobody_is_heard_for_longer_than_a_handshake_may_take() {
    let options = Options::memory().set("tls.handshake_timeout", "500ms");
    let (authority, server, client) = known_to(options).await;
    let stream = async || {
        let mut wire = client.come(server.http()).await;
        let hold = wire.hold();
        wire.write_all(&Request::get(EVENTS).encode()).await.expect("taken");
        assert!(wire.shake().await, "the server took it");
        let mut stream = Subscription::over(Connection::over(wire)).await.expect("answered");
        stream.opened().await;
        (stream, hold)
    };
    let publisher = Publisher::connect(server.grpc()).await;
    let (mut kept, hold) = stream().await;
    hold.release();
    publisher.publish_all("s", ["here"]).await;
    assert_eq!(kept.data(1).await, ["here"]);
    client.visit(server.http()).await;
    let (mut slow, _) = stream().await;
    assert_eq!(slow.end().await.1, End::Cut, "without a last chunk");
    // One that says nothing, one that has its answer, and one over HTTP/2.
    client.visit(server.http()).await;
    let mut silent = client.come(server.http()).await;
    assert!(silent.shake().await, "offered without a word");
    let mut answered = client.come(server.http()).await;
    answered.write_all(&Request::get("/v1/route").encode()).await.expect("taken");
    let mut answered = Connection::over(answered);
    assert_eq!(answered.read_response(false).await.status(), 200);
    for mut connection in [Connection::over(silent), answered] {
        while connection.read_more(PATIENCE).await.is_ok_and(|n| n > 0) {}
    }
    let http2 = Returning::new(&authority, "h2");
    let first = http2.come(server.http()).await;
    first.hold().release();
    let mut first = Client::over(first, "localhost").await;
    assert_eq!(first.call("GET", "/v1/route", &[], "").await.status(), 200);
    let mut held = Client::over(http2.come(server.http()).await, "localhost").await;
    assert_eq!(held.call("GET", "/v1/route", &[], "").await.status(), 200);
    held.closed(PATIENCE).await;
    until_metric(&server, ENDED, "reason=\"tls-timeout\"", 4.0, PATIENCE).await;

    // The first one's time was over before that of the second.
    publisher.publish_all("s", ["there"]).await;
    assert_eq!(kept.data(1).await, ["there"]);
}

#[tokio::test]
async fn over_http2_streams_are_opened_early_and_publishes_are_not() {
    let (authority, server, _) = known_to(Options::memory()).await;
    let client = Returning::new(&authority, "h2");
    let first = client.come(server.http()).await;
    first.hold().release();
    let mut first = Client::over(first, "localhost").await;
    assert_eq!(first.call("GET", "/v1/route", &[], "").await.status(), 200);

    let wire = client.come(server.http()).await;
    let hold = wire.hold();
    let mut early = Client::over(wire, "localhost").await;
    let mut stream = Subscription::over_http2(&mut early, EVENTS, &[]).await;
    stream.opened().await;
    assert_eq!((requests(&server, "answered").await, heard_early(&server).await), (1.0, 1.0));
    let publisher = Publisher::connect(server.grpc()).await;
    publisher.publish_all("s", ["1"]).await;
    assert_eq!(stream.data(1).await, ["1"], "the handshake is still not over");
    hold.release();
    let text = [("content-type", "text/plain")];
    assert_eq!(early.call("POST", EVENTS, &text, "2").await.status(), 200, "now it is");
    assert_eq!(stream.data(1).await, ["2"]);

    let mut held = Client::over(client.come(server.http()).await, "localhost").await;
    let refused = held.call("POST", EVENTS, &text, "early").await;
    assert_eq!(refused.problem(425)["code"], "too-early");
    publisher.publish_all("s", ["3"]).await;
    assert_eq!(stream.data(1).await, ["3"], "nothing in between");
}

#[tokio::test]
async fn a_client_whose_session_is_forgotten_shakes_hands_in_full_and_asks_again() {
    let authority = Authority::new();
    let shown = authority.sign("edge", &HERE);
    let mut server = Evergate::start(over_tls(taking(Options::disk()), &shown)).await;
    let client = Returning::new(&authority, "http/1.1");
    let comes = async |server: &Evergate, what: &str| {
        let mut wire = client.come(server.http()).await;
        let early = wire.write(&post(what).encode()).await.expect("taken");
        assert!(early > 0, "offered");
        assert!(!wire.shake().await, "{what}: nobody took it");
        wire.hold().release();
        let mut connection = Connection::over(wire);
        assert_eq!(connection.call(&post(what)).await.status(), 200, "{what}");
    };
    client.visit(server.http()).await;
    authority.sign("new", &HERE).replace(&shown);
    server.signal(Signal::HUP);
    server.writes("TLS was made anew of changed files").await;
    comes(&server, "after a new certificate").await;

    // Both sessions of the last time are unknown to the process that comes.
    server.kill();
    server.restart().await;
    comes(&server, "after a restart").await;
    client.visit(server.http()).await;
    server.kill();
    server.set("tls.early_data_bytes_max", "0");
    server.restart().await;
    comes(&server, "when it is off").await;
    assert_eq!(heard_early(&server).await, 0.0);
    assert_eq!(requests(&server, "answered").await + requests(&server, "refused").await, 0.0);
    let all = ["after a new certificate", "after a restart", "when it is off", "the end"];
    assert_eq!(log(&server, &client).await, all, "each once");
}

#[tokio::test]
async fn a_long_replay_does_not_keep_a_client_from_ending_its_handshake() {
    let options = Options::memory().set("tls.handshake_timeout", "500ms").set("retention.bytes", "64MiB");
    let (_, server, client) = known_to(options).await;
    let publisher = Publisher::connect(server.grpc()).await;
    let text = "x".repeat(32 << 10);
    for _ in 0..16 {
        publisher.publish_all("s", (0..16).map(|n| format!("{n} {text}"))).await;
    }
    // A client that takes little at a time, and nothing for a while.
    let socket = TcpSocket::new_v4().expect("a socket");
    socket.set_recv_buffer_size(8 << 10).expect("small");
    let socket = socket.connect(server.http()).await.expect("accepted");
    let mut wire = client.over(socket);
    let hold = wire.hold();
    let request = Request::get(&format!("{EVENTS}?from=earliest"));
    wire.write_all(&request.encode()).await.expect("taken");
    assert!(wire.shake().await, "the server took it");
    hold.release();
    let mut stream = Subscription::over(Connection::over(wire)).await.expect("answered");
    stream.opened().await;
    // Until one that came later has been cut.
    client.visit(server.http()).await;
    let mut slow = client.come(server.http()).await;
    assert!(slow.shake().await, "offered");
    let mut slow = Connection::over(slow);
    while slow.read_more(PATIENCE).await.is_ok_and(|n| n > 0) {}

    for n in 0..16 * 16 {
        let data = stream.data(1).await.remove(0);
        assert_eq!(data, format!("{} {text}", n % 16), "event {n}");
    }
    publisher.publish_all("s", ["live"]).await;
    assert_eq!(stream.data(1).await, ["live"]);
}

#[tokio::test]
async fn clients_that_go_in_the_middle_leave_nothing_behind() {
    let (_, server, client) = known_to(Options::memory()).await;
    let settled = async || {
        for gauge in ["evergate_connections_open", "evergate_streams_open", "evergate_connections_parked"] {
            until_metric(&server, gauge, "", 0.0, PATIENCE).await;
        }
    };
    let descriptors = async |wanted: usize| {
        let deadline = tokio::time::Instant::now() + PATIENCE;
        while server.descriptors() > wanted {
            assert!(tokio::time::Instant::now() < deadline, "{} of {wanted}", server.descriptors());
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    settled().await;
    let before = server.descriptors();
    let request = Request::get(EVENTS).encode();
    for n in 0..60 {
        if n % 2 == 0 {
            client.visit(server.http()).await;
        }
        match n % 3 {
            // Gone before the answer.
            0 => {
                let mut socket = TcpStream::connect(server.http()).await.expect("accepted");
                socket.write_all(&client.recorded(&request)).await.expect("taken");
            }
            // With half of a request.
            1 => {
                let mut wire = client.come(server.http()).await;
                wire.write_all(&request[..20]).await.expect("taken");
                assert!(wire.shake().await, "the server took it");
            }
            // In the middle of a stream.
            _ => {
                let mut wire = client.come(server.http()).await;
                wire.write_all(&request).await.expect("taken");
                let mut stream = Subscription::over(Connection::over(wire)).await.expect("answered");
                stream.opened().await;
            }
        }
    }
    settled().await;
    // The page that is asked has its own.
    descriptors(before + 2).await;
    assert!(heard_early(&server).await >= 40.0);
}

/// What `openssl s_client` tells of a connection with these arguments, on which it says this, until the server
/// hangs up.
fn s_client(
    openssl: &Path,
    authority: &Authority,
    server: &Evergate,
    says: &Path,
    arguments: &[&str],
) -> String {
    let address = format!("localhost:{}", server.http().port());
    let ca = authority.file();
    let output = std::process::Command::new(openssl)
        .args(["s_client", "-connect", &address, "-servername", "localhost", "-CAfile", text(&ca)])
        .args(["-alpn", "http/1.1", "-ign_eof"])
        .args(arguments)
        .stdin(fs::File::open(says).expect("written"))
        .output()
        .expect("openssl can be started");
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

/// Has openssl believe of a session in its own format that it may bring much more than it was offered.
fn allow_more(session: &Path) {
    let pem = fs::read_to_string(session).expect("openssl wrote it");
    let base64: String = pem.lines().filter(|line| !line.starts_with('-')).collect();
    let mut der = STANDARD.decode(base64).expect("PEM");
    // The field 15, a number of two bytes: 1000.
    let at = der.windows(6).position(|field| field == [0xaf, 4, 2, 2, 0x03, 0xe8]).expect("it was offered");
    der[at + 4..at + 6].copy_from_slice(&[0x7f, 0xff]);
    let base64 = STANDARD.encode(der);
    let lines: Vec<_> = base64.as_bytes().chunks(64).map(String::from_utf8_lossy).collect();
    let begin = "-----BEGIN SSL SESSION PARAMETERS-----";
    let end = "-----END SSL SESSION PARAMETERS-----";
    fs::write(session, format!("{begin}\n{}\n{end}\n", lines.join("\n"))).expect("the folder is ours");
}

#[tokio::test]
async fn openssl_is_heard_early_and_ends_if_it_says_more_than_it_may() {
    const TEST: &str = "openssl_is_heard_early_and_ends_if_it_says_more_than_it_may";
    let Some(openssl) = system(TEST, &["openssl"]) else { return };
    let authority = Authority::new();
    let options = over_tls(taking(Options::memory()), &authority.sign("edge", &HERE));
    let options = options.set("tls.early_data_bytes_max", "1000").set("http.head_timeout", "1s");
    let server = Evergate::start(options).await;
    let file = |name: &str, content: String| {
        let path = authority.path(name);
        fs::write(&path, content).expect("the folder is ours");
        path
    };
    let request = |pad: usize| {
        let pad = "x".repeat(pad);
        format!("GET /v1/route HTTP/1.1\r\nHost: h\r\nX-Pad: {pad}\r\nConnection: close\r\n\r\n")
    };
    let (short, long) = (file("short", request(0)), file("long", request(5_000)));
    let nothing = file("nothing", String::new());
    let session = authority.path("session.pem");
    let visit = || {
        let told = s_client(&openssl, &authority, &server, &short, &["-sess_out", text(&session)]);
        assert!(told.contains("HTTP/1.1 200"), "{told}");
    };
    let come = |says: &Path| {
        let arguments = ["-sess_in", text(&session), "-early_data", text(says)];
        s_client(&openssl, &authority, &server, &nothing, &arguments)
    };
    visit();
    let told = come(&short);
    assert!(told.contains("Early data was accepted") && told.contains("HTTP/1.1 200"), "{told}");
    assert_eq!((requests(&server, "answered").await, heard_early(&server).await), (1.0, 1.0));
    // The same session again: it has been used up.
    let told = come(&short);
    assert!(told.contains("Early data was rejected"), "{told}");
    visit();
    allow_more(&session);
    let told = come(&long);
    assert!(told.contains("alert unexpected message") && !told.contains("HTTP/1.1"), "{told}");
    assert_eq!(requests(&server, "answered").await, 1.0);
    visit();
}
