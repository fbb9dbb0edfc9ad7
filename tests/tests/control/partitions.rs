//! Ways between nodes that are cut, in both directions and in one, and again and again.

use evergate_tests::left_out::left_out;

use super::cluster::{Cluster, PATIENCE};

/// A cluster on a network of its own, if this system lets us have one.
fn networked(count: u64, test: &str) -> Option<Cluster> {
    match Cluster::networked(count) {
        Ok(cluster) => Some(cluster.up()),
        Err(why) => {
            left_out(test, &why);
            None
        }
    }
}

fn without(cluster: &Cluster, some: &[u64]) -> Vec<u64> {
    cluster.ids().into_iter().filter(|id| !some.contains(id)).collect()
}

/// Appends a word through a node that cannot reach a majority.
fn refused(cluster: &mut Cluster, through: u64) -> String {
    let mut why = String::new();
    cluster.wait("a refusal", |cluster| {
        let (word, answer) = cluster.begin(through);
        let answer = answer.recv_timeout(PATIENCE).ok();
        why = cluster.note(&word, answer.as_deref()).unwrap_or_default();
        !why.is_empty()
    });
    why
}

#[test]
fn a_minority_refuses_and_the_majority_goes_on() {
    let test = "a_minority_refuses_and_the_majority_goes_on";
    let Some(mut cluster) = networked(5, test) else { return };
    cluster.append_for_sure(1, 20);
    let leader = cluster.leader();
    // The leader is in the minority.
    let minority = [leader, without(&cluster, &[leader])[0]];
    let majority = without(&cluster, &minority);
    let under_way: Vec<_> = (0..10).map(|_| cluster.begin(leader)).collect();
    cluster.network.as_ref().expect("laid").part(&minority);
    for (word, answer) in under_way {
        let answer = answer.recv_timeout(PATIENCE).ok();
        cluster.note(&word, answer.as_deref());
    }
    cluster.leader_of(&majority);
    cluster.append_for_sure(majority[0], 20);
    for id in minority {
        let why = refused(&mut cluster, id);
        assert!(why.contains("majority"), "{why}");
        assert!(cluster.call(id, "read").starts_with("no "), "a stale read");
    }
    cluster.agree();
    cluster.network.as_ref().expect("laid").join(&minority);
    cluster.judge();
}

#[test]
fn a_leader_that_is_heard_by_nobody_or_hears_nobody_is_replaced() {
    let test = "a_leader_that_is_heard_by_nobody_or_hears_nobody_is_replaced";
    let Some(mut cluster) = networked(3, test) else { return };
    for it_is_deaf in [true, false] {
        let leader = cluster.leader();
        let rest = without(&cluster, &[leader]);
        cluster.append_for_sure(rest[0], 10);
        let network = cluster.network.as_ref().expect("laid");
        let ways = |id| if it_is_deaf { (id, leader) } else { (leader, id) };
        rest.iter().map(|id| ways(*id)).for_each(|(from, to)| network.cut(from, to));
        cluster.leader_of(&rest);
        cluster.append_for_sure(rest[0], 10);
        let network = cluster.network.as_ref().expect("laid");
        rest.iter().map(|id| ways(*id)).for_each(|(from, to)| network.mend(from, to));
        cluster.leader();
    }
    cluster.judge();
}

#[test]
fn a_link_that_flaps_costs_nothing_that_was_acknowledged() {
    let test = "a_link_that_flaps_costs_nothing_that_was_acknowledged";
    let Some(mut cluster) = networked(3, test) else { return };
    let mut random = fastrand::Rng::with_seed(7);
    for _ in 0..12 {
        let flapping = random.u64(1..=3);
        let through = random.u64(1..=3);
        let under_way: Vec<_> = (0..5).map(|_| cluster.begin(through)).collect();
        cluster.network.as_ref().expect("laid").part(&[flapping]);
        std::thread::sleep(std::time::Duration::from_millis(random.u64(50..1500)));
        cluster.network.as_ref().expect("laid").join(&[flapping]);
        for (word, answer) in under_way {
            let answer = answer.recv_timeout(PATIENCE).ok();
            cluster.note(&word, answer.as_deref());
        }
        cluster.agree();
    }
    cluster.judge();
}
