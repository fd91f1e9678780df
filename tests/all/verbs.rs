//! What people ask of deployments: pause, resume, retry, roll back, by the command line and the API.

use crate::ground::{Play as _, Ran, Repository, TURN, policy, serving, setup, states, until};
use drover::cli::demo::playground::{GROUP, Playground};
use serde_json::json;
use std::path::Path;

/// Nothing of ours is left on the Auto Scaling group.
async fn group_is_as_it_was(world: &Playground) {
    let seen = world.look("world").await.unwrap();
    let group = &seen["groups"][0];
    assert_eq!((&group["suspended"], &group["min"]), (&json!([]), &json!(6)), "{group:#}");
    assert!(group["tags"].get("drover:restore").is_none(), "{group:#}");
}

async fn verb(world: &Playground, verb: &str, id: i64) -> Ran {
    world.drover(&[verb, &id.to_string()]).await
}

/// A fleet of `size` on version 3, `lines` its policy; and the SHA of version 4.
async fn world_of(directory: &Path, size: u32, lines: &str) -> (Playground, Repository, String) {
    let repository = Repository::wrapped(directory);
    let [first, good] = ["main~1", "main"].map(|name| repository.git(&["rev-parse", name]));
    let mut setup = setup(directory, &repository, &first);
    (setup.instances, setup.policy) = (size, policy(lines));
    (Playground::start(setup).await.unwrap(), repository, good)
}

/// All that serve have this version.
async fn all_on(world: &Playground, version: &str) {
    for instance in in_service(world).await {
        let on = world.on(&instance, "cat /opt/drover/sample/current/VERSION").await;
        assert_eq!(on.trim(), version, "{instance}");
    }
}

/// The instances that serve.
async fn in_service(world: &Playground) -> Vec<String> {
    serving(&world.look("world").await.unwrap()["groups"][0])
}

#[tokio::test(flavor = "multi_thread")]
async fn a_person_pauses_resumes_retries_and_rolls_back() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository, good) = world_of(directory.path(), 6, "batch = \"3\"").await;

    // Paused in the middle: the batch in work finishes, the group is in order, nothing new begins.
    let id = world.submit(&good).await;
    let refused = verb(&world, "rollback", id).await;
    assert!(refused.code != 0, "{}", refused.stdout);
    until("the first batch", 60, async || {
        states(&world.api(&format!("deployments/{id}")).await, "Deploying") > 0
    })
    .await;
    for _ in 0..2 {
        let paused = verb(&world, "pause", id).await;
        assert!(paused.code == 0 && paused.stdout.contains("Paused"), "{}{}", paused.stdout, paused.stderr);
    }
    until("the group in order", 60, async || {
        let log = world.drover(&["logs", &id.to_string()]).await.stdout;
        log.contains("the group is in order")
    })
    .await;
    let deployment = world.api(&format!("deployments/{id}")).await;
    assert_eq!((states(&deployment, "Succeeded"), states(&deployment, "Staged")), (3, 3), "{deployment:#}");
    assert_eq!(deployment["verbs"], json!(["resume", "retry", "rollback"]));
    group_is_as_it_was(&world).await;
    let resumed = verb(&world, "resume", id).await;
    assert!(resumed.code == 0 && resumed.stdout.contains("Rolling"), "{}", resumed.stderr);
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 6));
    let refused = verb(&world, "retry", id).await;
    assert!(refused.stderr.contains("nothing is left to try again"), "{}", refused.stderr);
    // The only good revision there is: no way back.
    let refused = verb(&world, "rollback", id).await;
    assert!(refused.stderr.contains("there is no last good revision"), "{}", refused.stderr);

    // A revision that breaks: halted, rolled back, and the fleet is on the good one.
    repository.write("hooks/validate-service.real", "#!/bin/sh\necho 'the model is missing'; exit 1\n");
    let bad = repository.commit("5");
    let id = world.submit(&bad).await;
    let halted = world.ended(id).await;
    assert_eq!(halted["state"], "Halted", "{halted:#}");
    let back = verb(&world, "rollback", id).await;
    assert!(
        back.stdout.contains(&format!("rollback of deployment {id} is deployment {}", id + 1)),
        "{}",
        back.stdout
    );
    let again = verb(&world, "rollback", id).await;
    assert!(again.stdout.contains(&format!("is deployment {}", id + 1)), "{}", again.stdout);
    let ended = world.ended(id + 1).await;
    assert_eq!(
        (&ended["state"], &ended["revision"]["sha"]),
        (&json!("Succeeded"), &json!(good)),
        "{ended:#}"
    );
    assert_eq!(ended["rolls_back"], json!(id));
    // Only what was changed was touched, and what Auto Scaling had launched in place of the quarantined ones.
    assert!(states(&ended, "Skipped") >= 3, "{ended:#}");
    let rolled = world.api(&format!("deployments/{id}")).await;
    assert_eq!(
        (&rolled["state"], &rolled["rolled_back_by"]),
        (&json!("Failed"), &json!(id + 1)),
        "{rolled:#}"
    );
    all_on(&world, "4").await;
    group_is_as_it_was(&world).await;

    let refused = verb(&world, "retry", id).await;
    assert!(refused.stderr.contains(&format!("deployment {} came after it", id + 1)), "{}", refused.stderr);

    // One instance fails for a while: halted, tried again, done.
    repository.write("hooks/validate-service.real", "#!/bin/sh\n[ ! -e /tmp/broken ] || exit 1\n");
    let mended = repository.commit("6");
    let victim = in_service(&world).await.remove(0);
    world.on(&victim, "touch /tmp/broken").await;
    let id = world.submit(&mended).await;
    let halted = world.ended(id).await;
    assert_eq!((halted["state"].as_str(), states(&halted, "Failed")), (Some("Halted"), 1), "{halted:#}");
    let other = in_service(&world).await.remove(1);
    let refused = world.drover(&["retry", &id.to_string(), "--instance", &other]).await;
    assert!(refused.stderr.contains("has not failed in it"), "{}", refused.stderr);
    world.on(&victim, "rm /tmp/broken").await;
    let again = world.drover(&["retry", &id.to_string(), "--instance", &victim]).await;
    assert_eq!(again.code, 0, "{}", again.stderr);
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Failed")), (Some("Succeeded"), 0), "{ended:#}");
    world.nothing_ran_twice().await;
    group_is_as_it_was(&world).await;
    let listed = world.api("deployments").await["deployments"].as_array().unwrap().len();
    assert_eq!((listed, GROUP), (4, "sample/demo"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_reaches_whoever_serves_the_bad_revision() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository, good) = world_of(directory.path(), 3, "batch = \"2\"").await;
    let id = world.submit(&good).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");

    // Its hooks after the traffic is back fail: it serves all the same, healthy, and is not in quarantine.
    let appspec = std::fs::read_to_string(repository.path.join("appspec.yml")).unwrap();
    repository
        .write("appspec.yml", &format!("{appspec}  AfterAllowTraffic:\n    - location: hooks/smoke-test\n"));
    repository.write("hooks/smoke-test", "#!/bin/sh\necho 'the smoke test fails'; exit 127\n");
    let bad = repository.commit("5");
    let id = world.submit(&bad).await;
    let halted = world.ended(id).await;
    assert_eq!((halted["state"].as_str(), states(&halted, "Failed")), (Some("Halted"), 2), "{halted:#}");
    assert_eq!(in_service(&world).await.len(), 3);
    // Meanwhile the fleet has shrunk: batches of two would be all of it.
    let group = json!({ "AutoScalingGroupName": "sample", "MinSize": "1" });
    world.control("aws/autoscaling/UpdateAutoScalingGroup", &group).await.unwrap();
    let untouched = halted["instances"].as_array().unwrap().iter().find(|i| i["state"] == "Staged").unwrap();
    let scale_in = json!({ "InstanceId": untouched["id"], "ShouldDecrementDesiredCapacity": "true" });
    world.control("aws/autoscaling/TerminateInstanceInAutoScalingGroup", &scale_in).await.unwrap();
    until("two are left", 60, async || in_service(&world).await.len() == 2).await;

    assert_eq!(verb(&world, "rollback", id).await.code, 0);
    let ended = world.ended(id + 1).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 2), "{ended:#}");
    all_on(&world, "4").await;
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_rollback_needs_no_healthy_instance_and_no_release_that_the_hosts_still_hold() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository, good) = world_of(directory.path(), 3, "batch = \"1\"").await;
    let bad = repository.commit("5");
    for revision in [&good, &bad] {
        let id = world.submit(revision).await;
        assert_eq!(world.ended(id).await["state"], "Succeeded");
    }
    // The new one dies everywhere, and nobody has the former one any more, the daemon neither.
    let forget = format!("kill $(cat /run/sample.pid); rm -rf /opt/drover/sample/releases/{good}");
    for instance in in_service(&world).await {
        world.on(&instance, &forget).await;
    }
    std::fs::remove_file(directory.path().join(format!("daemon/bundles/{good}.tar.gz"))).unwrap();
    until("nobody is healthy", 60, async || {
        let seen = world.look("world").await.unwrap();
        !seen["target_groups"][0]["targets"].to_string().contains("\"healthy\"")
    })
    .await;
    assert_eq!(verb(&world, "rollback", 2).await.code, 0);
    let ended = world.ended(3).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 3), "{ended:#}");
    all_on(&world, "4").await;
    world.stop().await;
}
