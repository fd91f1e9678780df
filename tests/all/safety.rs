//! What could cost an operator the fleet, from outside: nothing that was not asked for, back means back, good means good,
//! least means least, and one look is not the truth.

use crate::ground::{Play as _, Repository, TURN, policy, serving, small, states, until};
use drover::cli::demo::playground::Playground;
use serde_json::{Value, json};
use std::{fs, path::Path};

/// A fleet of `size` on the sample's version 3, drained within two seconds.
async fn world(directory: &Path, size: u32, lines: &str) -> (Playground, Repository) {
    world_of(directory, size, policy(lines)).await
}

async fn world_of(directory: &Path, size: u32, policy: String) -> (Playground, Repository) {
    let repository = Repository::wrapped(directory);
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = small(directory, &repository, &first, size, policy);
    setup.deregistration_delay = 10;
    (Playground::start(setup).await.unwrap(), repository)
}

async fn group(world: &Playground, name: &str) -> Value {
    let seen = world.look("world").await.unwrap();
    let groups = seen["groups"].as_array().unwrap().clone();
    groups.into_iter().find(|group| group["name"] == name).unwrap()
}

/// Nothing of drover's is left on the group, and as many serve.
async fn in_order(world: &Playground, count: usize) {
    until("the group is in order", 90, async || {
        let group = group(world, "sample").await;
        serving(&group).len() == count
            && group["suspended"] == json!([])
            && group["tags"].get("drover:restore").is_none()
    })
    .await;
}

async fn operator(world: &Playground, service: &str, action: &str, parameters: Value) -> Value {
    world.control(&format!("aws/{service}/{action}"), &parameters).await.unwrap()
}

async fn in_state(world: &Playground, id: i64, state: &str) {
    until(&format!("an instance in {state}"), 90, async || {
        let deployment = world.api(&format!("deployments/{id}")).await;
        let instances = deployment["instances"].as_array().cloned().unwrap_or_default();
        instances.iter().any(|instance| instance["state"] == state)
    })
    .await;
}

/// Finding 2.
#[tokio::test(flavor = "multi_thread")]
async fn a_group_gone_from_the_configuration_halts_and_nobody_else_is_touched() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut world, repository) = world(directory.path(), 3, "batch = \"1\"").await;
    let wanted = repository.git(&["rev-parse", "main"]);
    // Somebody else's group in the same account.
    let others = json!({ "groups": [{
        "name": "others", "min": 1, "max": 2, "desired": 2, "zones": ["eu-central-1a"], "target_groups": [],
        "user_data": "#!/bin/sh\nexit 0\n",
    }]});
    world.control("world", &others).await.unwrap();
    until("the others' agents", 60, async || {
        let group = group(&world, "others").await;
        serving(&group).len() == 2
            && group["instances"].as_array().unwrap().iter().all(|instance| instance["agent_seen"] == true)
    })
    .await;
    let theirs = serving(&group(&world, "others").await);
    let id = world.submit("main").await;
    in_state(&world, id, "Deploying").await;
    world.kill_daemon().await.unwrap();
    let text = fs::read_to_string(world.config_path()).unwrap();
    fs::write(world.config_path(), text.replace("groups.demo", "groups.other")).unwrap();
    world.start_daemon().await.unwrap();
    until("it halts", 60, async || world.api(&format!("deployments/{id}")).await["state"] == "Halted").await;
    let halted = world.api(&format!("deployments/{id}")).await;
    let reason = halted["reason"].as_str().unwrap().to_owned();
    assert!(reason.contains("'sample/demo' is no longer configured"), "{reason}");
    assert_eq!(halted["instances"].as_array().unwrap().len(), 3, "{halted:#}");
    // What was in work is seen through, and the group put back, by what the deployment was planned with.
    in_order(&world, 3).await;
    for call in world.calls("SendCommand").await {
        assert!(theirs.iter().all(|id| !call.to_string().contains(id)), "{call:#}");
    }
    for call in world.calls("DescribeAutoScalingGroups").await {
        assert!(!call["params"]["AutoScalingGroupNames"].is_null(), "all groups of the account: {call:#}");
    }
    // Back in the configuration it goes on.
    world.kill_daemon().await.unwrap();
    fs::write(world.config_path(), text).unwrap();
    world.start_daemon().await.unwrap();
    let ran = world.drover(&["resume", &id.to_string()]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 3), "{ended:#}");
    for instance in serving(&group(&world, "sample").await) {
        let link = world.on(&instance, "readlink /opt/drover/sample/current").await;
        assert!(link.trim().ends_with(&wanted), "{instance}: {link}");
    }
    world.stop().await;
}

/// Finding 26: a failed attempt was about to be resumed past Install when the deployment was cancelled.
#[tokio::test(flavor = "multi_thread")]
async fn a_cancel_after_a_retried_event_switches_the_release_back() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let lines =
        "batch = \"1\"\n[applications.sample.groups.demo.policy.retry]\nbase = \"20s\"\ncap = \"20s\"";
    let repository = Repository::wrapped(directory.path());
    let [old, new] = ["main~1", "main"].map(|name| repository.git(&["rev-parse", name]));
    let setup = small(directory.path(), &repository, &old, 2, lines.to_owned());
    let world = Playground::start(setup).await.unwrap();
    // It knows the former release as the last good one.
    let id = world.submit(&old).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    for instance in serving(&group(&world, "sample").await) {
        let fault = json!({ "kind": "hook-exit", "match": { "instance": instance }, "event": "ApplicationStart",
                            "exit": 75, "message": "come back later" });
        world.control("faults", &fault).await.unwrap();
    }
    let id = world.submit(&new).await;
    in_state(&world, id, "Waiting").await;
    let ran = world.drover(&["cancel", &id.to_string()]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    until("it ends", 120, async || !world.api(&format!("deployments/{id}")).await["finished_at"].is_null())
        .await;
    let ended = world.api(&format!("deployments/{id}")).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Restored")), (Some("Cancelled"), 1), "{ended:#}");
    for instance in serving(&group(&world, "sample").await) {
        let link = world.on(&instance, "readlink /opt/drover/sample/current").await;
        assert!(link.trim().ends_with(&old), "{instance} is on {link}, not on its former release");
        // Where the machines have users (the cloud runs as root), the service is one's: it must get to its release.
        if std::fs::metadata("/proc/self").is_ok_and(|own| std::os::unix::fs::MetadataExt::uid(&own) == 0) {
            let user = world.on(&instance, "stat -c %U /proc/$(cat /run/sample.pid)").await;
            assert_eq!(user.trim(), "nobody", "{instance}");
        }
    }
    world.stop().await;
}

/// Finding 27.
#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_health_checks_take_away_is_a_failure() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let lines = "batch = \"1\"\n[applications.sample.groups.demo.policy.deadlines]\nhealth = \"5m\"";
    let (world, _repository) = world(directory.path(), 4, lines).await;
    let by_balancer =
        json!({ "AutoScalingGroupName": "sample", "HealthCheckType": "ELB", "HealthCheckGracePeriod": "1" });
    operator(&world, "autoscaling", "UpdateAutoScalingGroup", by_balancer).await;
    let id = world.submit("main").await;
    in_state(&world, id, "Deploying").await;
    let deployment = world.api(&format!("deployments/{id}")).await;
    let first = deployment["instances"].as_array().unwrap().iter().find(|i| i["state"] == "Deploying");
    let first = first.unwrap()["id"].as_str().unwrap().to_owned();
    let fault = json!({ "kind": "health-fail", "match": { "instance": first }, "seconds": 3600 });
    world.control("faults", &fault).await.unwrap();
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Halted", "{ended:#}");
    let one = ended["instances"].as_array().unwrap().iter().find(|i| i["id"] == first.as_str()).unwrap();
    assert_eq!(one["state"], "Failed", "{ended:#}");
    assert!(one.to_string().contains("ELB system health check failure"), "{one:#}");
    world.stop().await;
}

/// Finding 28.
#[tokio::test(flavor = "multi_thread")]
async fn the_least_in_service_holds_for_a_small_target_group_too() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 6, "batch = \"3\"\nmin_in_service = \"50%\"").await;
    let small = json!({ "target_groups": [{
        "name": "small", "port": 80, "listener_port": 0, "deregistration_delay": 10,
        "health_check": { "path": "/health", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2 },
    }]});
    let made = world.control("world", &small).await.unwrap();
    let arn = made["target_groups"][0]["arn"].as_str().unwrap().to_owned();
    // The first two in the order of turn.
    let mut ids = serving(&group(&world, "sample").await);
    ids.sort();
    let targets: Vec<Value> = ids[..2].iter().map(|id| json!({ "Id": id, "Port": "80" })).collect();
    let registered = json!({ "TargetGroupArn": arn, "Targets": targets });
    operator(&world, "elasticloadbalancing", "RegisterTargets", registered).await;
    let healthy = async || {
        let seen = world.look("world").await.unwrap();
        let groups = seen["target_groups"].as_array().unwrap().clone();
        let small = groups.into_iter().find(|group| group["name"] == "small").unwrap();
        let targets = small["targets"].as_array().cloned().unwrap_or_default();
        targets.iter().filter(|target| target["state"] == "healthy").count()
    };
    until("both are healthy", 60, async || healthy().await == 2).await;
    let id = world.submit("main").await;
    let fewest = std::sync::atomic::AtomicUsize::new(2);
    until("it ends", 240, async || {
        fewest.fetch_min(healthy().await, std::sync::atomic::Ordering::Relaxed);
        !world.api(&format!("deployments/{id}")).await["finished_at"].is_null()
    })
    .await;
    let ended = world.api(&format!("deployments/{id}")).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    assert_eq!(fewest.into_inner(), 1, "fewest healthy targets of the small target group");
    world.stop().await;
}

/// Finding 3: a target group is deleted in mid-rollout.
#[tokio::test(flavor = "multi_thread")]
async fn a_target_group_that_is_gone_halts_the_rollout_in_order() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let once = policy("batch = \"1\"") + "attempts_unknown = 1\n";
    let quick = once + "[applications.sample.groups.demo.policy.deadlines]\nhealth = \"1s\"\n";
    let (world, _repository) = world_of(directory.path(), 3, quick).await;
    let id = world.submit("main").await;
    in_state(&world, id, "Deploying").await;
    let fault = json!({ "kind": "error", "match": { "action": "DescribeTargetHealth" }, "status": 400,
                        "code": "TargetGroupNotFound", "message": "One or more target groups not found", "times": 1_000_000 });
    world.control("faults", &fault).await.unwrap();
    let halted = world.ended(id).await;
    assert_eq!(halted["state"], "Halted", "{halted:#}");
    assert!(halted["reason"].as_str().unwrap().contains("is there no more"), "{halted:#}");
    until("the group is in order", 240, async || {
        let group = group(&world, "sample").await;
        group["suspended"] == json!([]) && group["tags"].get("drover:restore").is_none()
    })
    .await;
    let ran = world.drover(&["cancel", &id.to_string()]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    until("it ends", 120, async || !world.api(&format!("deployments/{id}")).await["finished_at"].is_null())
        .await;
    assert_eq!(world.api(&format!("deployments/{id}")).await["state"], "Cancelled");
    world.stop().await;
}

/// Finding 14.
#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_be_read_stops_a_deployment_with_words() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut world, _repository) = world(directory.path(), 2, "batch = \"1\"").await;
    let id = world.submit("main").await;
    in_state(&world, id, "Deploying").await;
    world.kill_daemon().await.unwrap();
    let database = world.setup.data.join("daemon/drover.db");
    let store = |change: &str| {
        let code = format!(
            "import sqlite3,sys\nc=sqlite3.connect(sys.argv[1])\nc.execute(\"UPDATE deployments SET policy = {change} WHERE id = {id}\")\nc.commit()"
        );
        let done = std::process::Command::new("python3").arg("-c").arg(code).arg(&database).status().unwrap();
        assert!(done.success());
    };
    // As a later version might have written it.
    store("replace(policy, '\\\"mode\\\":\\\"batch\\\"', '\\\"mode\\\":\\\"wave\\\"')");
    world.start_daemon().await.unwrap();
    until("it halts", 60, async || world.api(&format!("deployments/{id}")).await["state"] == "Halted").await;
    let halted = world.api(&format!("deployments/{id}")).await;
    let reason = halted["reason"].as_str().unwrap();
    assert!(reason.contains("can't be read by this version") && reason.contains("group restore"), "{reason}");
    world.kill_daemon().await.unwrap();
    store("replace(policy, '\\\"mode\\\":\\\"wave\\\"', '\\\"mode\\\":\\\"batch\\\"')");
    world.start_daemon().await.unwrap();
    let ran = world.drover(&["resume", &id.to_string()]).await;
    assert_eq!(ran.code, 0, "{}", ran.stderr);
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 2), "{ended:#}");
    world.stop().await;
}

/// Finding 10: what is staged needs no link, and GitHub may be away while it is deployed and put back.
#[tokio::test(flavor = "multi_thread")]
async fn github_may_be_away_once_everything_is_staged() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    setup.public_url = None;
    let world = Playground::start(setup).await.unwrap();
    let id = world.submit("main").await;
    in_state(&world, id, "Blocking").await;
    for action in ["GetTarball", "DownloadTarball", "GetCommit", "GetRepository"] {
        let fault =
            json!({ "kind": "error", "match": { "action": action }, "status": 503, "times": 1_000_000 });
        world.control("faults", &fault).await.unwrap();
    }
    let ended = world.ended(id).await;
    assert_eq!((ended["state"].as_str(), states(&ended, "Succeeded")), (Some("Succeeded"), 2), "{ended:#}");
    in_order(&world, 2).await;
    world.stop().await;
}

/// Findings 4 and 19: reads that are a moment old, or miss something.
#[tokio::test(flavor = "multi_thread")]
async fn one_look_is_not_the_truth() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 4, "batch = \"2\"").await;
    let ids = serving(&group(&world, "sample").await);
    let id = world.submit("main").await;
    in_state(&world, id, "Blocking").await;
    // One is missing from a few looks; then the whole group, and all targets; and what is seen is old, now and then.
    for fault in [
        json!({ "kind": "stale-read", "seconds": 5, "times": 30, "probability": 0.3 }),
        json!({ "kind": "partial-read", "match": { "action": "DescribeAutoScalingGroups", "instance": ids[0] }, "times": 3 }),
        json!({ "kind": "partial-read", "match": { "action": "DescribeAutoScalingGroups" }, "times": 2 }),
        json!({ "kind": "partial-read", "match": { "action": "DescribeTargetHealth" }, "times": 2, "probability": 0.2 }),
    ] {
        world.control("faults", &fault).await.unwrap();
    }
    let ended = world.ended(id).await;
    assert_eq!(
        (ended["state"].as_str(), states(&ended, "Succeeded"), states(&ended, "Gone")),
        (Some("Succeeded"), 4, 0),
        "{ended:#}"
    );
    in_order(&world, 4).await;
    world.nothing_ran_twice().await;
    world.stop().await;
}

/// Finding 36: what a host says is current counts only if the repository knows it; a fork's commit, which GitHub serves through
/// the parent, is no release of ours to go back to.
#[tokio::test(flavor = "multi_thread")]
async fn a_host_that_names_a_forks_commit_is_not_believed() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let fork = Repository { path: directory.path().join("fork") };
    repository.git(&["clone", "-q", ".", fork.path.to_str().unwrap()]);
    let stray = fork.commit("66");
    // The fleet runs it: somebody put it there by hand.
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    setup.forks = vec![fork.path.clone()];
    setup.first = stray.clone();
    let world = Playground::start(setup).await.unwrap();
    let id = world.submit("main").await;
    in_state(&world, id, "Deploying").await;
    assert_eq!(world.drover(&["cancel", &id.to_string(), "--now"]).await.code, 0);
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Cancelled", "{ended:#}");
    let log = fs::read_to_string(directory.path().join("daemon.log")).unwrap();
    assert!(
        log.contains(&format!("it says that {stray} is current, which is no revision of its repository"))
    );
    let commands = world.calls("SendCommand").await;
    let restored = commands.iter().any(|call| call["params"].to_string().contains(" restore "));
    assert!(!restored, "nothing of the fork's was run again");
    world.stop().await;
}

/// Finding 33: a target group that holds none of the group's instances is looked at once, not at every deploy.
#[tokio::test(flavor = "multi_thread")]
async fn a_foreign_target_group_is_looked_at_once() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 2, "batch = \"1\"").await;
    let foreign: Vec<Value> = (0..3)
        .map(|number| {
            json!({ "name": format!("foreign-{number}"), "port": 80, "listener_port": 0, "deregistration_delay": 10,
                    "health_check": { "path": "/", "interval": 5, "timeout": 2, "healthy_threshold": 2, "unhealthy_threshold": 2 } })
        })
        .collect();
    world.control("world", &json!({ "target_groups": foreign })).await.unwrap();
    let looks = async || {
        let about = |call: &Value| call["params"].to_string().contains("targetgroup/foreign-");
        world.calls("DescribeTargetHealth").await.iter().filter(|call| about(call)).count()
    };
    for _ in 0..2 {
        let plan = world.drover(&["plan", "main", "--group", "sample/demo"]).await;
        assert_eq!(plan.code, 0, "{}", plan.stderr);
        assert_eq!(looks().await, 3, "each of them once");
    }
    let id = world.submit("main").await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(looks().await, 3);
    world.stop().await;
}
