//! Putting back: from the tag when the daemon's disk is gone; and what a person does about quarantined instances and locks.

use super::{Race as _, world};
use crate::ground::{Play as _, TURN, serving, until};
use drover::cli::demo::playground::GROUP;
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn a_group_is_put_back_from_its_tag_when_the_daemons_disk_is_gone() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut world, repository) = world(directory.path(), 4, "batch = \"2\"").await;
    let id = world.submit("main").await;
    world.in_state(id, "Deploying").await;
    let refused = world.drover(&["group", "restore", GROUP]).await;
    assert!(refused.stderr.contains(&format!("deployment {id} is under way")), "{}", refused.stderr);
    world.kill_daemon().await.unwrap();
    let group = world.group("sample").await;
    assert!(group["min"] != 4 && group["suspended"] == json!(["AZRebalance"]), "{group:#}");
    let data = directory.path().join("daemon");
    std::fs::remove_dir_all(&data).unwrap();
    world.start_daemon().await.unwrap();
    world.token = std::fs::read_to_string(data.join("admin-token")).unwrap().trim().to_owned();
    // What the tag says is not written over by a daemon that knows nothing of it.
    let id = world.submit("main").await;
    let refused = world.ended(id).await;
    let words = refused["reason"].as_str().unwrap_or_default();
    assert_eq!(refused["state"], "Failed", "{refused:#}");
    assert!(words.contains(&format!("drover group restore {GROUP}")), "{words}");
    let put_back = world.drover(&["group", "restore", GROUP]).await;
    for words in ["back into service", "MinSize 2 → 4", "resumed AZRebalance", "tag drover:restore removed"]
    {
        assert!(put_back.stdout.contains(words), "{words}: {} {}", put_back.stdout, put_back.stderr);
    }
    until("everyone serves", 60, async || serving(&world.group("sample").await).len() == 4).await;
    let group = world.group("sample").await;
    assert_eq!((&group["min"], &group["suspended"], &group["tags"]), (&json!(4), &json!([]), &json!({})));
    let again = world.drover(&["group", "restore", GROUP]).await;
    assert!(again.code == 0 && again.stdout.contains("nothing to put back"), "{}", again.stderr);
    // A deployment brings them in line.
    let id = world.submit("main").await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    world.all_serve(4, &repository.git(&["rev-parse", "main"]), 4).await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn quarantined_instances_are_listed_retried_released_and_terminated() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 4, "batch = \"2\"\nmax_failed = \"2\"").await;
    let ids = serving(&world.group("sample").await);
    for id in &ids[..2] {
        let fault = json!({ "kind": "hook-exit", "match": { "instance": id }, "event": "AfterInstall", "exit": 127, "times": 9,
                            "message": format!("no {id}") });
        world.control("faults", &fault).await.unwrap();
    }
    let id = world.submit("main").await;
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Halted", "{ended:#}");
    let list = world.drover(&["quarantine", "list"]).await;
    assert!(ids[..2].iter().all(|id| list.stdout.contains(id)), "{}", list.stdout);
    let unknown = world.drover(&["quarantine", "release", "i-nobody"]).await;
    assert!(unknown.code != 0 && unknown.stderr.contains("is not in quarantine"), "{}", unknown.stderr);
    assert_eq!(world.drover(&["cancel", &id.to_string()]).await.code, 0);
    world.finished(id).await;
    // Auto Scaling has launched two in their place: past MaxSize nobody comes back.
    until("the successors", 60, async || serving(&world.group("sample").await).len() == 4).await;
    world.operator("UpdateAutoScalingGroup", json!({ "MaxSize": "4" })).await;
    let full = world.drover(&["quarantine", "release", &ids[0]]).await;
    assert!(full.code != 0 && full.stderr.contains("MaxSize of 4"), "{}", full.stderr);
    let gone = world.drover(&["quarantine", "terminate", &ids[0]]).await;
    assert_eq!(gone.code, 0, "{}", gone.stderr);
    assert_eq!(
        world.drover(&["quarantine", "terminate", &ids[0]]).await.code,
        0,
        "asked again, it is no error"
    );
    let full = world.drover(&["quarantine", "retry", &ids[1]]).await;
    assert_eq!(full.code, 0, "{}", full.stderr);
    let retried = world.ended(id + 1).await;
    let words = retried["reason"].as_str().unwrap_or_default();
    assert!(retried["state"] == "Failed" && words.contains("MaxSize of 4"), "{retried:#}");
    // It fails again, alone: nobody waits for a person, nobody else is touched, and there is no way back from it.
    world.operator("UpdateAutoScalingGroup", json!({ "MaxSize": "6" })).await;
    let retry = world.drover(&["quarantine", "retry", &ids[1]]).await;
    assert!(retry.stdout.contains(&format!("deployment {} tries", id + 2)), "{}", retry.stderr);
    let again = world.drover(&["quarantine", "retry", &ids[1]]).await;
    assert!(again.stdout.contains(&format!("deployment {} tries", id + 2)), "{}", again.stdout);
    let retried = world.ended(id + 2).await;
    assert_eq!(
        (&retried["state"], &retried["counts"]["skipped"]),
        (&json!("Failed"), &json!(4)),
        "{retried:#}"
    );
    let refused = world.drover(&["rollback", &(id + 2).to_string()]).await;
    assert!(refused.stderr.contains("alone"), "{}", refused.stderr);
    let back = world.drover(&["quarantine", "release", &ids[1]]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    until("it serves again", 60, async || serving(&world.group("sample").await).contains(&ids[1])).await;
    let none = world.drover(&["quarantine", "list"]).await;
    assert!(none.stdout.contains("no instance is in quarantine"), "{}", none.stdout);

    // Locked: what is submitted waits and says so; unlocked, it goes.
    let locked = world.drover(&["lock", GROUP, "--reason", "a migration", "--for", "2h"]).await;
    assert!(locked.stdout.contains("locked by admin"), "{} {}", locked.stdout, locked.stderr);
    let id = world.submit("main").await;
    until("it waits", 30, async || {
        let waits = world.api(&format!("deployments/{id}")).await;
        waits["state"] == "Queued" && waits["explain"].to_string().contains("a migration")
    })
    .await;
    assert_eq!(world.drover(&["cancel", &id.to_string()]).await.code, 0);
    until("cancelled in the queue", 30, async || {
        world.api(&format!("deployments/{id}")).await["state"] == "Cancelled"
    })
    .await;
    assert_eq!(world.drover(&["unlock", GROUP]).await.code, 0);
    assert_eq!(world.drover(&["unlock", GROUP]).await.code, 0);
    world.stop().await;
}
