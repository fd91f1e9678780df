//! Bad input: a clear error, before a host is touched, and nothing half-done stays behind.

use crate::ground::{DROVER, Play as _, Repository, TURN, policy, setup, small, until};
use drover::cli::demo::playground::{GROUP, Playground};
use serde_json::{Value, json};
use std::{fs, net::TcpListener, path::Path, process::Command};

/// Commits enough that two share their first four digits, and answers those digits.
fn collision(repository: &Repository) -> String {
    let mut stream = String::new();
    for number in 0..1500 {
        stream.push_str(&format!(
            "commit refs/heads/many\ncommitter t <t@example.com> {} +0000\ndata 2\n{}\n",
            1_700_000_000 + number,
            ["a\n", "b\n"][number % 2],
        ));
    }
    let import = repository.path.join("../many");
    fs::write(&import, stream).unwrap();
    let done = Command::new("git")
        .arg("-C")
        .arg(&repository.path)
        .args(["fast-import", "--quiet"])
        .stdin(fs::File::open(&import).unwrap())
        .status()
        .unwrap();
    assert!(done.success());
    let mut all: Vec<String> =
        repository.git(&["rev-list", "many"]).lines().map(|sha| sha[..4].to_owned()).collect();
    all.sort_unstable();
    all.windows(2).find(|pair| pair[0] == pair[1]).expect("1500 of 65536").first().unwrap().clone()
}

/// A commit of its own in a clone of the repository.
fn fork(repository: &Repository, directory: &Path) -> (Repository, String) {
    let fork = Repository { path: directory.join("fork") };
    let (from, to) = (repository.path.to_str().unwrap(), fork.path.to_str().unwrap());
    assert!(Command::new("git").args(["clone", "-q", from, to]).status().unwrap().success());
    let sha = fork.commit("666");
    (fork, sha)
}

fn untouched(world: &Value) {
    let group = &world["groups"][0];
    assert_eq!((&group["suspended"], &group["tags"]), (&json!([]), &json!({})), "{group:#}");
    for instance in group["instances"].as_array().unwrap() {
        assert_eq!(instance["lifecycle"], "InService", "{instance:#}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_revision_that_is_none_is_refused_at_once() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let ambiguous = collision(&repository);
    let (fork, foreign) = fork(&repository, directory.path());
    repository.git(&["branch", "side", "main"]);
    repository.git(&["checkout", "-q", "side"]);
    let unmerged = repository.commit("7");
    repository.git(&["checkout", "-q", "main"]);
    let mut setup = setup(directory.path(), &repository, &first);
    (setup.forks, setup.instances) = (vec![fork.path], 2);
    setup.policy = policy("batch = \"1\"");
    let playground = Playground::start(setup).await.unwrap();
    let unknown = "0123456789012345678901234567890123456789";
    for (revision, says) in [
        (unknown, "no commit 0123456789012345678901234567890123456789 in acme/sample"),
        (&ambiguous, "an abbreviation of several"),
        (&foreign, "comes from a fork or was never merged"),
        (&unmerged, "is not on branch main"),
        ("no-such-branch", "no branch, tag or commit 'no-such-branch'"),
        ("../../etc", "is no revision"),
    ] {
        let ran = playground.drover(&["deploy", revision, "--group", GROUP]).await;
        assert!(ran.code == 2 && ran.stderr.contains(says), "{revision}: {} {}", ran.code, ran.stderr);
    }
    for (arguments, says) in [
        (["deploy", "main", "--group", "sample/nowhere"].as_slice(), "no deployment group 'sample/nowhere'"),
        (&["deploy", "main", "--group", GROUP, "--batch", "0"], "a batch of '0'"),
        (&["deploy", "main", "--group", GROUP, "--batch", "120%"], "more than the whole fleet"),
    ] {
        let ran = playground.drover(arguments).await;
        assert!(ran.code == 2 && ran.stderr.contains(says), "{arguments:?}: {} {}", ran.code, ran.stderr);
    }
    assert_eq!(playground.api("deployments").await["deployments"], json!([]), "nothing half-done");
    let answer = reqwest::get(format!("{}/api/v1/deployments", playground.url)).await.unwrap();
    assert_eq!(answer.status(), 401, "no token, no answer");
    // An abbreviation of one commit is resolved to the whole SHA before anything else.
    let ran = playground.drover(&["deploy", &first[..9], "--group", GROUP, "--follow"]).await;
    assert_eq!(ran.code, 0, "{}\n{}", ran.stdout, ran.stderr);
    assert_eq!(playground.api("deployments/1").await["revision"]["sha"], first.as_str());
    playground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_can_not_work_fails_before_a_host_is_touched() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let appspec = fs::read_to_string(repository.path.join("appspec.yml")).unwrap();
    let mut broken = Vec::new();
    let mut commit = |text: &str, says: &'static str| {
        fs::write(repository.path.join("appspec.yml"), text).unwrap();
        broken.push((repository.commit(says), says));
    };
    commit("version: 0.0\nos: linux\nhooks: [\n", "appspec.yml");
    commit(
        "version: 0.0\nos: linux\nhooks:\n  ApplicationBegin: []\n",
        "appspec.yml:4: hooks: ApplicationBegin: there is no such lifecycle event; is ApplicationStop meant?",
    );
    commit(&appspec.replace("hooks/after-install", "hooks/nowhere"), "hooks/nowhere: there is no such file");
    commit(
        "version: 0.0\nos: linux\nfiles:\n  - source: /\n    destination: ~/app\n",
        "neither '~' nor variables",
    );
    fs::write(repository.path.join("appspec.yml"), &appspec).unwrap();
    let sound = repository.commit("10");
    let mut setup = setup(directory.path(), &repository, &first);
    setup.instances = 3;
    setup.policy = policy("batch = \"1\"");
    let playground = Playground::start(setup).await.unwrap();
    for (sha, says) in broken {
        let ran = playground.drover(&["deploy", &sha, "--group", GROUP, "--follow"]).await;
        assert!(ran.code == 1 && ran.stdout.contains(says), "{says}: {} {}", ran.code, ran.stdout);
    }
    let ran = playground
        .drover(&["deploy", &sound, "--group", GROUP, "--batch", "2", "--min-in-service", "2", "--follow"])
        .await;
    assert!(ran.code == 1 && ran.stdout.contains("3 - 2 = 1 is less than 2"), "{} {}", ran.code, ran.stdout);
    let ran = playground.drover(&["deploy", &sound, "--group", GROUP, "--batch", "3", "--follow"]).await;
    assert!(ran.code == 1 && ran.stdout.contains("allow_downtime"), "{} {}", ran.code, ran.stdout);
    untouched(&playground.look("world").await.unwrap());
    for instance in playground.instances().await.unwrap() {
        playground.control(&format!("instances/{instance}/stop-agent"), &json!({})).await.unwrap();
    }
    until("the agents are known to be lost", 60, || async {
        let world = playground.look("world").await.unwrap();
        let members = world["groups"][0]["instances"].as_array().unwrap().clone();
        members.iter().all(|member| member["agent_online"] == false)
    })
    .await;
    let ran = playground.drover(&["deploy", &sound, "--group", GROUP, "--follow"]).await;
    assert!(ran.code == 1 && ran.stdout.contains("no reachable agent"), "{} {}", ran.code, ran.stdout);
    untouched(&playground.look("world").await.unwrap());
    let calls = playground.look("audit?after=0").await.unwrap();
    let changing =
        calls["calls"].as_array().unwrap().iter().filter(|call| {
            call["mutating"] == true && call["service"] != "ssm" && call["service"] != "github"
        });
    assert_eq!(changing.count(), 0, "no group was changed");
    playground.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_empty_fleet_is_refused() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut setup = setup(directory.path(), &repository, &first);
    setup.instances = 0;
    let playground = Playground::start(setup).await.unwrap();
    let ran = playground.drover(&["deploy", "main", "--group", GROUP, "--follow"]).await;
    assert!(ran.code == 1 && ran.stdout.contains("the fleet is empty"), "{} {}", ran.code, ran.stdout);
    playground.stop().await;
}

const CONFIG: &str =
    "[applications.a]\nrepository = \"o/r\"\n[applications.a.groups.b]\nauto_scaling_groups = [\"x\"]\n";

/// Runs `drover serve` on a configuration that it must refuse.
fn serve(directory: &Path, server: &str) -> String {
    let path = directory.join("drover.toml");
    fs::write(&path, format!("[server]\n{server}\n{CONFIG}")).unwrap();
    let output = Command::new(DROVER)
        .args(["serve", "--config"])
        .arg(&path)
        .env("AWS_EC2_METADATA_DISABLED", "true")
        .output()
        .unwrap();
    assert_eq!(output.status.code(), Some(1));
    String::from_utf8_lossy(&output.stderr).into_owned()
}

#[test]
fn a_daemon_that_can_not_start_says_why() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path();
    let data = format!("data = {:?}", path.join("data"));
    let taken = TcpListener::bind("127.0.0.1:0").unwrap();
    let listen = format!("listen = {:?}\n{data}", taken.local_addr().unwrap().to_string());
    assert!(serve(path, &listen).contains("the port is in use"));
    assert!(
        serve(path, "listen = \"0.0.0.0:7700\"")
            .contains("drover.toml:2:1: server.listen: 0.0.0.0:7700 is not a loopback")
    );
    let file = path.join("file");
    fs::write(&file, "").unwrap();
    let below = format!("data = {:?}", file.join("data"));
    let error = serve(path, &below);
    assert!(error.contains("making the data directory") && error.contains("file/data"), "{error}");
    fs::create_dir_all(path.join("data/drover.db")).ok();
    fs::remove_file(path.join("data/drover.db")).ok();
    fs::create_dir_all(path.join("data/drover.db")).unwrap();
    let error = serve(path, &format!("listen = \"127.0.0.1:0\"\n{data}"));
    assert!(error.contains("drover.db can't be opened") && error.contains("permissions"), "{error}");
}

#[tokio::test]
async fn a_database_in_use_is_left_alone() {
    let directory = tempfile::tempdir().unwrap();
    let data = directory.path().join("data");
    fs::create_dir_all(&data).unwrap();
    let database = drover::store::Database::File(data.join("drover.db"));
    let _store = crate::database::opened(&database).await.unwrap();
    let error = serve(directory.path(), &format!("listen = \"127.0.0.1:0\"\ndata = {data:?}"));
    assert!(error.contains("in use by another drover daemon"), "{error}");
}

#[test]
fn check_names_file_line_and_key() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("drover.toml");
    let check = |text: &str| {
        fs::write(&path, text).unwrap();
        let output = Command::new(DROVER).args(["check", "--config"]).arg(&path).output().unwrap();
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        (output.status.code(), text)
    };
    let (code, text) = check(CONFIG);
    assert!(code == Some(0) && text.contains("a/b"), "{text}");
    let (code, text) = check(&format!("{CONFIG}[applications.a.groups.b.policy]\nbach = \"2\"\n"));
    assert!(code == Some(1) && text.contains("drover.toml:6:1: bach: unknown field"), "{text}");
}

/// Each thing that the daemon stands on and that is not what the configuration says.
#[tokio::test(flavor = "multi_thread")]
async fn check_looks_at_all_that_is_named() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let mut setup = small(directory.path(), &repository, &first, 2, policy("batch = \"1\""));
    setup.public_url = None;
    let world = Playground::start(setup).await.unwrap();
    let config = fs::read_to_string(world.config_path()).unwrap();
    let check = async |text: &str| {
        fs::write(world.config_path(), text).unwrap();
        let mut command = world.beside_daemon("check");
        let output = command.args(["--aws", "--github"]).output().await.unwrap();
        (output.status.code(), String::from_utf8(output.stdout).unwrap())
    };
    let (code, text) = check(&config).await;
    assert_eq!(code, Some(0), "{text}");
    for line in [
        "github: sample/demo: main of acme/sample is at ",
        "aws: logs can be read from /drover",
        "2 instances",
    ] {
        assert!(text.contains(line), "{line}: {text}");
    }
    let plain = directory.path().join("plain");
    fs::write(&plain, "no certificate").unwrap();
    let tls = format!("[server]\ntls = {{ certificate = {plain:?}, key = {plain:?} }}\n");
    for (from, to, says) in [
        ("[server]\n", tls.as_str(), "server: wrong: "),
        (
            "[server]\n",
            "[server]\ndatabase = \"postgres://drover@127.0.0.1:9/x\"\n",
            "check that the server runs",
        ),
        (
            "acme/sample",
            "acme/unknown",
            "github: wrong: sample/demo: there is no branch main in acme/unknown",
        ),
        ("branch = \"main\"", "branch = \"nowhere\"", "there is no branch nowhere in acme/sample"),
        ("[\"sample\"]", "[\"another\"]", "sample/demo: wrong: there is no Auto Scaling group 'another'"),
    ] {
        assert!(config.contains(from), "{from}: {config}");
        let (code, text) = check(&config.replacen(from, to, 1)).await;
        assert!(code == Some(1) && text.contains(says), "{says}\n got: {text}");
    }
    let denied = json!({ "kind": "error", "match": { "action": "GetLogEvents" }, "status": 400,
                         "code": "AccessDeniedException", "message": "not authorized", "times": 99 });
    world.control("faults", &denied).await.unwrap();
    let (code, text) = check(&config).await;
    assert!(code == Some(1) && text.contains("the daemon needs logs:GetLogEvents"), "{text}");
    world.stop().await;
}
