//! One AWS call after the other is answered with AccessDenied in mid-rollout, each in a cloud of its own, side by side. For
//! twelve seconds in the test run; `tests/denied SECONDS` takes longer and prints what a person reads meanwhile.

use crate::ground::{Play as _, Repository, TURN, TURNS, number, policy, serving, small, states, until};
use drover::cli::demo::playground::Playground;
use serde_json::json;
use std::time::{Duration, Instant};

/// Every call that a rollout makes.
const CALLS: [&str; 15] = [
    "DescribeAutoScalingGroups",
    "DescribeScalingActivities",
    "DescribeTargetGroups",
    "DescribeTargetHealth",
    "SendCommand",
    "ListCommands",
    "ListCommandInvocations",
    "DescribeInstanceInformation",
    "EnterStandby",
    "ExitStandby",
    "SuspendProcesses",
    "ResumeProcesses",
    "UpdateAutoScalingGroup",
    "CreateOrUpdateTags",
    "DeleteTags",
];

#[tokio::test(flavor = "multi_thread")]
async fn a_call_that_is_denied_is_waited_out_and_blamed_on_nobody() {
    let _turn = TURN.acquire_many(TURNS).await;
    let seconds = number("DROVER_DENIED_SECONDS", 12);
    let mut rows = Vec::new();
    // Each is a cloud with three machines, which mostly wait.
    let told = CALLS.iter().map(|call| tokio::spawn(denied(call, Duration::from_secs(seconds))));
    for told in told.collect::<Vec<_>>() {
        rows.push(told.await.unwrap());
    }
    println!("| denied for {seconds} s | meanwhile | what a person reads | in the end |\n|---|---|---|---|");
    rows.iter().for_each(|row| println!("{row}"));
}

/// Rolls a fleet with that call denied in the middle of it; answers a row of the table.
async fn denied(call: &'static str, lasts: Duration) -> String {
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let setup = small(directory.path(), &repository, &first, 3, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    let id = world.submit("main").await;
    let deployment = async || world.api(&format!("deployments/{id}")).await;
    until("the first is deployed to", 120, async || states(&deployment().await, "Deploying") > 0).await;
    let fault = json!({ "kind": "error", "match": { "action": call }, "status": 403, "code": "AccessDenied",
                        "message": format!("User: drover is not authorized to perform: {call}"), "times": 1_000_000 });
    let fault = world.control("faults", &fault).await.unwrap()["id"].as_str().unwrap().to_owned();
    let begun = Instant::now();
    let mut reads = String::new();
    // Its words, as the page and the terminal show them.
    while begun.elapsed() < lasts {
        let seen = deployment().await;
        let lines = seen["explain"].to_string();
        if lines.contains(call) && lines.contains("AccessDenied") {
            let words = seen["explain"]["deployment"].as_array().cloned().unwrap_or_default();
            let word = words.iter().filter_map(|word| word.as_str()).find(|word| word.contains(call));
            reads = word.unwrap_or(&lines).to_owned();
        }
        tokio::time::sleep(Duration::from_millis(500)).await;
    }
    let meanwhile = deployment().await;
    for instance in meanwhile["instances"].as_array().unwrap() {
        assert_ne!(instance["state"], "Failed", "{call}: {meanwhile:#}");
    }
    let client = reqwest::Client::new();
    let url = format!("{}/_sim/faults/{fault}", world.cloud.url);
    let cleared = client.delete(url).bearer_auth(&world.cloud.token).send().await.unwrap();
    assert!(cleared.status().is_success(), "{cleared:?}");
    let since = Instant::now();
    let ended = world.ended(id).await;
    assert_eq!(
        (ended["state"].as_str(), states(&ended, "Succeeded")),
        (Some("Succeeded"), 3),
        "{call}: {ended:#}"
    );
    let after = since.elapsed().as_secs();
    until("the group is in order", 60, async || {
        let seen = world.look("world").await.unwrap();
        let group = seen["groups"][0].clone();
        serving(&group).len() == 3 && group["suspended"] == json!([]) && group["tags"] == json!({})
    })
    .await;
    world.stop().await;
    let state = meanwhile["state"].as_str().unwrap_or_default();
    let reads = if reads.is_empty() { "nothing: it was not needed".to_owned() } else { reads };
    let end = match meanwhile["finished_at"].is_null() {
        true => format!("Succeeded {after} s after it was allowed again, group in order"),
        false => "it had succeeded meanwhile, group in order".to_owned(),
    };
    format!("| {call} | {state} | {reads} | {end} |")
}
