//! Commands that come at the same time share entries: an entry costs every node a sync.

use super::cluster::Cluster;

#[test]
fn commands_that_come_together_share_entries() {
    const COMMANDS: u64 = 500;
    let mut cluster = Cluster::running(3);
    cluster.append_for_sure(1, 1);
    let leader = cluster.leader();
    let (entries, words) = (cluster.see(leader).last, cluster.count(leader));
    cluster.append(leader, COMMANDS);
    let entries = cluster.see(leader).last - entries;
    let words = (cluster.count(leader) - words) as u64;
    println!("{words} commands in {entries} entries");
    assert!(words > COMMANDS / 2, "{words} of {COMMANDS} were taken");
    assert!(entries < words, "{words} commands took {entries} entries");
    cluster.judge();
}
