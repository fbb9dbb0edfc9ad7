//! How long it takes until every edge of a cluster knows of a change.
//!
//! ```text
//! cargo run --release -p evergate-control --example propagation -- [EDGES] [CHANGES] [FOLDER]
//! ```
//! Three control nodes with their services, and the edges, are in this process and talk over the loopback;
//! each edge holds a lease, beats, and follows the view at one of the three, as a real one does. A change is
//! timed from when it is proposed, at any of the three, until the last edge has it, the agreement included.

#![expect(clippy::print_stdout, reason = "a measuring tool for developers")]

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};

use evergate_control::{Agreed, Group, GroupSettings, Handle, Keeper, Role, Seeds, Timing};
use evergate_domain::UnixMillis;
use evergate_domain::cluster::testing::edge;
use evergate_domain::cluster::{ClusterSettings, Command, Load, NodeAddress, Proposal};
use evergate_member::{Member, MemberSettings, Placement, encode_proposal};
use evergate_proto::control::v1 as proto;
use prost::Message as _;
use tokio::net::TcpListener;
use tokio::sync::watch;
use tokio_util::sync::CancellationToken;

type Failure = Box<dyn std::error::Error>;

/// Between two changes, so that each finds a quiet cluster.
const PAUSE: Duration = Duration::from_millis(100);

struct Follower {
    member: Member,
    placement: watch::Receiver<Arc<Placement>>,
}

#[tokio::main]
async fn main() -> Result<(), Failure> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: usize| arguments.next().map_or(Ok(default), |text| text.parse());
    let (edges, changes) = (number(200)?, number(100)?);
    let folder = std::env::args().nth(3).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;

    let mut listeners = BTreeMap::new();
    for id in 1..=3u64 {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0").await?);
    }
    let mut peers = BTreeMap::new();
    for (id, listener) in &listeners {
        peers.insert(*id, listener.local_addr()?.to_string());
    }
    let stop = CancellationToken::new();
    let (mut groups, mut keepers) = (Vec::new(), Vec::new());
    for (id, listener) in listeners {
        let settings = GroupSettings {
            cluster: "propagation".to_owned(),
            id,
            dir: folder.path().join(id.to_string()),
            address: peers[&id].clone(),
            seeds: Seeds::Listed(peers.clone()),
            identities: Vec::new(),
            timing: Timing::default(),
            command_bytes_max: 1 << 20,
            snapshot_entries: 5000,
        };
        let mut group = Group::start(settings, Agreed::default(), None).await?;
        let node = format!("control-{id}");
        let (keeper, services) =
            Keeper::new("propagation".to_owned(), node, group.handle(), None, None, stop.clone());
        group.serve(listener, None, services.routes);
        keepers.push(tokio::spawn(keeper.run()));
        groups.push(group);
    }
    let handles: Vec<Handle<Agreed>> = groups.iter().map(Group::handle).collect();
    while !handles.iter().any(|handle| handle.status().role == Role::Leader) {
        tokio::time::sleep(Duration::from_millis(50)).await;
    }

    let controls: Vec<NodeAddress> = peers.values().map(|place| place.parse()).collect::<Result<_, _>>()?;
    let began = Instant::now();
    let followers: Vec<Follower> = (0..edges).map(|number| follow(number, &controls)).collect();
    let here = |handle: &Handle<Agreed>| handle.look(|machine, _| machine.state().view().nodes().len());
    while here(&handles[0]) < edges {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    println!("{edges} edges joined at once within {:?}", began.elapsed());
    tokio::time::sleep(Duration::from_secs(2)).await;

    let mut took = Vec::new();
    for change in 0..changes {
        took.push(spread(&handles[change % handles.len()], &followers, change).await?);
        tokio::time::sleep(PAUSE).await;
    }
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{changes} changes until all of {edges} edges had them: p50 {:?}, p99 {:?}, most {:?}",
        at(0.5),
        at(0.99),
        at(1.0)
    );
    for follower in followers {
        follower.member.leave().await;
    }
    stop.cancel();
    for keeper in keepers {
        keeper.await?;
    }
    for group in groups {
        group.stop().await;
    }
    Ok(())
}

fn follow(number: usize, controls: &[NodeAddress]) -> Follower {
    let (told, placement) = watch::channel(Arc::default());
    let settings = MemberSettings {
        cluster: "propagation".to_owned(),
        node: edge(&format!("edge-{number}")),
        controls: controls.to_vec(),
        tls: None,
    };
    let load = move || Load { connections: number as u32, arrivals_per_second: 1 };
    Follower { member: Member::start(settings, told, load), placement }
}

/// Has a change agreed on, and waits until everybody has it.
async fn spread(handle: &Handle<Agreed>, followers: &[Follower], change: usize) -> Result<Duration, Failure> {
    let hysteresis_ms = 10_000 + change as u32;
    let settings = ClusterSettings { hysteresis_ms, ..ClusterSettings::default() };
    let command = Command::SetSettings(settings);
    let proposal = Proposal { by: "propagation".to_owned(), at: UnixMillis::new(0), command };
    let asked = Instant::now();
    let answer = handle.propose(encode_proposal(&proposal).encode_to_vec()).await?;
    let version = proto::Answer::decode(&*answer.bytes)?.version;
    for follower in followers {
        let mut placement = follower.placement.clone();
        placement.wait_for(|placement| placement.view.version() >= version).await?;
    }
    Ok(asked.elapsed())
}
