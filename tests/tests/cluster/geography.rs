//! Clients that belong to a region by where they are.

use std::fs;
use std::path::Path;

use evergate_tests::controls::{Controls, wait};
use evergate_tests::figures::figure;
use evergate_tests::http1::{Request, call};
use evergate_tests::mmdb::database;
use evergate_tests::process::{Evergate, Options};

use crate::places::{edge, knows, route};

/// As an operator's update does it: whole, and in one step.
fn replace(file: &Path, bytes: &[u8]) {
    let new = file.with_extension("new");
    fs::write(&new, bytes).expect("the folder is ours");
    fs::rename(&new, file).expect("the folder is ours");
}

#[tokio::test]
async fn clients_belong_where_the_operators_database_says_they_are() {
    let folder = tempfile::tempdir().expect("a folder");
    let file = folder.path().join("countries.mmdb");
    let first = [
        ("192.0.2.0", 24, "DE", "EU"),
        ("198.51.100.0", 24, "CA", "NA"),
        ("2001:db8:1::", 48, "US", "NA"),
        ("203.0.113.0", 24, "JP", "AS"),
    ];
    replace(&file, &database(&first));
    let controls = Controls::start(1).await;
    let located = |options: Options| {
        options
            .set("cluster.geoip_file", file.to_str().expect("a path"))
            .set("cluster.geography", "country:DE=eu,continent:NA=us,continent:AS=as,network:10.0.0.0/8=us")
    };
    let eu = Evergate::start(located(edge(&controls, Options::memory(), "edge-eu"))).await;
    let us = controls.followed_by(Options::memory().as_edge()).set("node", "edge-us").set("region", "us");
    let us = Evergate::start(located(us.set("http.trusted_proxies", "127.0.0.1"))).await;
    knows(&eu, 1).await;
    wait("both regions", async || {
        let nodes = controls.json(0, &["nodes"])?;
        (nodes["nodes"].as_array()?.len() == 2).then_some(())
    })
    .await;
    controls.json(0, &["regions", "set", "us", "--host", "us.example.com"]).expect("it is taken");
    wait("the region's host", async || {
        let told = route(&eu, "198.51.100.7").await;
        (told["host"] == "us.example.com").then_some(())
    })
    .await;
    for at in [&eu, &us] {
        for (client, region) in
            [("192.0.2.1", "eu"), ("198.51.100.1", "us"), ("2001:db8:1::7", "us"), ("10.1.2.3", "us")]
        {
            wait("the same answer everywhere", async || {
                let told = route(at, client).await;
                (told["region"] == region && told["edge"] == format!("edge-{region}")).then_some(())
            })
            .await;
        }
    }
    // Nobody serves in the region of Japan, and nobody knows where the other one is: they stay where they came.
    for client in ["203.0.113.7", "100.64.0.1"] {
        assert_eq!(route(&eu, client).await["region"], "eu");
        assert_eq!(route(&us, client).await["region"], "us");
    }

    // An update is used without a restart; one that is damaged is not, and is told of.
    let mut moved = first;
    moved[0].2 = "CA";
    moved[0].3 = "NA";
    replace(&file, &database(&moved));
    wait("the update", async || (route(&eu, "192.0.2.1").await["region"] == "us").then_some(())).await;
    replace(&file, b"no database at all");
    eu.writes("the new database of addresses does not work").await;
    assert_eq!(route(&eu, "192.0.2.1").await["region"], "us", "the one before goes on");
    let page = call(eu.admin(), Request::get("/metrics")).await;
    assert_eq!(figure(page.text(), "evergate_geoip_built_timestamp_seconds"), Some(1_700_000_000.0));

    // At the start it has to work.
    for (bytes, why) in
        [(Some(&b"no database at all"[..]), "is no MaxMind database"), (None, "cannot be read")]
    {
        let broken = folder.path().join("broken.mmdb");
        let _ = fs::remove_file(&broken);
        if let Some(bytes) = bytes {
            fs::write(&broken, bytes).expect("the folder is ours");
        }
        let options = edge(&controls, Options::memory(), "edge-x")
            .set("cluster.geoip_file", broken.to_str().expect("a path"))
            .set("cluster.geography", "country:DE=eu");
        let told = Evergate::refusal(options).await;
        assert!(told.contains("cluster.geoip_file: ") && told.contains(why), "{told}");
    }
    let mut damaged = database(&first);
    let tree = damaged.len() / 4;
    damaged[tree..tree + 40].fill(0xff);
    fs::write(folder.path().join("damaged.mmdb"), damaged).expect("the folder is ours");
    let options = edge(&controls, Options::memory(), "edge-x")
        .set("cluster.geoip_file", folder.path().join("damaged.mmdb").to_str().expect("a path"))
        .set("cluster.geography", "country:DE=eu");
    let told = Evergate::refusal(options).await;
    assert!(told.contains("MaxMind database"), "{told}");
}
