//! How a group comes into being, and what does not become part of one.

use super::cluster::Cluster;

#[test]
fn a_group_is_founded_once_whoever_is_late_and_whoever_is_started_again() {
    let mut cluster = Cluster::of(3);
    cluster.start(3);
    cluster.start(1);
    std::thread::sleep(std::time::Duration::from_secs(1));
    assert!(cluster.see(1).voters.is_empty(), "two of three found nothing");
    cluster.kill(1);
    cluster.start(1);
    cluster.start(2);
    cluster.leader();
    assert_eq!(cluster.see(2).voters, [1, 2, 3]);
    cluster.append_for_sure(2, 5);
    // As at every start, they are told of their peers again; it changes nothing.
    for id in cluster.ids() {
        cluster.stop(id);
        cluster.start(id);
        cluster.leader();
    }
    cluster.judge();
}

#[test]
fn nodes_behind_one_name_find_each_other() {
    let mut cluster = Cluster::of(1);
    let address = cluster.address(1);
    let port = address.rsplit_once(':').expect("a port").1.to_owned();
    cluster.tell_peers(&format!("name:1@localhost:{port}"));
    cluster.start(1);
    cluster.wait("the group", |cluster| cluster.see(1).role == "leader");
    cluster.judge();
}

#[test]
fn a_node_that_lost_its_folder_is_refused_under_its_old_id() {
    let mut cluster = Cluster::running(3);
    cluster.append_for_sure(1, 10);
    let leader = cluster.leader();
    let lost = cluster.ids().into_iter().find(|id| *id != leader).expect("a follower");
    cluster.kill(lost);
    cluster.wipe(lost);
    cluster.start(lost);
    let other = cluster.ids().into_iter().find(|id| ![leader, lost].contains(id)).expect("the third");
    // The others are a majority, and go on.
    cluster.append_for_sure(other, 10);
    std::thread::sleep(std::time::Duration::from_secs(2));
    let seen = cluster.see(lost);
    assert!(seen.voters.is_empty() && seen.last == 0, "it was let in: {seen:?}");
    // With only one of them left it must not make a majority: it has forgotten what it had agreed to.
    cluster.kill(leader);
    std::thread::sleep(std::time::Duration::from_secs(5));
    let (word, answer) = cluster.begin(other);
    let answer = answer.recv_timeout(super::cluster::PATIENCE).ok();
    let why = cluster.note(&word, answer.as_deref()).expect("refused");
    assert!(why.contains("no leader"), "{why}");
    cluster.start(leader);
    cluster.leader_of(&[leader, other]);
    // Its place is given to a new one.
    assert_eq!(cluster.call(other, &format!("remove {lost}")), "ok");
    cluster.kill(lost);
    cluster.forget(lost);
    let address = cluster.place(9);
    cluster.launch(9, "test", "");
    assert_eq!(cluster.said(9), "up");
    assert_eq!(cluster.call(other, &format!("add 9 {address}")), "ok");
    cluster.wait("a vote for the new one", |cluster| cluster.call(other, "promote 9") == "ok");
    cluster.judge();
}

#[test]
fn two_clusters_have_nothing_to_say_to_each_other() {
    let mut cluster = Cluster::running(3);
    let address = cluster.place(4);
    cluster.launch(4, "another", "");
    assert_eq!(cluster.said(4), "up");
    let refused = cluster.call(1, &format!("add 4 {address}"));
    assert!(refused.starts_with("no "), "{refused}");
    for words in ["belongs to cluster", "\"another\"", "\"test\""] {
        assert!(refused.contains(words), "{refused}");
    }
    cluster.kill(4);
    cluster.wipe(4);
    cluster.forget(4);
    // Told to be part of it by its own list, it waits for ever.
    let address = cluster.place(4);
    let peers = format!("{},4:{address}", cluster.peers());
    cluster.launch(4, "test", &peers);
    assert_eq!(cluster.said(4), "up");
    std::thread::sleep(std::time::Duration::from_secs(2));
    assert!(cluster.see(4).voters.is_empty());
    assert_eq!(cluster.see(1).voters, [1, 2, 3]);
    cluster.kill(4);
    cluster.forget(4);
    cluster.judge();
}

#[test]
fn a_folder_is_one_nodes_and_one_clusters() {
    let mut cluster = Cluster::running(1);
    cluster.append_for_sure(1, 3);
    cluster.kill(1);
    let peers = cluster.peers();
    cluster.launch(1, "another", &peers);
    let said = cluster.said(1);
    assert!(said.starts_with("failed ") && said.contains("belongs to node 1 of cluster \"test\""), "{said}");
    cluster.kill(1);
    cluster.start(1);
    cluster.judge();
}

#[test]
fn a_program_too_old_for_what_the_group_has_takes_no_part() {
    let mut cluster = Cluster::of(3);
    cluster.format = "2";
    let mut cluster = cluster.up();
    cluster.append_for_sure(1, 10);
    cluster.format = "1";
    let address = cluster.place(4);
    cluster.launch(4, "test", "");
    assert_eq!(cluster.said(4), "up");
    let refused = cluster.call(1, &format!("add 4 {address}"));
    let words = "node 4 reads commands up to format 1, and its cluster has format 2: bring it up to date";
    assert!(refused.contains(words), "{refused}");
    assert_eq!(cluster.see(4).last, 0, "it has nothing of it");
    cluster.kill(4);
    cluster.forget(4);
    // A voter that is put back finds what it cannot read in its own folder.
    cluster.kill(3);
    cluster.launch(3, "test", &cluster.peers());
    let said = cluster.said(3);
    assert!(said.contains("has format 2 of commands; this version reads formats up to 1"), "{said}");
    cluster.kill(3);
    cluster.format = "2";
    cluster.start(3);
    cluster.judge();
}

#[test]
fn a_group_of_two_versions_goes_on_and_writes_what_both_read() {
    let mut cluster = Cluster::running(3);
    cluster.append_for_sure(1, 10);
    // Two of three are brought up to date.
    cluster.format = "2 writing 1";
    for id in [1, 2] {
        cluster.stop(id);
        cluster.start(id);
        cluster.leader();
        for through in cluster.ids() {
            cluster.append_for_sure(through, 5);
        }
    }
    let refused = cluster.call(1, "reads 2");
    assert_eq!(
        refused,
        "no control node 3 reads commands up to format 1, and not 2: bring it up to date first"
    );
    assert_eq!(cluster.call(2, "reads 1"), "ok");
    cluster.stop(3);
    let refused = cluster.call(1, "reads 2");
    assert!(refused.starts_with("no control node 3 cannot be asked what it reads: "), "{refused}");
    cluster.start(3);
    assert_eq!(cluster.call(3, "reads 2"), "ok");

    // From the first of them on, who does not read them is refused, by its own folder too.
    cluster.word_begins = 'n';
    cluster.append_for_sure(3, 5);
    cluster.agree();
    cluster.stop(3);
    cluster.format = "1";
    cluster.launch(3, "test", &cluster.peers());
    let said = cluster.said(3);
    assert!(said.contains("has format 2 of commands; this version reads formats up to 1"), "{said}");
    cluster.kill(3);
    cluster.format = "2 writing 1";
    cluster.start(3);
    cluster.judge();
}

#[test]
fn a_command_that_is_too_large_is_refused_by_its_limit() {
    let mut cluster = Cluster::running(1);
    let answer = cluster.call(1, "large");
    assert_eq!(answer, "no the command has 5000 bytes, and 4096 are allowed");
    cluster.judge();
}
