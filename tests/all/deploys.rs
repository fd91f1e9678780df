//! The main job, end to end: real processes, real HTTP, real hooks.

use crate::ground::{DROVER, Play as _, Repository, TURN, policy, setup, states};
use drover::cli::demo::playground::{GROUP, Playground};
use drover::sim::load::{Load, LoadReport, LoadSpec};
use serde_json::{Value, json};
use std::process::Command;

fn load(playground: &Playground, seed: u64) -> Load {
    Load::start(LoadSpec { url: playground.service.clone(), rate_per_second: 40, seed }).unwrap()
}

fn no_failures(report: &LoadReport) {
    assert_eq!(report.failed, 0, "{:?}", report.failures);
}

/// What a newcomer does, as a script would do it.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_deploys_without_a_failed_request() {
    let _turn = TURN.acquire().await;
    let run = || Command::new(DROVER).args(["demo", "--exit", "--json", "--seed", "7"]).output().unwrap();
    let output = tokio::task::spawn_blocking(run).await.unwrap();
    let text = String::from_utf8_lossy(&output.stdout);
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{text}\n{errors}");
    let first: Value = serde_json::from_str(text.lines().next().unwrap()).unwrap();
    for key in ["url", "token", "cloud", "cloud_token"] {
        assert!(first["ready"][key].is_string(), "{first}");
    }
    let last: Value = serde_json::from_str(text.lines().last().unwrap()).unwrap();
    let (deployment, requests) = (&last["result"]["deployment"], &last["result"]["requests"]);
    assert_eq!(
        (deployment["state"].as_str(), states(deployment, "Succeeded")),
        (Some("Succeeded"), 6),
        "{deployment:#}"
    );
    let tries: Vec<u64> =
        deployment["instances"].as_array().unwrap().iter().filter_map(|i| i["attempts"].as_u64()).collect();
    assert_eq!(tries.iter().filter(|tries| **tries == 2).count(), 1, "one instance is retried: {tries:?}");
    assert_eq!(requests["failed"], 0, "{requests:#}");
    assert!(requests["total"].as_u64().unwrap() >= 1000, "{requests:#}");
}

/// Nine instances, another seed, three other kinds of fault; and every line is in the log.
#[tokio::test(flavor = "multi_thread")]
async fn other_faults_are_survived_and_every_line_is_in_the_log() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    (setup.instances, setup.seed, setup.policy) = (9, 23, policy("batch = \"3\""));
    let playground = Playground::start(setup).await.unwrap();
    for fault in [
        json!({ "kind": "download-fail", "times": 1 }),
        json!({ "kind": "lose-response", "match": { "action": "SendCommand" }, "times": 1 }),
        json!({ "kind": "throttle", "match": { "action": "EnterStandby" }, "times": 2 }),
        json!({ "kind": "lose-response", "match": { "action": "ExitStandby" }, "times": 1 }),
        json!({ "kind": "agent-offline", "match": { "instance": "random" }, "seconds": 10 }),
    ] {
        playground.control("faults", &fault).await.unwrap();
    }
    let load = load(&playground, 23);
    let id = playground.submit("main").await;
    let deployment = playground.ended(id).await;
    let requests = load.stop().await;
    assert_eq!(
        (deployment["state"].as_str(), states(&deployment, "Succeeded")),
        (Some("Succeeded"), 9),
        "{deployment:#}"
    );
    no_failures(&requests);
    playground.log_is_whole(id).await;
    playground.nothing_ran_twice().await;
    let world = playground.look("world").await.unwrap();
    let group = &world["groups"][0];
    assert_eq!((&group["min"], &group["desired"]), (&json!(9), &json!(9)), "{group:#}");
    assert_eq!((&group["suspended"], &group["tags"]), (&json!([]), &json!({})), "{group:#}");
    playground.stop().await;
}

/// The control run: what the load measures is real.
#[tokio::test(flavor = "multi_thread")]
async fn without_draining_requests_fail() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    setup.deregistration_delay = 0;
    let playground = Playground::start(setup).await.unwrap();
    let load = load(&playground, 5);
    let id = playground.submit("main").await;
    assert_eq!(playground.ended(id).await["state"], "Succeeded");
    let requests = load.stop().await;
    assert!(requests.failed > 0, "draining was off, and no request failed: the load proves nothing");
    playground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_hook_that_fails_everywhere_halts_after_the_first_batch() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let hooks = repository.git(&["show", "main:appspec.yml"]);
    assert!(hooks.contains("AfterInstall"), "{hooks}");
    repository.write(
        "hooks/after-install.real",
        "#!/bin/sh\necho '::warning title=Disk::at 91 %25'\necho 'the database schema is too old'\nexit 3\n",
    );
    repository.commit("5");
    let mut setup = setup(directory.path(), &repository, &first);
    // The second one's failure is known before the first one is tried again, however slow the machine is.
    setup.policy = setup.policy.replace("\"500ms\"", "\"10s\"").replace("\"2s\"", "\"10s\"");
    let playground = Playground::start(setup).await.unwrap();
    let load = load(&playground, 1);
    let ran = playground.drover(&["deploy", "main", "--group", GROUP, "--follow"]).await;
    let requests = load.stop().await;
    assert_eq!(ran.code, 3, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("the database schema is too old"), "{}", ran.stdout);
    let deployment = playground.api("deployments/1").await;
    assert_eq!(deployment["state"], "Halted");
    assert!(deployment["reason"].as_str().unwrap().contains("systemic"), "{deployment:#}");
    assert_eq!((states(&deployment, "Failed"), states(&deployment, "Staged")), (2, 4), "{deployment:#}");
    // What failed alike is one thing to look into: in the API, in the terminal, on the page.
    let failures = deployment["failures"].as_array().unwrap();
    let words = "AfterInstall hook hooks/after-install failed with exit code 3 on 2 of 6 instances: the database schema is too old";
    assert_eq!((failures.len(), failures[0]["words"].as_str()), (1, Some(words)), "{deployment:#}");
    assert!(ran.stdout.contains(words), "{}", ran.stdout);
    assert_eq!(ran.stdout.matches("how the output of AfterInstall ended").count(), 3, "{}", ran.stdout);
    // What the hook wants people to see is seen without reading the log.
    let notes = deployment["annotations"].as_array().unwrap();
    assert_eq!(notes.len(), 2, "{deployment:#}");
    for note in notes {
        let found = ["level", "event", "text"].map(|key| note[key].as_str().unwrap());
        assert_eq!(found, ["warning", "AfterInstall", "Disk: at 91 %"]);
    }
    let status = playground.drover(&["status", "1"]).await.stdout;
    assert!(status.contains(words) && status.contains("AfterInstall: Disk: at 91 %"), "{status}");
    no_failures(&requests);
    for instance in deployment["instances"].as_array().unwrap().iter().filter(|i| i["state"] == "Staged") {
        let now =
            playground.on(instance["id"].as_str().unwrap(), "readlink /opt/drover/sample/current").await;
        assert!(now.contains(&first), "{now}");
    }
    only_the_wanted_lines_are_shown(&playground, failures[0]["instances"].as_array().unwrap(), &first).await;
    playground.stop().await;
}

/// `drover logs` without a number shows the newest deployment, and of that what it is asked for; `drover tail` waits.
async fn only_the_wanted_lines_are_shown(playground: &Playground, failed: &[Value], first: &str) {
    let failed: Vec<&str> = failed.iter().filter_map(Value::as_str).collect();
    let shown = async |arguments: &[&str]| {
        let ran = playground.drover(&[&["logs"], arguments].concat()).await;
        assert_eq!(ran.code, 0, "{arguments:?}: {}", ran.stderr);
        ran.stdout.lines().map(str::to_owned).collect::<Vec<_>>()
    };
    let all = shown(&[]).await;
    let told: Vec<&String> = all.iter().filter(|line| line.ends_with("schema is too old")).collect();
    assert_eq!(
        shown(&["--group", GROUP, "--grep", "schema is too (old|new)$"]).await,
        told.iter().map(|l| (*l).clone()).collect::<Vec<_>>()
    );
    let of_failed = shown(&["1", "--failed"]).await;
    assert!(of_failed.len() > 10 && of_failed.len() < all.len());
    assert!(of_failed.iter().all(|line| failed.iter().any(|id| line.contains(id))), "{of_failed:#?}");
    let of_event = shown(&["-i", failed[0], "-e", "AfterInstall", "--since", "1h"]).await;
    assert!(!of_event.is_empty() && of_event.iter().all(|l| l.contains(failed[0])));
    assert_eq!(shown(&["--since", "0s"]).await, Vec::<String>::new());
    let refused = playground.drover(&["logs", "1", "--grep", "(open"]).await;
    assert!(
        refused.code == 2 && refused.stderr.contains("the pattern '(open' can't be used"),
        "{}",
        refused.stderr
    );
    // Once that is over, the next one is waited for and followed.
    assert_eq!(playground.drover(&["cancel", "1"]).await.code, 0);
    playground.ended(1).await;
    let (tail, deploy) = (["tail", GROUP, "--count", "1"], ["deploy", first, "--group", GROUP]);
    let (tailed, begun) = tokio::join!(playground.drover(&tail), playground.drover(&deploy));
    assert_eq!((tailed.code, begun.code), (0, 0), "{}\n{}", tailed.stdout, begun.stderr);
    assert!(tailed.stdout.contains("deployment 2: Succeeded"), "{}", tailed.stdout);
}

#[tokio::test(flavor = "multi_thread")]
async fn one_bad_instance_within_the_budget_is_quarantined() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    setup.policy = policy("batch = \"2\"\nmax_failed = \"1\"");
    let playground = Playground::start(setup).await.unwrap();
    let fault = json!({
        "kind": "hook-exit", "match": { "instance": "random" }, "event": "AfterInstall", "exit": 3, "times": 99,
        "message": "bad sector on /dev/nvme1n1",
    });
    let unlucky = playground.control("faults", &fault).await.unwrap()["instance"].clone();
    let ran = playground.drover(&["deploy", "main", "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 4, "{}\n{}", ran.stdout, ran.stderr);
    let deployment = playground.api("deployments/1").await;
    assert_eq!((states(&deployment, "Succeeded"), states(&deployment, "Failed")), (5, 1), "{deployment:#}");
    let failed = deployment["instances"].as_array().unwrap().iter().find(|i| i["state"] == "Failed").unwrap();
    assert_eq!((&failed["id"], &failed["quarantined"]), (&unlucky, &json!(true)));
    assert!(failed["reason"].as_str().unwrap().contains("bad sector"), "{failed:#}");
    let world = playground.look("world").await.unwrap();
    let members = world["groups"][0]["instances"].as_array().unwrap().clone();
    let state = members.iter().find(|member| member["id"] == unlucky).unwrap();
    assert_eq!(state["lifecycle"], "Standby");
    playground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_cancelled_deployment_puts_touched_instances_back() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let playground = Playground::start(setup(directory.path(), &repository, &first)).await.unwrap();
    let load = load(&playground, 3);
    let id = playground.submit("main").await;
    crate::ground::until("hooks run", 60, || async {
        states(&playground.api(&format!("deployments/{id}")).await, "Deploying") > 0
    })
    .await;
    let ran = playground.drover(&["cancel", &id.to_string()]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    let deployment = playground.ended(id).await;
    assert_eq!(deployment["state"], "Cancelled");
    assert!(states(&deployment, "Restored") > 0, "{deployment:#}");
    no_failures(&load.stop().await);
    let world = playground.look("world").await.unwrap();
    assert_eq!(world["groups"][0]["suspended"], json!([]));
    // drover had never deployed to this fleet: what was current before is what is put back.
    for instance in deployment["instances"].as_array().unwrap().iter().filter(|i| i["state"] != "Succeeded") {
        let now =
            playground.on(instance["id"].as_str().unwrap(), "readlink /opt/drover/sample/current").await;
        assert!(now.contains(&first), "{now}");
    }
    playground.stop().await;
}
