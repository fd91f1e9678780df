//! Revisions as people who come from CodeDeploy have them.

use crate::ground::{Play as _, Repository, TURN, policy, setup};
use drover::cli::demo::playground::{GROUP, Playground};
use std::{fs, os::unix::fs::PermissionsExt as _};

/// Slashes before locations, keys that CodeDeploy passes over, a script without its run bit: deployed, with warnings in the
/// rehearsal and in the log.
#[tokio::test(flavor = "multi_thread")]
async fn what_codedeploy_takes_is_deployed_with_warnings() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let appspec = repository.path.join("appspec.yml");
    let text = fs::read_to_string(&appspec).unwrap();
    let odd = text.replace("location: hooks/", "location: /hooks/") + "branch_config:\n  main: production\n";
    assert_ne!(odd.len(), text.len());
    fs::write(&appspec, format!("\u{feff}{odd}")).unwrap();
    let script = repository.path.join("hooks/after-install");
    fs::set_permissions(&script, fs::Permissions::from_mode(0o644)).unwrap();
    let target = repository.commit("5");
    let mut setup = setup(directory.path(), &repository, &first);
    (setup.instances, setup.time_scale, setup.policy) = (2, 5.0, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    let plan = world.drover(&["plan", &target, "--group", GROUP]).await;
    let ran = world.drover(&["deploy", &target, "--group", GROUP, "--follow"]).await;
    assert_eq!((plan.code, ran.code), (0, 0), "{}\n{}\n{}", plan.stderr, ran.stdout, ran.stderr);
    for words in [
        "branch_config: this key is passed over",
        "hooks/after-install: is not executable: the host makes it so",
    ] {
        assert!(plan.stdout.contains(words), "{words}: {}", plan.stdout);
        assert!(
            ran.stdout.contains("warning: appspec.yml:") && ran.stdout.contains(words),
            "{words}: {}",
            ran.stdout
        );
    }
    assert!(
        ran.stdout.contains("the hook hooks/after-install was not executable: made so"),
        "{}",
        ran.stdout
    );
    world.stop().await;
}
