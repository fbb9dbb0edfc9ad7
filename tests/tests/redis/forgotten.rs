//! Redis has forgotten everything: whoever was there is told, old positions are no positions, and no
//! id is used twice.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use evergate_tests::PATIENCE;
use evergate_tests::offset::{Offset, offset};
use evergate_tests::process::Evergate;
use evergate_tests::publisher::{Publisher, produced};
use evergate_tests::redis::{Keeps, RedisServer};
use evergate_tests::subscription::Subscription;
use serde_json::Value;
use tonic::Code;

const EVENTS: &str = "/v1/streams/s/events";
const LIVES: u64 = 4;
/// Events in each life.
const EACH: u64 = 10;

/// Publishes an event of a producer until it is taken.
async fn publish(publisher: &Publisher, seq: u64, text: &str) -> Offset {
    let deadline = Instant::now() + PATIENCE;
    loop {
        match publisher.try_publish("s", produced("p", seq, text)).await {
            Ok(answer) => return offset(&answer.offset),
            Err(status) => {
                assert_eq!(status.code(), Code::Unavailable, "{status:?}");
                assert!(Instant::now() < deadline, "Redis is there again, but {status:?}");
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        }
    }
}

fn assert_tells_all_is_lost(told: &Value) {
    assert_eq!(told["stream"], "s");
    assert_eq!(told["reason"], "unknown", "nothing is known of what was there: {told}");
    assert!(told["lost"].is_null(), "nobody can know: {told}");
}

/// A position of an earlier life is met by a gap, and then comes all there is.
async fn assert_is_no_position(server: &Evergate, old: Offset, now: &[(Offset, String)]) {
    let mut stream = Subscription::resume(server.http(), EVENTS, &old.to_string()).await;
    let opened = stream.opened().await;
    assert_eq!((opened.resume.as_str(), opened.frame.offset()), ("gap", old));
    let told = stream.control("evergate.gap").await.json();
    assert_tells_all_is_lost(&told);
    assert_eq!(told["requested"], old.to_string());
    assert_eq!(told["resumed_at"], now[0].0.to_string());
    for (at, text) in now {
        let frame = stream.event().await;
        assert_eq!((frame.offset(), &frame.data), (*at, text), "after {old}");
    }
}

async fn everything_is_forgotten(test: &str, keeps: Keeps, forget: impl AsyncFn(&mut RedisServer)) {
    let Some(mut redis) = RedisServer::start(test, keeps).await else {
        return;
    };
    let servers = [Evergate::start(redis.options()).await, Evergate::start(redis.options()).await];
    let mut publishers = Vec::new();
    let mut live = Vec::new();
    for server in &servers {
        publishers.push(Publisher::connect(server.grpc()).await);
        let mut stream = Subscription::open(server.http(), EVENTS).await;
        stream.opened().await;
        live.push(stream);
    }
    let mut ids: HashMap<Offset, String> = HashMap::new();
    let mut old: Vec<Offset> = Vec::new();
    for life in 0..LIVES {
        let mut now = Vec::new();
        for n in 1..=EACH {
            let (seq, text) = (life * EACH + n, format!("{n} of life {life}"));
            let publisher = &publishers[usize::try_from(seq).expect("small") % publishers.len()];
            let at = publish(publisher, seq, &text).await;
            if let Some(before) = ids.insert(at, text.clone()) {
                panic!("{at} was {before:?} and is {text:?}");
            }
            now.push((at, text));
        }
        for stream in &mut live {
            for (at, text) in &now {
                let frame = stream.event().await;
                assert_eq!((frame.offset(), &frame.data), (*at, text));
            }
        }
        for server in &servers {
            for &old in &old {
                assert_is_no_position(server, old, &now).await;
            }
        }
        old.extend([now[0].0, now[now.len() / 2].0, now[now.len() - 1].0]);
        forget(&mut redis).await;
        // Nobody publishes: who follows is told all the same, within the open stream.
        for stream in &mut live {
            let told = stream.control("evergate.gap").await.json();
            assert_tells_all_is_lost(&told);
            assert_eq!(told["requested"], now[now.len() - 1].0.to_string());
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_flush_is_told_and_no_id_is_used_twice() {
    let test = "a_flush_is_told_and_no_id_is_used_twice";
    everything_is_forgotten(test, Keeps::Everything, async |redis| redis.flush().await).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_without_persistence_is_told_and_no_id_is_used_twice() {
    let test = "a_restart_without_persistence_is_told_and_no_id_is_used_twice";
    everything_is_forgotten(test, Keeps::Nothing, async |redis| {
        redis.kill();
        redis.restart().await;
    })
    .await;
}
