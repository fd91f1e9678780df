//! A deployment where nothing reaches the daemon: no `public_url`, and the instances' network leads to the cloud alone.
//! Bundles come by GitHub's link, logs by CloudWatch Logs, new commits by polling.

use crate::ground::{Play as _, Repository, TURN, instance_policy, policy, setup};
use drover::cli::demo::playground::{GROUP, Playground};
use serde_json::json;

#[tokio::test(flavor = "multi_thread")]
async fn without_a_way_in_the_whole_log_comes_by_cloudwatch() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    // What is no plain text, and more than one frame of it.
    repository.write(
        "hooks/after-install.real",
        "#!/bin/sh\nprintf 'gr\\303\\274n \\377 \\033[1mbold\\033[0m\\n'; for n in 1 2 3 4 5 6; do date '+written at %s.%N'; sleep 0.3; done; seq 1 30000\nprintf 'no newline'\n",
    );
    let target = repository.commit("5");
    let mut setup = setup(directory.path(), &repository, &first);
    setup.public_url = None;
    setup.time_scale = 1.0;
    setup.deregistration_delay = 4;
    setup.policy = policy("batch = \"3\"");
    let world = Playground::start(setup).await.unwrap();
    // Answers to the agents' uploads are lost now and then: the same lines come again, in events cut elsewhere.
    let lost = json!({ "kind": "lose-response", "match": { "action": "PutLogEvents" }, "times": 1000, "probability": 0.25 });
    world.control("faults", &lost).await.unwrap();
    // The instances reach GitHub's archive, and nothing of the daemon.
    let instance = world.instances().await.unwrap().remove(0);
    let reached =
        world.on(&instance, &format!("curl -s -m 3 {}/healthz || echo unreachable", world.url)).await;
    assert_eq!(reached.trim(), "unreachable");

    let ran = world.drover(&["deploy", &target, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("30000"), "the log is in the terminal");
    assert!(!ran.stdout.contains("is not whole"), "{}", ran.stdout);
    world.log_is_whole(1).await;
    world.nothing_ran_twice().await;

    let latency = latencies(&world).await;
    println!("from a hook's line to the store: median {:.2} s, longest {:.2} s", latency.0, latency.1);

    // A new head of the branch is found without a webhook.
    let head = repository.commit("6");
    let ended = world.ended(2).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&"Succeeded".into(), &head.into()));
    assert_eq!(ended["by"], "new head of main");
    world.stop().await;
}

/// Whoever lacks a right on the logs, the agents or the daemon: the hooks run once, the rollout succeeds, and its log says what is
/// missing.
#[tokio::test(flavor = "multi_thread")]
async fn a_log_that_can_not_come_costs_no_second_run_and_is_said() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    // More than Systems Manager keeps of a command's output: the result is beyond it.
    repository.write("hooks/after-install.real", "#!/bin/sh\nseq 1 3000\nsleep 12\n");
    let target = repository.commit("5");
    let mut setup = setup(directory.path(), &repository, &first);
    (setup.public_url, setup.time_scale, setup.instances) = (None, 4.0, 3);
    setup.policy = policy("batch = \"3\"\nallow_downtime = true");
    let world = Playground::start(setup).await.unwrap();
    let roll = async |id: i64, missing: &str| {
        let ended = world.ended(id).await;
        assert_eq!(ended["state"], "Succeeded", "{ended:#}");
        let ran = world.drover(&["logs", &id.to_string()]).await;
        for words in [missing, "how it ended is known by Systems Manager alone"] {
            assert!(ran.stdout.contains(words), "'{words}' is not in\n{}", ran.stdout);
        }
        world.nothing_ran_twice().await;
        for instance in world.instances().await.unwrap() {
            let runs = world.on(&instance, "grep -c AfterInstall /var/log/hook-runs").await;
            assert_eq!(runs.trim(), (id + 1).to_string(), "{instance} ran it once in each");
        }
    };
    // The daemon may not read: as long as it is so.
    let fault = json!({ "kind": "error", "match": { "action": "GetLogEvents" }, "status": 400, "code": "AccessDeniedException",
                        "message": "not authorized to perform: logs:GetLogEvents", "times": 1_000_000 });
    let fault = world.control("faults", &fault).await.unwrap()["id"].as_str().unwrap().to_owned();
    let id = world.submit(&target).await;
    roll(id, "the daemon needs logs:GetLogEvents on /drover").await;
    let client = reqwest::Client::new().delete(format!("{}/_sim/faults/{fault}", world.cloud.url));
    client.bearer_auth(&world.cloud.token).send().await.unwrap();
    // The agents may not look for the group, nor make it.
    let mut role = instance_policy();
    role["Statement"].as_array_mut().unwrap().retain(|statement| statement["Resource"] != "*");
    world.control("instance-policy", &role).await.unwrap();
    let head = repository.commit("6");
    let id = world.submit(&head).await;
    roll(id, "The instances' role needs logs:CreateLogStream").await;
    world.stop().await;
}

/// Seconds between a hook's own time stamp and the daemon's: the median and the longest.
async fn latencies(world: &Playground) -> (f64, f64) {
    let url = format!("{}/api/v1/deployments/1/logs?follow=false", world.url);
    let rows =
        reqwest::Client::new().get(url).bearer_auth(&world.token).header("accept", "application/x-ndjson");
    let text = rows.send().await.unwrap().text().await.unwrap();
    let mut seconds: Vec<f64> = text
        .lines()
        .filter_map(|line| serde_json::from_str::<serde_json::Value>(line).ok())
        .filter_map(|row| {
            let written: f64 = row["text"].as_str()?.strip_prefix("written at ")?.parse().ok()?;
            let at: jiff::Timestamp = row["at"].as_str()?.parse().ok()?;
            Some(at.as_millisecond() as f64 / 1000.0 - written)
        })
        .collect();
    seconds.sort_by(f64::total_cmp);
    assert!(!seconds.is_empty(), "the hooks said when they wrote");
    (seconds[seconds.len() / 2], seconds[seconds.len() - 1])
}
