//! `kill -9` of the daemon, again and again, in the middle of deployments.

use crate::{
    database::opened,
    ground::{Play as _, Repository, TURN, setup},
};
use drover::{
    cli::demo::playground::Playground,
    sim::load::{Load, LoadSpec},
    store::{Database, IntentRow},
};
use rand::{Rng as _, SeedableRng as _, rngs::StdRng};
use serde_json::Value;
use std::time::Duration;

const DEPLOYMENTS: usize = 5;
const KILLS_EACH: usize = 4;

/// Whether a hook is running at this moment, as the cloud's own event log says.
pub async fn hook_runs(playground: &Playground) -> bool {
    let events = playground.look("events?after=0").await.unwrap();
    let events = events["events"].as_array().cloned().unwrap_or_default();
    let of = |kind: &str| events.iter().filter(|event| event["kind"] == kind).count();
    of("command-started") > of("command-ended")
}

#[tokio::test(flavor = "multi_thread")]
async fn twenty_kills_and_nothing_is_lost() {
    let _turn = TURN.acquire().await;
    let mut random = StdRng::seed_from_u64(20);
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let revisions = [repository.git(&["rev-parse", "main"]), repository.git(&["rev-parse", "main~1"])];
    let mut setup = setup(directory.path(), &repository, &revisions[1]);
    setup.policy = crate::ground::policy("batch = \"3\"");
    let mut playground = Playground::start(setup).await.unwrap();
    let load =
        Load::start(LoadSpec { url: playground.service.clone(), rate_per_second: 40, seed: 20 }).unwrap();
    let (mut kills, mut in_hooks) = (0, 0);
    for round in 0..DEPLOYMENTS {
        let id = playground.submit(&revisions[round % 2]).await;
        for kill in 0..KILLS_EACH {
            if kill % 4 != 3 {
                // While a hook runs, if one comes to run at all before the end.
                let limit = tokio::time::Instant::now() + Duration::from_secs(30);
                while !hook_runs(&playground).await && tokio::time::Instant::now() < limit {
                    tokio::time::sleep(Duration::from_millis(20)).await;
                }
            }
            tokio::time::sleep(Duration::from_millis(random.random_range(0..900))).await;
            in_hooks += usize::from(hook_runs(&playground).await);
            playground.kill_daemon().await.unwrap();
            kills += 1;
            playground.start_daemon().await.unwrap();
        }
        let deployment = playground.ended(id).await;
        assert_eq!(deployment["state"], "Succeeded", "{deployment:#}");
        playground.log_is_whole(id).await;
    }
    let requests = load.stop().await;
    assert_eq!(requests.failed, 0, "{:?}", requests.failures);
    assert!(kills >= 20 && in_hooks * 2 >= kills, "{in_hooks} of {kills} kills while a hook ran");
    playground.nothing_ran_twice().await;
    let calls = playground.look("audit?after=0").await.unwrap();
    playground.kill_daemon().await.unwrap();
    let store = opened(&Database::File(directory.path().join("daemon/drover.db"))).await.unwrap();
    let mut intents = Vec::new();
    for id in 1..=DEPLOYMENTS as i64 {
        intents.extend(store.intents(id, 10_000).await.unwrap());
    }
    let mutating = every_change_was_intended(&calls, &intents);
    println!(
        "{kills} kills, {in_hooks} while a hook ran; {} requests; {mutating} changing calls",
        requests.total
    );
    playground.stop().await;
}

/// Every changing call in the audit log has an intent row of that action, about that thing, written before it.
fn every_change_was_intended(calls: &Value, intents: &[IntentRow]) -> usize {
    let calls = calls["calls"].as_array().unwrap();
    let changing: Vec<&Value> =
        calls.iter().filter(|call| call["mutating"] == true && call["service"] != "github").collect();
    assert!(changing.len() > 30, "only {} changing calls", changing.len());
    for call in &changing {
        let (action, at) = (call["action"].as_str().unwrap(), call["at"].as_i64().unwrap());
        let about = call["params"].to_string();
        let found = intents.iter().any(|intent| {
            let request: Value = serde_json::from_str(&intent.request).unwrap();
            let same = match &request["Comment"] {
                Value::String(comment) => about.contains(comment.as_str()),
                _ => request["AutoScalingGroupName"].as_str().is_some_and(|name| about.contains(name)),
            };
            let ids = request["InstanceIds"].as_array().cloned().unwrap_or_default();
            intent.action == action
                && intent.created_at <= at
                && same
                && ids.iter().filter_map(Value::as_str).all(|id| about.contains(id))
        });
        assert!(found, "no intent for {call:#}");
    }
    changing.len()
}
