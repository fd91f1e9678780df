//! Revisions as people who come from CodeDeploy have them.

use crate::ground::{Play as _, Repository, TURN, policy, small};
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
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
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

/// `files` and `permissions` as CodeDeploy has them: copied, owned, cleaned up after; undone where a file is in the way.
#[tokio::test(flavor = "multi_thread")]
async fn files_are_copied_to_their_places_and_cleaned_up_after() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let appspec = repository.path.join("appspec.yml");
    let text = fs::read_to_string(&appspec).unwrap();
    let files = "files:\n  - source: /site/\n    destination: /srv/shop/\n  - source: VERSION\n    destination: /srv/shop/conf\n    overwrite: true\n\
                 permissions:\n  - object: /srv/shop\n    pattern: \"*.html\"\n    owner: nobody\n    mode: 640\n    type: [file]\n";
    fs::write(&appspec, format!("{text}{files}")).unwrap();
    fs::create_dir_all(repository.path.join("site/img")).unwrap();
    for (path, content) in [("index.html", "one"), ("img/logo", "logo"), ("old.html", "old")] {
        fs::write(repository.path.join("site").join(path), content).unwrap();
    }
    let one = repository.commit("5");
    fs::write(repository.path.join("site/index.html"), "two").unwrap();
    fs::remove_file(repository.path.join("site/old.html")).unwrap();
    let two = repository.commit("6");
    fs::write(repository.path.join("site/mine"), "theirs").unwrap();
    let three = repository.commit("7");
    let setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    let world = Playground::start(setup).await.unwrap();
    let instance = world.instances().await.unwrap().remove(0);
    let tree = async || {
        world
            .on(
                &instance,
                "cd /srv/shop && find . -type f | sort | while read f; do echo \"$f $(cat $f)\"; done",
            )
            .await
    };

    let ran = world.drover(&["deploy", &one, "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert!(ran.stdout.contains("files: 2: overwrite: this key is passed over"), "{}", ran.stdout);
    assert_eq!(tree().await, "./conf/VERSION 5\n./img/logo logo\n./index.html one\n./old.html old\n");
    let modes = world.on(&instance, "cd /srv/shop && stat -c '%a %U' index.html img/logo").await;
    assert_eq!(modes, "640 nobody\n664 root\n");
    // What a person put there stays, and what the revision lacks goes.
    world.on(&instance, "echo by hand >/srv/shop/mine").await;
    let id = world.submit(&two).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    let wanted = "./conf/VERSION 6\n./img/logo logo\n./index.html two\n./mine by hand\n";
    assert_eq!(tree().await, wanted);
    // It is in the way of the next: nothing is changed, and the words say which and what to do.
    let ran = world.drover(&["deploy", &three, "--group", GROUP, "--follow"]).await;
    assert_ne!(ran.code, 0);
    let words = "/srv/shop/mine is there already, and no former revision brought it: remove it, or set file_exists_behavior";
    assert!(ran.stdout.contains(words), "{}", ran.stdout);
    assert_eq!(tree().await, wanted);
    // A way back is a deployment like any other.
    assert_eq!(world.drover(&["cancel", "3"]).await.code, 0);
    world.ended(3).await;
    world.on(&instance, "rm /srv/shop/mine").await;
    let id = world.submit(&one).await;
    let ended = world.ended(id).await;
    assert_eq!(ended["state"], "Succeeded", "{ended:#}");
    assert_eq!(tree().await, "./conf/VERSION 5\n./img/logo logo\n./index.html one\n./old.html old\n");
    world.stop().await;
}
