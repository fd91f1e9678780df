//! Instances that launch while the group's lifecycle hook holds them.

use super::{Race as _, world};
use crate::ground::{Play as _, TURN, serving, states, until};
use drover::cli::demo::playground::GROUP;
use serde_json::{Value, json};

/// The deployments for launches, newest first.
fn launches(all: &Value) -> Vec<Value> {
    let all = all["deployments"].as_array().unwrap().iter();
    all.filter(|d| d["by"].as_str().unwrap().starts_with("launch of ")).cloned().collect()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_launch_gets_the_revision_that_is_its_and_is_given_up_when_that_fails() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository) = world(directory.path(), 4, "batch = \"1\"").await;
    let [good, new] = ["main~1", "main"].map(|name| repository.git(&["rev-parse", name]));
    world.operator("UpdateAutoScalingGroup", json!({ "MaxSize": "9" })).await;
    let hook = world.drover(&["group", "hook", "install", GROUP]).await;
    assert!(hook.code == 0 && hook.stdout.contains("drover-sample-demo installed"), "{}", hook.stderr);
    let again = world.drover(&["group", "hook", "install", GROUP]).await;
    assert!(again.code == 0 && again.stdout.contains("already"), "{}", again.stdout);
    let (words, sound) = world.check().await;
    assert!(sound && words.contains("launch hook drover-sample-demo is installed"), "{words}");
    let id = world.submit(&good).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");

    // Scale-out while the first batch is in work: the last good revision, then it joins.
    let id = world.submit(&new).await;
    world.in_state(id, "Deploying").await;
    world.scale(1).await;
    until("a launch is received", 60, async || !launches(&world.api("deployments").await).is_empty()).await;
    let launch = launches(&world.api("deployments").await)[0].clone();
    let newcomer = launch["only_instance"].as_str().unwrap().to_owned();
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    let joined = ended["instances"].as_array().unwrap().iter().any(|i| i["id"] == newcomer.as_str());
    let straight = launch["revision"]["sha"] == new.as_str();
    assert!(joined || straight, "{ended:#}");
    until("the launch ends", 60, async || {
        world.api(&format!("deployments/{}", launch["id"])).await["state"] == "Succeeded"
    })
    .await;

    // After the rollout: the new one at once.
    world.scale(1).await;
    until("another launch", 90, async || {
        let all = launches(&world.api("deployments").await);
        all.len() == 2 && all[0]["state"] == "Succeeded"
    })
    .await;
    assert_eq!(launches(&world.api("deployments").await)[0]["revision"]["sha"], new.as_str());
    world.all_serve(6, &new, 4).await;

    // A revision that runs on none but the old: each launch of it is given up, and after three nobody tries on.
    for instance in serving(&world.group("sample").await) {
        world.on(&instance, "touch /tmp/old").await;
    }
    repository.write("hooks/after-install.real", "#!/bin/sh\n[ -e /tmp/old ] || exit 127\n");
    let picky = repository.commit("7");
    let id = world.submit(&picky).await;
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 6), "{ended:#}");
    world.scale(1).await;
    until("the alarm", 180, async || {
        let groups = world.api("groups").await;
        groups["groups"][0]["alarm"].as_str().is_some_and(|words| words.contains("last 3 launches"))
    })
    .await;
    let lost = launches(&world.api("deployments").await);
    assert!(lost.iter().take(3).all(|launch| launch["state"] == "Failed"), "{lost:#?}");
    assert_eq!(lost.len(), 5, "{lost:#?}");
    let waits = world.group("sample").await["instances"]
        .as_array()
        .unwrap()
        .iter()
        .any(|i| i["lifecycle"] == "Pending:Wait");
    assert!(waits, "the fourth is held, for a person");
    let removed = world.drover(&["group", "hook", "remove", GROUP]).await;
    assert!(removed.code == 0 && removed.stdout.contains("removed"), "{}", removed.stderr);
    assert_eq!(world.group("sample").await["hooks"], json!([]));
    world.stop().await;
}
