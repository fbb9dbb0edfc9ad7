//! What comes to the upgrade socket and is no successor, or none in the end: the running process goes on.

use std::fs::{self, Permissions};
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::os::unix::net::UnixStream;
use std::path::Path;

use evergate_tests::PATIENCE;
use evergate_tests::http1::{Request, call};
use evergate_tests::left_out::left_out;
use evergate_tests::process::{Evergate, Options, binary};
use evergate_tests::program::Program;
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use rustix::thread::set_thread_res_uid;
use serde_json::{Value, json};

use crate::Meeting;

/// Somebody who is not us.
const NOBODY: u32 = 65_534;

/// Connects and says something; returns the first line of the answer, if there is one.
fn tell(place: &Path, text: &str) -> (UnixStream, String) {
    let mut stream = UnixStream::connect(place).expect("somebody listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
    stream.write_all(text.as_bytes()).expect("it is read");
    let mut line = String::new();
    // A plain read lets go of the descriptors that come along.
    BufReader::new(stream.try_clone().expect("a handle can be cloned"))
        .read_line(&mut line)
        .expect("the answer is text");
    (stream, line)
}

fn hello(redis: &RedisServer, protocol: u32) -> String {
    let log = format!("redis://127.0.0.1:{}/0", redis.port());
    format!("{}\n", json!({ "say": "hello", "protocol": protocol, "version": "9.9.9", "pid": 1, "log": log }))
}

/// A successor that nobody waits for. Dropping it kills it.
fn program(server: &Evergate, redis: &RedisServer, place: &Path, more: &[&str]) -> Program {
    let log = format!("redis://127.0.0.1:{}/0", redis.port());
    let addresses = [server.http(), server.grpc(), server.admin()].map(|address| address.to_string());
    let [http, grpc, admin] = addresses.each_ref();
    let flags =
        ["dev", "--log", &log, "--http", http, "--grpc", grpc, "--admin", admin, "--takeover", path(place)];
    Program::start(binary(), &[&flags, more].concat(), &[])
}

/// It serves everybody as if nothing had happened.
async fn assert_serves(server: &Evergate, open: &mut Subscription) {
    let event = Request::post("/v1/streams/s/events", "application/json", json!({ "data": "x" }).to_string());
    assert_eq!(call(server.http(), event).await.status(), 200);
    assert_eq!(open.events(1).await[0].data, "x", "who was there before is served on");
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);
    Subscription::open(server.http(), "/v1/streams/s/events").await.opened().await;
}

#[tokio::test]
async fn whoever_is_no_successor_changes_nothing() {
    let test = "whoever_is_no_successor_changes_nothing";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let meeting = Meeting::new();
    let server = Evergate::start(meeting.options(&redis)).await;
    let place = meeting.place();
    let mode = fs::metadata(&place).expect("it is there").permissions().mode();
    assert_eq!(mode & 0o777, 0o600, "for our user only");
    let mut open = Subscription::open(server.http(), "/v1/streams/s/events").await;
    open.opened().await;
    let told = |line: &str| serde_json::from_str::<Value>(line).expect("an answer is JSON");

    let endless = "x".repeat(5_000);
    for garbage in ["GET / HTTP/1.1\r\n\r\n", "{}\n", "{\"say\":\"ready\"}\n", "\n", &endless] {
        let (_, answer) = tell(&place, garbage);
        assert_eq!(told(&answer)["say"], "refused", "{garbage:?}: {answer}");
        assert_eq!(told(&answer)["why"], "the other process does not speak the upgrade protocol");
    }
    let (_, answer) = tell(&place, &hello(&redis, 2));
    let why = "the running process speaks version 1 of the upgrade protocol and the successor version 2; restart instead";
    assert_eq!(told(&answer), json!({ "say": "refused", "why": why }));
    // One that says nothing has five seconds.
    let (_, answer) = tell(&place, "");
    assert_eq!(told(&answer)["why"], "the other process said nothing within 5s");
    // One that gets everything and dies.
    let (stream, answer) = tell(&place, &hello(&redis, 1));
    assert_eq!(told(&answer), json!({ "say": "listeners", "names": ["http", "grpc", "admin"] }));
    drop(stream);
    server.writes("the other process is gone").await;
    assert_serves(&server, &mut open).await;
}

#[tokio::test]
async fn a_successor_that_is_killed_while_it_starts_changes_nothing() {
    let test = "a_successor_that_is_killed_while_it_starts_changes_nothing";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let meeting = Meeting::new();
    let mut server = Evergate::start(meeting.options(&redis)).await;
    let mut open = Subscription::open(server.http(), "/v1/streams/s/events").await;
    open.opened().await;
    // It has the listeners, and waits for its log.
    redis.pause();
    let successor = program(&server, &redis, &meeting.place(), &[]);
    server.writes("a successor is starting").await;
    drop(successor);
    server.writes("no successor took over; this process goes on").await;
    redis.resume();
    assert_serves(&server, &mut open).await;

    // The next one is as welcome as if there had been none before.
    let successor = server.successor(meeting.options(&redis)).await;
    assert_eq!(server.ended(PATIENCE).await.code(), Some(0), "{}", server.output());
    let mut open = Subscription::open(successor.http(), "/v1/streams/s/events").await;
    open.opened().await;
    assert_serves(&successor, &mut open).await;
}

#[tokio::test]
async fn a_successor_that_has_taken_over_does_without_its_ready_file() {
    let test = "a_successor_that_has_taken_over_does_without_its_ready_file";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let meeting = Meeting::new();
    let mut server = Evergate::start(meeting.options(&redis)).await;
    let nowhere = meeting.folder().join("none/ready.json");
    let successor = program(&server, &redis, &meeting.place(), &["--ready-file", path(&nowhere)]);
    assert_eq!(server.ended(PATIENCE).await.code(), Some(0), "{}", server.output());
    // Nobody else would be left.
    assert_eq!(call(server.admin(), Request::get("/readyz")).await.status(), 200);
    Subscription::open(server.http(), "/v1/streams/s/events").await.opened().await;
    drop(successor);
}

#[tokio::test]
async fn a_place_of_a_killed_process_is_taken_again() {
    let Some(redis) = RedisServer::start("a_place_of_a_killed_process", Keeps::Nothing).await else { return };
    let meeting = Meeting::new();
    let mut server = Evergate::start(meeting.options(&redis)).await;
    server.kill();
    assert!(meeting.place().exists());
    server.restart().await;
    let successor = server.successor(meeting.options(&redis)).await;
    assert_eq!(server.ended(PATIENCE).await.code(), Some(0), "{}", server.output());
    assert_eq!(call(successor.admin(), Request::get("/readyz")).await.status(), 200);
}

#[tokio::test]
async fn another_user_is_not_heard() {
    let test = "another_user_is_not_heard";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    if !rustix::process::geteuid().is_root() {
        left_out(test, "only root can speak as somebody else");
        return;
    }
    let meeting = Meeting::new();
    let server = Evergate::start(meeting.options(&redis)).await;
    let mut open = Subscription::open(server.http(), "/v1/streams/s/events").await;
    open.opened().await;
    let place = meeting.place();
    // An operator has opened what should be closed; the socket itself still asks who it is.
    fs::set_permissions(meeting.folder(), Permissions::from_mode(0o755)).expect("it is ours");
    fs::set_permissions(&place, Permissions::from_mode(0o666)).expect("it is ours");
    let text = hello(&redis, 1);
    let speaking = std::thread::spawn(move || {
        let nobody = rustix::process::Uid::from_raw(NOBODY);
        set_thread_res_uid(nobody, nobody, nobody).expect("root can become anybody, this thread only");
        let mut stream = UnixStream::connect(&place).expect("somebody listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a socket has a timeout");
        // It may be closed before this is said.
        let _ = stream.write_all(text.as_bytes());
        let mut answer = Vec::new();
        let _ = stream.read_to_end(&mut answer);
        answer
    });
    assert_eq!(speaking.join().expect("it found nothing wrong"), b"", "not a word for a stranger");
    server.writes("the other process belongs to user 65534 and this one to user 0").await;
    assert_serves(&server, &mut open).await;
}

#[tokio::test]
async fn what_cannot_be_taken_over_is_refused_in_a_sentence() {
    let test = "what_cannot_be_taken_over_is_refused_in_a_sentence";
    let Some(redis) = RedisServer::start(test, Keeps::Nothing).await else { return };
    let meeting = Meeting::new();
    let server = Evergate::start(meeting.options(&redis)).await;
    let mut open = Subscription::open(server.http(), "/v1/streams/s/events").await;
    open.opened().await;
    let place = meeting.place();

    let other = Options::redis(&format!("redis://127.0.0.1:{}/1", redis.port()));
    let said = Evergate::refusal(other.set("upgrade.socket", path(&place))).await;
    assert!(said.contains("the successor's is redis://127.0.0.1"), "{said}");
    let elsewhere = "127.0.0.2".parse().expect("an address");
    let said = Evergate::refusal(meeting.options(&redis).listening_at(elsewhere)).await;
    assert!(said.contains("an upgrade cannot change it, a restart can"), "{said}");
    for options in [Options::memory(), Options::disk()] {
        let said = Evergate::refusal(options.set("upgrade.socket", path(&place))).await;
        assert!(said.contains("needs a log in Redis"), "{said}");
    }
    assert_serves(&server, &mut open).await;

    let file = meeting.folder().join("file");
    fs::write(&file, "precious").expect("it is ours");
    let said = Evergate::refusal(redis.options().set("upgrade.socket", path(&file))).await;
    assert!(said.contains("is there already and is no socket"), "{said}");
    assert_eq!(fs::read_to_string(&file).expect("it is still there"), "precious");
    fs::set_permissions(meeting.folder(), Permissions::from_mode(0o777)).expect("it is ours");
    let said = Evergate::refusal(meeting.options(&redis)).await;
    assert!(said.contains("can be written to by others (mode 777)"), "{said}");
}

fn path(path: &Path) -> &str {
    path.to_str().expect("a plain path")
}
