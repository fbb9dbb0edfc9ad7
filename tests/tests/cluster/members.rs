//! Control nodes that are replaced, by commands.

use evergate_tests::controls::{Controls, wait};
use serde_json::Value;

fn standings(controls: &Controls, at: usize) -> Option<Vec<(u64, String)>> {
    let told = controls.json(at, &["members"])?;
    let members = told["members"].as_array()?;
    let standing = |member: &Value| Some((member["id"].as_u64()?, member["standing"].as_str()?.to_owned()));
    members.iter().map(standing).collect()
}

fn refusal(controls: &Controls, at: usize, arguments: &[&str]) -> String {
    let output = controls.ask(at, arguments);
    assert!(!output.status.success(), "{arguments:?} was taken");
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[tokio::test]
async fn a_control_node_that_lost_its_disk_is_replaced() {
    let mut controls = Controls::start(3).await;
    let leader = controls.leader().await;
    let lost = (leader + 1) % 3;
    let asked = (leader + 2) % 3;
    controls.kill(lost);
    let lost_id = (lost + 1).to_string();
    let newcomer = controls.newcomer();
    let address = controls.address(newcomer).to_string();
    let told = refusal(&controls, asked, &["members", "promote", "4"]);
    assert!(!told.is_empty(), "nobody knows it");
    wait("it follows", async || controls.json(asked, &["members", "add", "4", &address])).await;
    controls.ready(newcomer).await;
    let promoted = controls.json(asked, &["members", "promote", "4"]).expect("it has caught up");
    assert_eq!(promoted["members"].as_array().map(Vec::len), Some(4));
    let told = refusal(&controls, asked, &["members", "remove", &lost_id]);
    assert!(told.contains("write --yes"), "{told}");
    wait("it is removed", async || controls.json(asked, &["members", "remove", &lost_id, "--yes"])).await;
    for at in [leader, asked, newcomer] {
        wait("three members, one of whom leads", async || {
            let standings = standings(&controls, at)?;
            let ids: Vec<_> = standings.iter().map(|(id, _)| *id).collect();
            let leads = standings.iter().filter(|(_, standing)| standing == "leads").count();
            let is_so = ids.len() == 3 && ids.contains(&4) && !ids.contains(&(lost as u64 + 1));
            (is_so && leads == 1).then_some(())
        })
        .await;
    }
    let table = controls.ask(newcomer, &["members"]);
    let table = String::from_utf8_lossy(&table.stdout).into_owned();
    assert!(table.contains("STANDING") && table.contains("leads") && table.contains(&address), "{table}");

    // The newcomer's vote counts: with it and one more there is a majority.
    controls.kill(leader);
    controls.leader().await;
    let done =
        wait("a change", async || controls.json(newcomer, &["policy", "set", "quote", "--events", "7"]))
            .await;
    assert!(done["version"].is_number());
}

#[tokio::test]
async fn who_changed_the_control_nodes_is_remembered() {
    let mut controls = Controls::start(3).await;
    let newcomer = controls.newcomer();
    let address = controls.address(newcomer).to_string();
    // Nobody was asked yet whether everybody understands it.
    wait("it follows", async || controls.json(0, &["members", "add", "4", &address])).await;
    controls.ready(newcomer).await;
    controls.json(1, &["format", "2", "--yes"]).expect("all read it");
    assert_eq!(controls.json(2, &["format"]).expect("it is told")["understood"], 2);
    wait("it votes", async || controls.json(1, &["members", "promote", "4"])).await;
    controls.json(2, &["members", "demote", "4", "--yes"]).expect("it is taken");
    controls.json(1, &["members", "remove", "4", "--yes"]).expect("it is taken");
    controls.kill(newcomer);
    let expected =
        ["give control node 4 a vote", "take the vote from control node 4", "remove control node 4"];
    let audit = wait("the trail", async || {
        let audit = controls.json(1, &["audit"])?;
        let said = audit.as_array()?.iter().rev().filter_map(|entry| entry["what"].as_str());
        said.collect::<Vec<_>>().ends_with(&expected).then_some(audit)
    })
    .await;
    assert!(audit[0]["by"].as_str().is_some_and(|by| by.starts_with("operator ")), "{audit}");
    // The same at a node that was not asked, and after a restart.
    controls.kill(0);
    controls.restart(0).await;
    wait("the same trail", async || (controls.json(0, &["audit"])? == audit).then_some(())).await;
}
