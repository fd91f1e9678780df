//! What others have done to a group before: refused by name, or left alone.

use super::{Race as _, world, world_of};
use crate::ground::{Play as _, TURN, policy, serving, states, until};
use drover::cli::demo::playground::{GROUP, Playground};
use serde_json::{Value, json};

async fn calls(world: &Playground) -> usize {
    let audit = world.look("audit?after=0").await.unwrap();
    let calls = audit["calls"].as_array().unwrap();
    calls.iter().filter(|call| call["mutating"] == true && call["service"] != "github").count()
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_is_refused_by_name_before_anything_is_touched() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 2, "batch = \"1\"").await;
    let launch = json!({ "ScalingProcesses": ["Launch"] });
    let code_deploy = json!({
        "LifecycleHookName": "CodeDeploy-managed-automatic-launch-deployment-hook-x",
        "LifecycleTransition": "autoscaling:EC2_INSTANCE_LAUNCHING", "HeartbeatTimeout": "600", "DefaultResult": "ABANDON",
    });
    for (action, parameters, undo, says) in [
        ("StartInstanceRefresh", json!({}), "CancelInstanceRefresh", "instance refresh"),
        ("SuspendProcesses", launch, "ResumeProcesses", "Launch is suspended on Auto Scaling group sample"),
        ("PutWarmPool", json!({}), "DeleteWarmPool", "has a warm pool"),
        ("PutLifecycleHook", code_deploy, "DeleteLifecycleHook", "aws autoscaling delete-lifecycle-hook"),
    ] {
        world.operator(action, parameters.clone()).await;
        let id = world.submit("main").await;
        let ended = world.ended(id).await;
        assert_eq!(ended["state"], "Failed", "{action}: {ended:#}");
        assert!(ended["reason"].as_str().unwrap().contains(says), "{action}: {ended:#}");
        let plan = world.drover(&["plan", "main", "--group", GROUP]).await;
        assert!(plan.code == 2 && plan.stderr.contains(says), "{action}: {} {}", plan.code, plan.stderr);
        let (words, sound) = world.check().await;
        assert!(!sound && words.contains(says), "{action}: {words}");
        world.operator(undo, parameters).await;
    }
    assert_eq!(calls(&world).await, 0, "nothing was touched");

    let (words, sound) = world.check().await;
    assert!(sound && words.contains("no launch hook"), "{words}");

    // A rehearsal changes nothing either.
    let plan = world.drover(&["plan", "main", "--group", GROUP, "--json"]).await;
    let shown: Value = serde_json::from_str(&plan.stdout).unwrap_or_else(|_| panic!("{}", plan.stderr));
    assert_eq!((plan.code, shown["batches"].as_array().unwrap().len()), (0, 2), "{shown:#}");
    assert!(shown["changes"].to_string().contains("MinSize 2 → 1"), "{shown:#}");
    assert_eq!(calls(&world).await, 0, "nothing was touched");
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_others_did_is_left_alone_and_put_back() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository) = world(directory.path(), 5, "batch = \"2\"").await;
    let wanted = repository.git(&["rev-parse", "main"]);
    let ids = serving(&world.group("sample").await);
    // A process suspended by hand, an instance in standby by hand, one in a state nobody knows, one in a foreign target group.
    world.operator("UpdateAutoScalingGroup", json!({ "MinSize": "2", "MaxSize": "9" })).await;
    world.operator("SuspendProcesses", json!({ "ScalingProcesses": ["AZRebalance"] })).await;
    let standby = json!({ "InstanceIds": [ids[0]], "ShouldDecrementDesiredCapacity": "true" });
    world.operator("EnterStandby", standby).await;
    let odd = &ids[1];
    world
        .control(&format!("instances/{odd}/lifecycle"), &json!({ "name": "ReplacingRootVolume" }))
        .await
        .unwrap();
    let foreign = json!({ "target_groups": [{
        "name": "foreign", "port": 80, "listener_port": 0, "deregistration_delay": 10,
        "health_check": { "path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2 },
    }]});
    let made = world.control("world", &foreign).await.unwrap();
    let arn = made["target_groups"][0]["arn"].as_str().unwrap().to_owned();
    let targets = json!({ "TargetGroupArn": arn, "Targets": [{ "Id": ids[2], "Port": "80" }] });
    world.control("aws/elasticloadbalancing/RegisterTargets", &targets).await.unwrap();
    let target = async || {
        let seen = world.look("world").await.unwrap();
        let groups = seen["target_groups"].as_array().unwrap().clone();
        groups.iter().find(|group| group["name"] == "foreign").unwrap()["targets"][0].clone()
    };
    until("the foreign target is healthy", 60, async || target().await["state"] == "healthy").await;
    until("standby", 60, async || {
        world.group("sample").await["instances"]
            .as_array()
            .unwrap()
            .iter()
            .any(|i| i["lifecycle"] == "Standby")
    })
    .await;
    let id = world.submit("main").await;
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 3), "{ended:#}");
    let audit = world.look("audit?after=0").await.unwrap();
    let about = |action: &str| {
        let calls = audit["calls"].as_array().unwrap();
        calls.iter().any(|c| c["action"] == action && c["params"].to_string().contains(&ids[2]))
    };
    assert!(about("DeregisterTargets") && about("RegisterTargets"), "drained there, too");
    until("it is back there", 30, async || target().await["state"] == "healthy").await;
    assert_eq!(target().await["port"], 80);
    assert_eq!(world.current(&ids[2]).await, wanted);
    for untouched in [&ids[0], odd] {
        assert_ne!(world.current(untouched).await, wanted, "{untouched} is none of drover's");
    }
    let group = world.group("sample").await;
    assert_eq!((&group["suspended"], &group["min"]), (&json!(["AZRebalance"]), &json!(2)), "{group:#}");
    let still = group["instances"].as_array().unwrap().iter().find(|i| i["id"] == ids[0].as_str()).unwrap();
    assert_eq!(still["lifecycle"], "Standby");

    // Quarantined and released, it is back in the foreign one, too: no Auto Scaling group registers it there.
    let fault = json!({ "kind": "hook-exit", "match": { "instance": ids[2] }, "event": "AfterInstall", "exit": 127, "times": 9,
                        "message": "no" });
    world.control("faults", &fault).await.unwrap();
    let id = world.submit(&repository.git(&["rev-parse", "main~1"])).await;
    assert_eq!(world.ended(id).await["state"], "Halted");
    assert_eq!(world.drover(&["cancel", &id.to_string()]).await.code, 0);
    world.finished(id).await;
    until("it has left the foreign one", 60, async || target().await.is_null()).await;
    let back = world.drover(&["quarantine", "release", &ids[2]]).await;
    assert_eq!(back.code, 0, "{}", back.stderr);
    // Its service was stopped, and nothing has started it: registered is what it is.
    until("it is back there again", 60, async || {
        ["initial", "unhealthy"].contains(&target().await["state"].as_str().unwrap_or_default())
    })
    .await;
    world.stop().await;
}

/// Two deployment groups share an Auto Scaling group of one; a third spans two of them, with two target groups.
const GROUPS: &str = r#"
[applications.sample.groups.one]
auto_scaling_groups = ["one"]

[applications.sample.groups.down]
auto_scaling_groups = ["one"]
policy = { allow_downtime = true, batch = "1" }

[applications.sample.groups.both]
auto_scaling_groups = ["sample", "one"]
policy = { batch = "1" }
"#;

#[tokio::test(flavor = "multi_thread")]
async fn groups_that_share_and_span_auto_scaling_groups_take_turns() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, repository) =
        world_of(directory.path(), 2, &format!("{}{GROUPS}", policy("batch = \"1\""))).await;
    let [old, new] = ["main~1", "main"].map(|name| repository.git(&["rev-parse", name]));
    let more = json!({
        "target_groups": [{
            "name": "one", "port": 80, "listener_port": 0, "deregistration_delay": 10,
            "health_check": { "path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2 },
        }],
        "groups": [{
            "name": "one", "min": 1, "max": 3, "desired": 1, "zones": ["eu-central-1a"], "target_groups": ["one"],
            "user_data": world.user_data(),
        }],
    });
    world.control("world", &more).await.unwrap();
    until("the one is healthy", 60, async || {
        let seen = world.look("world").await.unwrap();
        let groups = seen["target_groups"].as_array().unwrap().clone();
        let one = groups.iter().find(|group| group["name"] == "one").unwrap();
        one["targets"][0]["state"] == "healthy"
            && world.group("one").await["instances"][0]["agent_seen"] == true
    })
    .await;
    // A group of one: an outage must be meant. And who shares an Auto Scaling group waits.
    let first = world.submit_to("sample/down", &new).await;
    let second = world.submit_to("sample/one", &old).await;
    until("it says what it waits for", 30, async || {
        let waits = world.api(&format!("deployments/{second}")).await;
        waits["explain"].to_string().contains(&format!("queued behind deployment {first}"))
    })
    .await;
    let ended = world.ended(first).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    let refused = world.ended(second).await;
    assert!(refused["reason"].as_str().unwrap().contains("allow_downtime"), "{refused:#}");
    let group = world.group("one").await;
    assert_eq!((&group["min"], &group["desired"]), (&json!(1), &json!(1)), "{group:#}");
    let id = world.submit_to("sample/both", &new).await;
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Failed")), (Some("Succeeded"), 0), "{ended:#}");
    for name in ["sample", "one"] {
        for instance in serving(&world.group(name).await) {
            assert_eq!(world.current(&instance).await, new, "{instance}");
        }
    }
    world.stop().await;
}
