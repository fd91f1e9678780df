//! Instances that leave, and sizes that change, in mid-rollout.

use super::{Race as _, world, world_of};
use crate::ground::{Play as _, TURN, policy, serving, states, until};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn instances_terminated_in_any_state_are_gone_and_their_successors_join() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository) = world(directory.path(), 5, "batch = \"1\"").await;
    let wanted = repository.git(&["rev-parse", "main"]);
    // One whose staging takes a while.
    let slow = serving(&world.group("sample").await)[4].clone();
    let fault = json!({ "kind": "delivery-delay", "match": { "instance": slow }, "seconds": 60 });
    world.control("faults", &fault).await.unwrap();
    let id = world.submit("main").await;
    let victim = world.in_state(id, "Staging").await;
    world.control(&format!("instances/{victim}/terminate"), &json!({})).await.unwrap();
    for state in ["Blocking", "Deploying", "Allowing"] {
        let victim = world.in_state(id, state).await;
        let end = json!({ "InstanceId": victim, "ShouldDecrementDesiredCapacity": "false" });
        world.operator("TerminateInstanceInAutoScalingGroup", end).await;
        // Each dies alone.
        until("it is gone", 60, async || {
            let deployment = world.api(&format!("deployments/{id}")).await;
            let instances = deployment["instances"].as_array().unwrap().clone();
            instances.iter().any(|instance| instance["id"] == victim.as_str() && instance["state"] == "Gone")
        })
        .await;
    }
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Failed")), (Some("Succeeded"), 0), "{ended:#}");
    assert!(states(&ended, "Gone") >= 3 && states(&ended, "Succeeded") >= 2, "{ended:#}");
    // A successor that came into service after the end has what its image made; the others have the revision.
    for instance in ended["instances"].as_array().unwrap().iter().filter(|i| i["state"] == "Succeeded") {
        assert_eq!(world.current(instance["id"].as_str().unwrap()).await, wanted, "{instance:#}");
    }
    let group = world.group("sample").await;
    assert_eq!((&group["min"], &group["suspended"], &group["tags"]), (&json!(5), &json!([]), &json!({})));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn desired_capacity_may_change_and_standby_be_refused_in_mid_rollout() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository) = world(directory.path(), 4, "batch = \"2\"").await;
    let wanted = repository.git(&["rev-parse", "main"]);
    world.operator("UpdateAutoScalingGroup", json!({ "MinSize": "2", "MaxSize": "9" })).await;
    for fault in [
        json!({ "kind": "error", "match": { "action": "EnterStandby" }, "status": 400, "code": "ValidationError",
                "message": "The instance is not in InService.", "times": 2 }),
        json!({ "kind": "lose-response", "match": { "action": "EnterStandby" }, "times": 1 }),
        json!({ "kind": "lose-response", "match": { "action": "ExitStandby" }, "times": 1 }),
    ] {
        world.control("faults", &fault).await.unwrap();
    }
    let id = world.submit("main").await;
    world.in_state(id, "Deploying").await;
    // Two more than serve now, by somebody's scaling policy; then one less again, and the one being deployed leaves.
    world.scale(2).await;
    world.in_state(id, "Succeeded").await;
    let victim = serving(&world.group("sample").await)[0].clone();
    let scale_in = json!({ "InstanceId": victim, "ShouldDecrementDesiredCapacity": "true" });
    world.operator("TerminateInstanceInAutoScalingGroup", scale_in).await;
    // The same happens to the one that is being deployed to.
    let victim = world.in_state(id, "Deploying").await;
    let scale_in = json!({ "InstanceId": victim, "ShouldDecrementDesiredCapacity": "true" });
    world.operator("TerminateInstanceInAutoScalingGroup", scale_in).await;
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Failed")), (Some("Succeeded"), 0), "{ended:#}");
    let gone = ended["instances"].as_array().unwrap().iter().find(|i| i["id"] == victim.as_str()).cloned();
    assert_eq!(gone.unwrap()["state"], "Gone", "{ended:#}");
    let desired = usize::try_from(world.group("sample").await["desired"].as_i64().unwrap()).unwrap();
    assert!((4..=6).contains(&desired), "{desired}");
    world.all_serve(desired, &wanted, 2).await;
    world.nothing_ran_twice().await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_agent_that_goes_away_in_mid_hook_is_not_waited_for_as_long_as_its_hooks_may_take() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let policy = policy("batch = \"1\"\nmax_failed = \"1\"\nmin_in_service = \"1\"")
        + "attempts = 1\n"
        + "[applications.sample.groups.demo.policy.deadlines]\nagent = \"5s\"\n";
    let (world, repository) = world_of(directory.path(), 3, &policy).await;
    let victim = serving(&world.group("sample").await)[0].clone();
    world.on(&victim, "touch /tmp/hangs").await;
    repository.write(
        "hooks/after-install.real",
        "#!/bin/sh\n[ ! -e /tmp/hangs ] || { touch /tmp/hanging; exec sleep 600; }\n",
    );
    repository.commit("7");
    let id = world.submit("main").await;
    until("its hook hangs", 90, async || world.on(&victim, "ls /tmp/hanging").await.contains("hanging"))
        .await;
    world.control(&format!("instances/{victim}/stop-agent"), &json!({})).await.unwrap();
    let ended = world.ended(id).await;
    let lost = ended["instances"].as_array().unwrap().iter().find(|i| i["id"] == victim.as_str()).cloned();
    let lost = lost.unwrap();
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Partial"), 2), "{ended:#}");
    assert_eq!((&lost["state"], &lost["quarantined"]), (&json!("Failed"), &json!(true)), "{lost:#}");
    assert!(lost["reason"].as_str().unwrap().contains("could not be reached for"), "{lost:#}");
    world.stop().await;
}
