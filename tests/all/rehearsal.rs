//! The rehearsal that the README shows: twenty instances with AWS's default drain and a batch of a fifth.

use crate::ground::{Play as _, Repository, TURN, setup};
use drover::{
    cli::demo::playground::{GROUP, Playground},
    sim::sample,
};

/// What the README says that the command prints.
fn shown(readme: &str) -> &str {
    let command = format!("$ drover plan main --group {GROUP}\n");
    let (_, block) = readme.split_once(&command).expect("the README shows the command");
    block.split_once("```").expect("its block ends").0
}

#[tokio::test(flavor = "multi_thread")]
async fn the_readme_shows_what_a_rehearsal_prints() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository { path: directory.path().join("repository") };
    sample::create_repository(&repository.path).unwrap();
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    (setup.instances, setup.time_scale, setup.policy) = (20, 20.0, "batch = \"20%\"\n".into());
    (setup.deregistration_delay, setup.health_interval) = (300, 30);
    let world = Playground::start(setup).await.unwrap();
    let plan = world.drover(&["plan", "main", "--group", GROUP]).await;
    assert_eq!(plan.code, 0, "{}", plan.stderr);
    let readme = std::fs::read_to_string(concat!(env!("CARGO_MANIFEST_DIR"), "/README.md")).unwrap();
    assert!(plan.stdout == shown(&readme), "put this into the README:\n{}", plan.stdout);
    let after = world.look("world").await.unwrap();
    assert_eq!(after["groups"][0]["tags"], serde_json::json!({}), "looking changes nothing");
    world.stop().await;
}
