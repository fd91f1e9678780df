//! Whole rollouts on a PostgreSQL server: it goes away in the middle of one, and the active daemon in the middle of the
//! next, which a standby finishes.

use super::{Front, Postgres, Second};
use crate::{
    crashes::hook_runs,
    ground::{Play as _, Repository, TURN, setup, until},
};
use drover::cli::demo::playground::Playground;
use std::time::{Duration, Instant};

async fn answer(url: &str, path: &str) -> (u16, String) {
    let client = reqwest::Client::builder().timeout(Duration::from_secs(20)).build().unwrap();
    let answer = client.get(format!("{url}{path}")).send().await.unwrap();
    (answer.status().as_u16(), answer.text().await.unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn the_server_and_the_active_daemon_go_away_and_nothing_is_lost() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let mut server = Postgres::start();
    let repository = Repository::wrapped(directory.path());
    let revisions = [repository.git(&["rev-parse", "main"]), repository.git(&["rev-parse", "main~1"])];
    let front = Front::start().await;
    let mut setup = setup(directory.path(), &repository, &revisions[1]);
    setup.policy = crate::ground::policy("batch = \"3\"");
    setup.database = Some(server.create("drover"));
    setup.public_url = Some(format!("http://{}", front.address));
    let mut world = Playground::start(setup).await.unwrap();
    let first = world.url.clone();
    front.lead_to(&[first.as_str()]).await;
    world.url = format!("http://{}", front.address);

    // The server goes away while hooks run.
    let id = world.submit(&revisions[0]).await;
    until("a hook runs", 90, async || hook_runs(&world).await).await;
    server.down();
    let (status, words) = answer(&world.url, "/readyz").await;
    assert!(status == 503 && words.contains("the database can't be reached"), "{status} {words}");
    let shown = world.drover(&["status", &id.to_string()]).await;
    assert!(shown.code != 0 && shown.stderr.contains("the database can't be reached"), "{}", shown.stderr);
    assert_eq!(answer(&world.url, "/healthz").await.0, 200);
    until("the deployment waits for it", 60, async || {
        let log = std::fs::read_to_string(directory.path().join("daemon.log")).unwrap();
        log.contains("waiting: the database can't be reached")
    })
    .await;
    server.up();
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    world.log_is_whole(id).await;
    world.nothing_ran_twice().await;
    let log = world.drover(&["logs", &id.to_string()]).await.stdout;
    // Written down while it was away (when it was back) or afterwards.
    let said = ["waited", "waiting"]
        .iter()
        .any(|word| log.contains(&format!("{word}: the database can't be reached")));
    assert!(said && log.contains("going on"), "{log}");

    // A second daemon waits, and says so.
    let mut second = Second::start(&world).await;
    front.lead_to(&[first.as_str(), second.url.as_str()]).await;
    for path in ["/readyz", "/api/v1/deployments", "/"] {
        let (status, words) = answer(&second.url, path).await;
        assert!(
            status == 503 && words.contains("\"standby\"") && words.contains("is active"),
            "{status} {words}"
        );
    }
    assert_eq!(answer(&second.url, "/healthz").await.0, 200);

    // The active one is killed while hooks run.
    let id = world.submit(&revisions[1]).await;
    until("a hook runs", 90, async || hook_runs(&world).await).await;
    let seen = world.look("audit?after=0").await.unwrap()["calls"].as_array().unwrap().len();
    let killed = Instant::now();
    world.kill_daemon().await.unwrap();
    let ready = second.says().await;
    let took_over = killed.elapsed();
    assert!(ready["ready"].is_object(), "{ready}");
    until("the new daemon asks AWS", 30, async || {
        let calls = world.look("audit?after=0").await.unwrap();
        calls["calls"].as_array().unwrap()[seen..].iter().any(|call| call["service"] != "github")
    })
    .await;
    let first_call = killed.elapsed();
    until("the new daemon has an effect", 60, async || {
        let calls = world.look("audit?after=0").await.unwrap();
        calls["calls"].as_array().unwrap()[seen..]
            .iter()
            .any(|call| call["mutating"] == true && call["service"] != "github")
    })
    .await;
    println!(
        "after kill -9: serving after {:.1} s, the first call to AWS after {:.1} s, the first effect after {:.1} s",
        took_over.as_secs_f64(),
        first_call.as_secs_f64(),
        killed.elapsed().as_secs_f64()
    );
    assert!(first_call < Duration::from_secs(10), "{first_call:?}");
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    world.log_is_whole(id).await;
    world.nothing_ran_twice().await;
    second.end().await;
    world.stop().await;
}
