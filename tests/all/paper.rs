//! A fleet of paper instances, and a real daemon that deploys to it: pushed logs, frames through CloudWatch Logs, failures.

use super::ground::{Play as _, Repository, TURN, policy, setup, states};
use drover::cli::demo::playground::{Playground, Setup};
use serde_json::{Value, json};
use std::collections::BTreeMap;
use tempfile::TempDir;

const FLEET: u32 = 60;
/// CloudWatch Logs is read a stream at a time, at the rate that AWS allows.
const SMALL_FLEET: u32 = 20;

/// A daemon and paper instances on the repository's commit before its last one; their attempts are quick.
async fn start(directory: &TempDir, instances: u32, public_url: Option<String>) -> (Playground, String) {
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "HEAD~1"]);
    let target = repository.git(&["rev-parse", "HEAD"]);
    let world = Playground::start(Setup {
        instances,
        paper: true,
        time_scale: 10.0,
        policy: policy("batch = \"50%\"\nmax_failed = \"50%\""),
        public_url,
        ..setup(directory.path(), &repository, &first)
    })
    .await
    .unwrap();
    world
        .control("paper/sample", &json!({"download_seconds": 0.3, "hook_seconds": 0.2, "lines": 12}))
        .await
        .unwrap();
    (world, target)
}

async fn rows(world: &Playground, id: i64) -> Vec<Value> {
    let url = format!("{}/api/v1/deployments/{id}/logs?follow=false", world.url);
    let request =
        reqwest::Client::new().get(url).bearer_auth(&world.token).header("accept", "application/x-ndjson");
    let text = request.send().await.unwrap().text().await.unwrap();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// Every hook of every attempt printed all its lines, and nothing says that a log isn't whole.
fn assert_whole(rows: &[Value], fleet: u32) {
    let mut hooks: BTreeMap<(i64, &str), Vec<&str>> = BTreeMap::new();
    for row in rows {
        let text = row["text"].as_str().unwrap_or_default();
        assert!(!text.contains("is not whole"), "{text}");
        if row["source"] == "hook" && text.contains(": step ") {
            let key = (row["attempt"].as_i64().unwrap(), row["event"].as_str().unwrap());
            hooks.entry(key).or_default().push(text);
        }
    }
    assert!(hooks.len() > 2 * fleet as usize, "only {} hooks", hooks.len());
    for ((attempt, event), lines) in hooks {
        let wanted: Vec<String> = (1..=12).map(|n| format!("{event}: step {n} of 12")).collect();
        assert_eq!(lines.len() % wanted.len(), 0, "attempt {attempt}, {event}: {lines:?}");
        lines.chunks(wanted.len()).for_each(|hook| assert_eq!(hook, wanted, "attempt {attempt}, {event}"));
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn sixty_are_deployed_to_and_a_failing_share_is_shown() {
    let _turn = TURN.acquire().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (world, target) = start(&directory, FLEET, Some("http://127.0.0.1:0".into())).await;
    let id = world.submit(&target).await;
    let done = world.ended(id).await;
    assert_eq!(
        (done["state"].as_str(), states(&done, "Succeeded")),
        (Some("Succeeded"), FLEET as usize),
        "{done:#}"
    );
    assert_whole(&rows(&world, id).await, FLEET);

    // Back again, and on some of them a hook fails at every attempt.
    let pattern =
        json!({"download_seconds": 0.3, "hook_seconds": 0.2, "lines": 12, "failing_instances": 0.2});
    world.control("paper/sample", &pattern).await.unwrap();
    let id = world.submit(&world.setup.first).await;
    let done = world.ended(id).await;
    // Halted where those that fail are through with their retries before any other has got past the same hook.
    assert!(["Partial", "Halted"].contains(&done["state"].as_str().unwrap()), "{done:#}");
    let failed: Vec<&Value> =
        done["instances"].as_array().unwrap().iter().filter(|i| i["state"] == "Failed").collect();
    assert!(!failed.is_empty() && states(&done, "Succeeded") > failed.len(), "{done:#}");
    for instance in failed {
        let reason = instance["reason"].as_str().unwrap_or_default();
        assert!(
            reason.contains("failed with exit code 1") && reason.contains("the paper pattern"),
            "{instance}"
        );
    }
    let rows = rows(&world, id).await;
    let says = |words: &str| rows.iter().any(|row| row["text"].as_str().is_some_and(|t| t.contains(words)));
    assert!(says("fails, as the paper pattern has it") && says("ended with exit code 1"));
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_public_url_their_logs_come_in_frames() {
    let _turn = TURN.acquire().await.unwrap();
    let directory = tempfile::tempdir().unwrap();
    let (world, target) = start(&directory, SMALL_FLEET, None).await;
    let id = world.submit(&target).await;
    let done = world.ended(id).await;
    assert_eq!(
        (done["state"].as_str(), states(&done, "Succeeded")),
        (Some("Succeeded"), SMALL_FLEET as usize),
        "{done:#}"
    );
    assert_whole(&rows(&world, id).await, SMALL_FLEET);
    world.stop().await;
}
