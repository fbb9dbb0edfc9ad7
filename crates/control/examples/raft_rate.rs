//! How many commands a group agrees on in a second, by how many ask at once.
//!
//! ```text
//! cargo run --release -p evergate-control --example raft_rate -- [NODES] [SECONDS] [BYTES] [FOLDER]
//! ```
//! The nodes are in this process, and talk over the loopback; each syncs a file of its own, all on the
//! same disk. What a sync costs there is told first.

#![expect(clippy::print_stdout, reason = "a measuring tool for developers")]

use std::collections::BTreeMap;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use evergate_control::{Group, GroupSettings, Handle, Machine, RestoreError, Role, Seeds, Timing};
use tokio::net::TcpListener;
use tonic::service::Routes;

const ASKERS: [usize; 4] = [1, 16, 128, 1024];

/// Counts.
#[derive(Default)]
struct Count(u64);

impl Machine for Count {
    const FORMAT_READ: u32 = 1;
    const FORMAT_WRITTEN: u32 = 1;

    fn apply(&mut self, _: &[u8]) -> Vec<u8> {
        self.0 += 1;
        Vec::new()
    }

    fn snapshot(&self) -> Vec<u8> {
        self.0.to_be_bytes().to_vec()
    }

    fn restore(&mut self, snapshot: &[u8]) -> Result<(), RestoreError> {
        let count = snapshot.try_into().map_err(|_| RestoreError("it is no count".to_owned()))?;
        self.0 = u64::from_be_bytes(count);
        Ok(())
    }
}

#[tokio::main]
async fn main() -> Result<(), Box<dyn std::error::Error>> {
    let mut arguments = std::env::args().skip(1);
    let mut number = |default: u64| arguments.next().map_or(Ok(default), |text| text.parse());
    let (nodes, seconds, bytes) = (number(3)?, number(10)?, number(256)?);
    let folder = std::env::args().nth(4).map_or_else(std::env::temp_dir, PathBuf::from);
    let folder = tempfile::tempdir_in(folder)?;
    println!("a sync of 4 KiB takes {:?} (median of 100)", sync(folder.path())?);
    let groups = start(nodes, folder.path()).await?;
    let leader = loop {
        tokio::time::sleep(Duration::from_millis(50)).await;
        let leading = groups.iter().map(Group::handle).find(|handle| handle.status().role == Role::Leader);
        if let Some(leader) = leading {
            break leader;
        }
    };
    println!("{nodes} nodes, commands of {bytes} bytes, {seconds} s each");
    for askers in ASKERS {
        measure(&leader, askers, usize::try_from(bytes)?, Duration::from_secs(seconds)).await?;
    }
    for group in groups {
        group.stop().await;
    }
    Ok(())
}

fn sync(folder: &Path) -> std::io::Result<Duration> {
    let mut file = std::fs::File::create(folder.join("sync"))?;
    let mut took = Vec::new();
    for _ in 0..100 {
        file.write_all(&[7; 4096])?;
        let begun = Instant::now();
        file.sync_data()?;
        took.push(begun.elapsed());
    }
    took.sort();
    Ok(took[50])
}

async fn start(nodes: u64, folder: &Path) -> Result<Vec<Group<Count>>, Box<dyn std::error::Error>> {
    let mut listeners = BTreeMap::new();
    for id in 1..=nodes {
        listeners.insert(id, TcpListener::bind("127.0.0.1:0").await?);
    }
    let address = |listener: &TcpListener| listener.local_addr().map(|address| address.to_string());
    let peers: Result<BTreeMap<_, _>, _> =
        listeners.iter().map(|(id, listener)| Ok::<_, std::io::Error>((*id, address(listener)?))).collect();
    let peers = peers?;
    let mut groups = Vec::new();
    for (id, listener) in listeners {
        let settings = GroupSettings {
            cluster: "rate".to_owned(),
            id,
            dir: folder.join(id.to_string()),
            address: peers[&id].clone(),
            seeds: Seeds::Listed(peers.clone()),
            identities: Vec::new(),
            timing: Timing::default(),
            command_bytes_max: 1 << 20,
            snapshot_entries: 5000,
        };
        let mut group = Group::start(settings, Count::default(), None).await?;
        group.serve(listener, None, Routes::default());
        groups.push(group);
    }
    Ok(groups)
}

async fn measure(
    leader: &Handle<Count>,
    askers: usize,
    bytes: usize,
    lasting: Duration,
) -> Result<(), Box<dyn std::error::Error>> {
    let begun = Instant::now();
    let first = leader.status().applied;
    let asking = (0..askers).map(|_| {
        let leader = leader.clone();
        tokio::spawn(async move {
            let mut took = Vec::new();
            while begun.elapsed() < lasting {
                let asked = Instant::now();
                leader.propose(vec![7; bytes]).await?;
                took.push(asked.elapsed());
            }
            Ok::<_, evergate_control::ProposeError>(took)
        })
    });
    let asking: Vec<_> = asking.collect();
    let mut took = Vec::new();
    for asker in asking {
        took.extend(asker.await??);
    }
    let elapsed = begun.elapsed().as_secs_f64();
    let entries = leader.status().applied - first;
    took.sort();
    let at = |share: f64| took[((took.len() - 1) as f64 * share) as usize];
    println!(
        "{askers:>5} at once: {:>8.0} commands/s in {:>6.0} entries/s, p50 {:?}, p99 {:?}",
        took.len() as f64 / elapsed,
        entries as f64 / elapsed,
        at(0.5),
        at(0.99),
    );
    Ok(())
}
