//! What befalls control nodes one at a time: a restart, a disk that is full, a clock that is wrong.

use std::time::{SystemTime, UNIX_EPOCH};

use evergate_proto::control::v1 as proto;
use evergate_tests::clock::Clock;
use evergate_tests::controls::{Controls, Plan, wait};
use evergate_tests::left_out::left_out;
use evergate_tests::tiny_disk::TinyDisk;
use proto::admin_client::AdminClient;
use tokio::task::JoinSet;

use crate::scene::Scene;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_restart_of_all_control_nodes_one_by_one_is_not_noticed() {
    const TEST: &str = "a_restart_of_all_control_nodes_one_by_one_is_not_noticed";
    let Some(mut scene) = Scene::set(TEST, Plan::of(3), 2, 30).await else { return };
    for at in 0..3 {
        scene.change(at).await;
        let status = scene.controls.end(at).await;
        assert!(status.success(), "{status}");
        scene.audience.injected();
        let rest = scene.besides(&[at]);
        scene.controls.leader_of(&rest).await;
        scene.change(rest[0]).await;
        scene.look(&rest);
        scene.controls.restart(at).await;
    }
    scene.one_history().await;
    scene.leases().await;
    scene.nobody_was_lost();
    scene.audience.goes_on().await;
    assert_eq!(scene.audience.cuts(), 0, "no stream ended");
    let totals = scene.audience.judge(0, 3).await;
    println!("{totals:?}, 0 lost, 0 doubled, no stream ended by three restarts");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn clocks_that_are_set_make_no_difference() {
    const TEST: &str = "clocks_that_are_set_make_no_difference";
    let clocks = match (Clock::hang(), Clock::hang()) {
        (Ok(one), Ok(other)) => [one, other],
        (Err(why), _) | (_, Err(why)) => return left_out(TEST, &why),
    };
    let plan = Plan::of(3).launched_by(0, &clocks[0].launcher()).launched_by(1, &clocks[1].launcher());
    let Some(mut scene) = Scene::set(TEST, plan, 2, 30).await else { return };
    let leader = scene.controls.leader().await;
    let term = async |controls: &Controls| controls.figure(2, "evergate_raft_term").await;
    println!("{:?} is the term before any clock is set", term(&scene.controls).await);
    for seconds in [600, -600] {
        clocks[0].set(seconds);
        clocks[1].set(-seconds);
        scene.audience.injected();
        // They do go by those clocks, where it is only written down what they show.
        for (at, by) in [(0, seconds), (1, -seconds), (2, 0)] {
            scene.shows(at, by).await;
        }
        scene.one_history().await;
    }
    println!("{:?} is the term after", term(&scene.controls).await);
    scene.leases().await;
    scene.nobody_was_lost();
    assert_eq!(scene.audience.cuts(), 0, "no stream ended");

    // One that starts with a wrong clock, and an election by it.
    clocks[0].set(600);
    let rest = scene.besides(&[leader]);
    scene.controls.kill(leader);
    scene.audience.injected();
    scene.controls.leader_of(&rest).await;
    scene.change(rest[0]).await;
    scene.controls.restart(leader).await;
    scene.one_history().await;
    scene.nobody_was_lost();
    scene.audience.goes_on().await;
    assert_eq!(scene.audience.cuts(), 0, "no stream ended");
    scene.audience.judge(0, 3).await;
}

impl Scene {
    /// Has changes agreed on through a control node until the time that is written down by it is so far off.
    async fn shows(&mut self, at: usize, seconds: i64) {
        loop {
            self.change(at).await;
            let now = SystemTime::now().duration_since(UNIX_EPOCH).expect("it is later than that").as_secs();
            let audit = self.controls.json(at, &["audit", "--max", "1"]).expect("it is told");
            let shown = seconds_of_day(audit[0]["at"].as_str().expect("a time"));
            let off = (shown - now.cast_signed() - seconds).rem_euclid(86_400);
            if off.min(86_400 - off) < 120 {
                return;
            }
        }
    }
}

/// Of `2026-01-02T03:04:05Z`, or with parts of seconds.
fn seconds_of_day(time: &str) -> i64 {
    let (_, clock) = time.split_once('T').expect("a date and a time");
    let mut parts = clock[..8].split(':').map(|part| part.parse::<i64>().expect("a number"));
    let mut next = || parts.next().expect("hours, minutes and seconds");
    next() * 3_600 + next() * 60 + next()
}

/// Has many changes agreed on, whatever becomes of each.
async fn many(controls: &Controls, through: usize, round: usize) {
    let channel = tonic::transport::Endpoint::from_shared(format!("http://{}", controls.address(through)));
    let Ok(channel) = channel.expect("an address").connect().await else { return };
    let token = std::fs::read_to_string(controls.token()).expect("the folder is ours");
    let mut asking = JoinSet::new();
    for number in 0..50 {
        let (mut admin, token) = (AdminClient::new(channel.clone()), token.clone());
        asking.spawn(async move {
            let host = format!("{}.{round}", "x".repeat(240));
            let region = proto::Region { name: format!("r{number}"), public_host: host, zones: Vec::new() };
            let what = Some(proto::command::What::SetRegion(region));
            let request = proto::ExecuteRequest { command: Some(proto::Command { what }) };
            let mut request = tonic::Request::new(request);
            request.metadata_mut().insert("authorization", format!("Bearer {token}").parse().expect("plain"));
            // Nobody has promised anything.
            drop(admin.execute(request).await);
        });
    }
    while asking.join_next().await.is_some() {}
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_control_node_whose_disk_is_full_says_so_and_comes_back() {
    const TEST: &str = "a_control_node_whose_disk_is_full_says_so_and_comes_back";
    let disk = match TinyDisk::mount(24) {
        Ok(disk) => disk,
        Err(why) => return left_out(TEST, &why),
    };
    let plan = Plan::of(3).housed(2, &disk.path().join("control")).launched_by(2, &disk.launcher());
    let Some(mut scene) = Scene::set(TEST, plan, 2, 30).await else { return };
    scene.change(0).await;
    disk.fill(0);
    scene.audience.injected();
    // It needs some entries until its file wants to grow.
    let mut round = 0;
    wait("the end of the disk", async || {
        round += 1;
        many(&scene.controls, 0, round).await;
        scene.controls.has_ended(2).then_some(())
    })
    .await;
    let status = scene.controls.ended(2).await;
    assert_eq!(status.code(), Some(1), "{status}");
    let said = scene.controls.output(2);
    assert!(said.contains("No space left on device") && said.contains("takes no part any more"), "{said}");

    scene.controls.leader_of(&[0, 1]).await;
    scene.change(1).await;
    scene.leases().await;
    scene.audience.goes_on().await;
    disk.empty();
    scene.controls.restart(2).await;
    scene.one_history().await;
    scene.change(2).await;
    scene.one_history().await;
    scene.nobody_was_lost();
    assert_eq!(scene.audience.cuts(), 0, "no stream ended");
    scene.audience.judge(0, 1).await;
}
