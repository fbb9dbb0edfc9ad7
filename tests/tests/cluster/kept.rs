//! What the cluster agreed on for streams outlives an edge that starts while no control node is there.

use evergate_tests::controls::{Controls, wait};
use evergate_tests::http1::{Request, call};
use evergate_tests::process::{Evergate, Options};
use evergate_tests::publisher::Publisher;
use evergate_tests::subscription::Subscription;

use crate::places::edge;

async fn publish(edge: &Evergate, stream: &str) -> u16 {
    let target = format!("/v1/streams/{stream}/events");
    call(edge.http(), Request::post(&target, "text/plain", "x")).await.status()
}

/// The events of a stream that are kept after five were published, of which each edge tells.
async fn kept_of_five(edge: &Evergate, stream: &str, kept: usize) {
    let publisher = Publisher::connect(edge.grpc()).await;
    publisher.publish_all(stream, ["one", "two", "three", "four", "five"]).await;
    let mut reader =
        Subscription::open(edge.http(), &format!("/v1/streams/{stream}/events?from=earliest")).await;
    reader.opened().await;
    assert_eq!(reader.data(kept).await, ["one", "two", "three", "four", "five"][5 - kept..]);
}

#[tokio::test]
async fn policies_hold_at_an_edge_that_starts_without_control_nodes() {
    let mut controls = Controls::start(1).await;
    let folder = tempfile::tempdir().expect("a folder");
    let path = folder.path().join("deep/policies");
    let options = || {
        edge(&controls, Options::memory(), "edge-a")
            .set("cluster.policies_file", path.to_str().expect("plain"))
    };
    controls.json(0, &["policy", "set", "short", "--events", "2"]).expect("it is taken");
    controls.json(0, &["policy", "set", "order", "--level", "replicated"]).expect("it is taken");
    let mut member = Evergate::start(options()).await;
    member.writes("no policies of the cluster are kept yet").await;
    member.writes("streams go by the policies of the cluster streams=2").await;
    let stranger = options().set("control.cluster", "other");
    let plain = edge(&controls, Options::memory(), "edge-b");
    wait("what is kept", async || path.exists().then_some(())).await;

    controls.kill(0);
    member.kill();
    member.restart().await;
    member.writes("streams go by the policies that the cluster agreed on before the start streams=2").await;
    kept_of_five(&member, "short", 2).await;
    assert_eq!(publish(&member, "order").await, 409, "one process keeps it in its memory only");
    assert_eq!(publish(&member, "other").await, 200);
    // Without the file they would not.
    let plain = Evergate::start(plain).await;
    kept_of_five(&plain, "short", 5).await;
    assert_eq!(publish(&plain, "order").await, 200);

    // What is another cluster's, or damaged, is not used, and not touched.
    let stranger = Evergate::start(stranger).await;
    stranger.writes("the policies that are kept are not used").await;
    stranger.writes("it is what cluster \"evergate\" agreed on, and this node belongs to \"other\"").await;
    kept_of_five(&stranger, "short", 5).await;
    drop(stranger);
    let whole = std::fs::read(&path).expect("it is there");
    std::fs::write(&path, &whole[..whole.len() - 3]).expect("the folder is ours");
    member.kill();
    member.restart().await;
    member.writes("the policies that are kept are not used").await;
    member.writes("it is damaged").await;
    assert_eq!(publish(&member, "order").await, 200, "as it is configured");

    // A control node's word is newer than whatever was kept.
    controls.restart(0).await;
    member.writes("streams go by the policies of the cluster streams=2").await;
    controls.json(0, &["policy", "remove", "order", "--yes"]).expect("it is taken");
    member.writes("streams go by the policies of the cluster streams=1").await;
    // Less is kept than there was.
    wait("the newer ones", async || (std::fs::read(&path).ok()?.len() + 10 < whole.len()).then_some(()))
        .await;
    member.kill();
    member.restart().await;
    member.writes("before the start streams=1").await;
}
