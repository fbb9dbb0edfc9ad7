//! Members that come, go, and take each other's place.

use super::cluster::Cluster;

#[test]
fn a_voter_is_replaced_from_nothing_by_what_the_log_has_no_more() {
    let mut cluster = Cluster::of(3);
    cluster.snapshot_entries = 5;
    let mut cluster = cluster.up();
    cluster.append_for_sure(1, 200);
    let leader = cluster.leader();
    let gone = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.kill(gone);
    cluster.append_for_sure(leader, 50);

    let address = cluster.place(4);
    cluster.launch(4, "test", "");
    assert_eq!(cluster.said(4), "up");
    assert_eq!(cluster.call(leader, &format!("add 4 {address}")), "ok");
    cluster.wait("the new one to catch up", |cluster| cluster.call(leader, "promote 4") == "ok");
    assert_eq!(cluster.call(leader, &format!("remove {gone}")), "ok");
    cluster.forget(gone);
    let mut voters = cluster.see(leader).voters;
    voters.sort_unstable();
    assert_eq!(voters, cluster.ids());
    cluster.judge();
}

#[test]
fn members_learn_vote_and_go_by_what_any_node_is_asked() {
    let mut cluster = Cluster::running(3);
    let leader = cluster.leader();
    let through = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    let address = cluster.place(4);
    cluster.launch(4, "test", "");
    assert_eq!(cluster.said(4), "up");
    let nobody = cluster.call(through, "promote 4");
    assert_eq!(nobody, "no node 4 is no member");
    for _ in 0..2 {
        assert_eq!(cluster.call(through, &format!("add 4 {address}")), "ok", "and again");
    }
    let wrong = cluster.call(through, &format!("add 5 {address}"));
    assert!(wrong.contains("node 4 is at") && wrong.contains("not node 5"), "{wrong}");
    cluster.wait("it learns", |cluster| cluster.see(4).learners == [4]);
    // What is written through it reaches the leader.
    cluster.append_for_sure(4, 5);
    cluster.wait("it votes", |cluster| cluster.call(through, "promote 4") == "ok");
    assert_eq!(cluster.call(through, "demote 4"), "ok");
    cluster.wait("it learns again", |cluster| cluster.see(4).learners == [4]);
    assert_eq!(cluster.call(through, "remove 4"), "ok");
    cluster.kill(4);
    cluster.forget(4);
    assert_eq!(cluster.see(leader).voters, [1, 2, 3]);
    cluster.judge();
}

#[test]
fn a_leader_that_is_removed_leaves_a_group_that_goes_on() {
    let mut cluster = Cluster::running(3);
    cluster.append_for_sure(1, 10);
    let leader = cluster.leader();
    assert_eq!(cluster.call(leader, &format!("remove {leader}")), "ok");
    cluster.kill(leader);
    cluster.forget(leader);
    cluster.leader();
    cluster.judge();
}
