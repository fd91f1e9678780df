//! The world is less kind than a simulator likes to be: what drover says and keeps when things go wrong around it.

use crate::ground::{Play as _, Repository, TURN, policy, small, until};
use drover::cli::demo::playground::{GROUP, Playground};
use serde_json::{Value, json};
use std::{fs, path::Path};

async fn world(directory: &Path, size: u32, lines: &str) -> (Playground, Repository) {
    let repository = Repository::wrapped(directory);
    let first = repository.git(&["rev-parse", "main~1"]);
    let setup = small(directory, &repository, &first, size, policy(lines));
    (Playground::start(setup).await.unwrap(), repository)
}

/// A panic in a deployment's task ends that deployment, in words; the daemon goes on.
#[tokio::test(flavor = "multi_thread")]
async fn a_fault_of_drovers_own_ends_one_deployment_and_is_said() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (mut world, _repository) = world(directory.path(), 3, "batch = \"1\"").await;
    world.kill_daemon().await.unwrap();
    world.environment = vec![("DROVER_CRASH_AT".into(), "1:panic".into())];
    world.start_daemon().await.unwrap();
    let id = world.submit("main").await;
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Failed");
    let reason = ended["reason"].as_str().unwrap();
    assert!(
        reason.contains("a fault of drover's own ended it: a test wants a panic at intent 1"),
        "{reason}"
    );
    let ready = reqwest::get(format!("{}/readyz", world.url)).await.unwrap();
    assert_eq!(ready.status(), 503);
    let words = ready.text().await.unwrap();
    assert!(words.contains("deployment 1: a test wants a panic"), "{words}");
    let next = world.submit("main").await;
    assert_eq!(world.ended(next).await["state"], "Succeeded", "the daemon goes on");
    world.stop().await;
}

/// However many ask for a revision at once, it is fetched once; a damaged copy is fetched once more.
#[tokio::test(flavor = "multi_thread")]
async fn a_bundle_is_fetched_once_and_a_damaged_one_again() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let (world, _repository) = world(directory.path(), 2, "batch = \"1\"").await;
    let before = world.calls("DownloadTarball").await.len();
    let plan = async || -> Value {
        let submission = json!({ "group": GROUP, "revision": "main" });
        let request =
            reqwest::Client::new().post(format!("{}/api/v1/plan", world.url)).bearer_auth(&world.token);
        let answer = request.json(&submission).send().await.unwrap();
        assert_eq!(answer.status(), 200);
        answer.json().await.unwrap()
    };
    futures_util::future::join_all((0..6).map(|_| plan())).await;
    assert_eq!(world.calls("DownloadTarball").await.len() - before, 1, "six at once");
    let bundles = directory.path().join("daemon/bundles");
    let files: Vec<_> = fs::read_dir(&bundles).unwrap().map(|entry| entry.unwrap().path()).collect();
    assert_eq!(files.len(), 1, "nothing half-done lies beside it: {files:?}");
    let whole = fs::read(&files[0]).unwrap();
    fs::write(&files[0], &whole[..whole.len() / 2]).unwrap();
    plan().await;
    assert_eq!(world.calls("DownloadTarball").await.len() - before, 2);
    assert_eq!(fs::read(&files[0]).unwrap().len(), whole.len());
    // A deployment's many dispatches ask for no further one.
    let id = world.submit("main").await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(world.calls("DownloadTarball").await.len() - before, 2);
    world.stop().await;
}

/// What waits behind a lock waits for whoever locked, not for a deadline; a hook that prints for ever fills nothing; a copy of
/// the store is made meanwhile.
#[tokio::test(flavor = "multi_thread")]
async fn a_lock_is_waited_for_and_a_hook_that_prints_for_ever_fills_nothing() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let queued = "batch = \"1\"\n[applications.sample.groups.demo.policy.deadlines]\nqueued = \"1s\"";
    let (mut world, repository) = world(directory.path(), 2, queued).await;
    world.kill_daemon().await.unwrap();
    let config = fs::read_to_string(world.config_path()).unwrap();
    // What is committed below is deployed by its submission alone: no look at the branch comes before it.
    let config = config.replace("auto_deploy = true", "auto_deploy = false");
    fs::write(world.config_path(), config.replace("[server]\n", "[server]\nattempt_log_mib = 1\n")).unwrap();
    world.start_daemon().await.unwrap();
    repository.write("hooks/after-install.real", "#!/bin/sh\necho before it\nyes | head -c 4000000\n");
    let target = repository.commit("5");
    let locked = world.drover(&["lock", GROUP, "--reason", "the database is being moved"]).await;
    assert_eq!(locked.code, 0, "{}", locked.stderr);
    let id = world.submit(&target).await;
    until("it waits for longer than its deadline", 30, async || {
        let waits = world.api(&format!("deployments/{id}")).await;
        assert_eq!(waits["state"], "Queued", "{waits:#}");
        let since: jiff::Timestamp = waits["created_at"].as_str().unwrap().parse().unwrap();
        jiff::Timestamp::now().duration_since(since) > jiff::SignedDuration::from_secs(4)
    })
    .await;
    assert_eq!(world.drover(&["unlock", GROUP]).await.code, 0);
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    let ran = world.drover(&["logs", &id.to_string()]).await;
    assert!(ran.stdout.contains("before it"), "{}", ran.stdout.len());
    assert!(ran.stdout.contains("the log is full at 1048576 bytes:"), "the host says so");
    assert!(!ran.stdout.contains("has not come to its end"), "and what it says is the log's end");
    // The copy holds what was there.
    let copy = directory.path().join("copy.db");
    let made = world.beside_daemon("backup").arg(&copy).output().await.unwrap();
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let again = world.beside_daemon("backup").arg(&copy).output().await.unwrap();
    assert!(!again.status.success(), "it is not overwritten");
    let store = crate::database::opened(&drover::store::Database::File(copy)).await.unwrap();
    let row = store.deployment(id).await.unwrap().unwrap();
    assert_eq!(row.state, "Succeeded");
    assert!((2_000_000..3_000_000).contains(&row.log_bytes), "{} bytes of two instances", row.log_bytes);
    world.stop().await;
}

/// The demo keeps its promise at any size: some serve at any time.
#[tokio::test(flavor = "multi_thread")]
async fn the_demo_of_two_fails_no_request() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    // A repository whose branch is not called main.
    let repository = Repository::wrapped(directory.path());
    repository.git(&["branch", "-m", "master"]);
    for arguments in
        [&["--instances", "2"] as &[&str], &["--instances", "3", "--repo", repository.path.to_str().unwrap()]]
    {
        let mut command = tokio::process::Command::new(crate::ground::DROVER);
        command.args(["demo", "--exit", "--json", "--seed", "7"]).args(arguments).kill_on_drop(true);
        let output = tokio::time::timeout(std::time::Duration::from_secs(240), command.output())
            .await
            .unwrap()
            .unwrap();
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        let lines = String::from_utf8(output.stdout).unwrap();
        let result: Value = serde_json::from_str(lines.lines().last().unwrap()).unwrap();
        let requests = &result["result"]["requests"];
        assert_eq!(requests["failed"], 0, "{arguments:?}: {requests:#}");
        assert!(requests["total"].as_u64().unwrap() > 100, "{requests:#}");
    }
}
