//! Nodes that are killed, stand still, or are started again one by one.

use rustix::process::Signal;

use super::cluster::Cluster;

fn other(cluster: &Cluster, than: u64) -> u64 {
    cluster.ids().into_iter().find(|id| *id != than).expect("another")
}

#[test]
fn what_was_acknowledged_survives_the_leaders_death() {
    for count in [3, 5] {
        let mut cluster = Cluster::running(count);
        for _ in 0..2 {
            let leader = cluster.leader();
            let through = other(&cluster, leader);
            cluster.append_for_sure(through, 30);
            // Some are under way, and nobody knows what becomes of them.
            let under_way: Vec<_> = (0..20).map(|_| cluster.begin(through)).collect();
            cluster.kill(leader);
            for (word, answer) in under_way {
                let answer = answer.recv_timeout(super::cluster::PATIENCE).ok();
                cluster.note(&word, answer.as_deref());
            }
            cluster.leader();
            cluster.append_for_sure(through, 30);
            cluster.agree();
            cluster.start(leader);
        }
        cluster.judge();
    }
}

#[test]
fn a_leader_that_stood_still_leads_no_more_and_loses_nothing() {
    let mut cluster = Cluster::running(3);
    let leader = cluster.leader();
    let through = other(&cluster, leader);
    cluster.append_for_sure(through, 20);
    cluster.signal(leader, Signal::STOP);
    let rest: Vec<_> = cluster.ids().into_iter().filter(|id| *id != leader).collect();
    let term = cluster.see(through).term;
    cluster.leader_of(&rest);
    cluster.append_for_sure(through, 20);
    cluster.signal(leader, Signal::CONT);
    cluster.leader();
    assert!(cluster.see(leader).term > term, "it has heard of the new term");
    cluster.judge();
}

#[test]
fn all_are_killed_at_once_and_all_is_there_again() {
    let mut cluster = Cluster::running(3);
    cluster.append_for_sure(1, 100);
    for id in cluster.ids() {
        cluster.kill(id);
    }
    let mut cluster = cluster.up();
    cluster.judge();
}

#[test]
fn a_rolling_restart_loses_nothing_and_snapshots_carry_over() {
    let mut cluster = Cluster::of(3);
    // So that logs are cut behind snapshots all the time.
    cluster.snapshot_entries = 5;
    let mut cluster = cluster.up();
    for id in cluster.ids() {
        cluster.append_for_sure(id, 40);
        cluster.stop(id);
        let left = other(&cluster, id);
        let rest: Vec<_> = cluster.ids().into_iter().filter(|other| *other != id).collect();
        cluster.leader_of(&rest);
        cluster.append_for_sure(left, 40);
        cluster.start(id);
        cluster.leader();
    }
    cluster.judge();
    for id in cluster.ids() {
        assert!(cluster.see(id).snapshot > 0, "node {id} never made a snapshot");
    }
}
