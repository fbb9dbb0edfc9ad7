//! Disks that are full.

use evergate_tests::left_out::left_out;
use evergate_tests::tiny_disk::TinyDisk;

use super::cluster::Cluster;

#[test]
fn a_voter_whose_disk_is_full_stops_and_comes_back() {
    let disk = match TinyDisk::mount(16) {
        Ok(disk) => disk,
        Err(why) => return left_out("a_voter_whose_disk_is_full_stops_and_comes_back", &why),
    };
    let mut cluster = Cluster::of(3);
    cluster.word_bytes = 2000;
    cluster.house(3, disk.path().join("node"), &disk.launcher());
    let mut cluster = cluster.up();
    cluster.append_for_sure(1, 10);
    disk.fill(0);
    // It needs some entries until the file wants to grow.
    let mut said = None;
    cluster.wait("the end of the disk", |cluster| {
        cluster.append(1, 50);
        said = cluster.heard(3);
        said.is_some()
    });
    let said = said.expect("it ended");
    assert!(said.starts_with("failed ") && said.contains("No space left on device"), "{said}");
    cluster.kill(3);
    cluster.leader_of(&[1, 2]);
    cluster.append_for_sure(1, 10);
    disk.empty();
    cluster.start(3);
    cluster.judge();
}
