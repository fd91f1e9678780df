//! What deploys by itself: signed pushes, and nothing else that comes to the same door.

use crate::ground::{Play as _, Repository, TURN, policy, small, until};
use drover::cli::demo::playground::{Playground, Setup};
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;
use std::path::Path;

fn push(sha: &str, branch: &str) -> String {
    json!({
        "ref": format!("refs/heads/{branch}"), "before": "0".repeat(40), "after": sha, "deleted": false,
        "repository": { "full_name": "acme/sample", "private": true }, "pusher": { "name": "ada" },
        "head_commit": { "id": sha, "message": "Version 3" },
    })
    .to_string()
}

fn sign(secret: &str, body: &str) -> String {
    let mut mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.update(body.as_bytes());
    format!("sha256={}", hex::encode(mac.finalize().into_bytes()))
}

/// Posts as GitHub does; the status and the answer.
async fn deliver(
    world: &Playground,
    signature: Option<String>,
    event: &str,
    id: &str,
    body: &str,
) -> (u16, Value) {
    let mut request = reqwest::Client::new()
        .post(format!("{}/webhooks/github", world.url))
        .header("content-type", "application/json")
        .header("x-github-event", event)
        .header("x-github-delivery", id)
        .body(body.to_owned());
    if let Some(signature) = signature {
        request = request.header("x-hub-signature-256", signature);
    }
    let answer = request.send().await.unwrap();
    (answer.status().as_u16(), answer.json().await.unwrap())
}

async fn deployments(world: &Playground) -> usize {
    world.api("deployments").await["deployments"].as_array().unwrap().len()
}

/// A push that is signed as it should be; what the daemon answers.
async fn pushed(world: &Playground, id: &str, body: &str) -> String {
    let signature = sign(&world.webhook_secret, body);
    let (_, answer) = deliver(world, Some(signature), "push", id, body).await;
    answer["status"].as_str().unwrap_or_else(|| panic!("refused: {answer}")).to_owned()
}

/// Waits for words in the daemon's own log.
async fn said(directory: &Path, words: &str) {
    let log = directory.join("daemon.log");
    let there = || async { std::fs::read_to_string(&log).unwrap_or_default().contains(words) };
    until(words, 60, there).await;
}

/// How GitHub answered the questions of this kind: their statuses.
async fn asked(world: &Playground, action: &str) -> Vec<u64> {
    world.calls(action).await.iter().filter_map(|call| call["status"].as_u64()).collect()
}

/// A fleet of two, quick.
fn two(directory: &Path, repository: &Repository, first: &str) -> Setup {
    small(directory, repository, first, 2, policy("batch = \"1\""))
}

/// Whatever order deliveries come in, the branch's head is what is deployed.
#[tokio::test(flavor = "multi_thread")]
async fn late_repeated_and_replayed_pushes_leave_the_head() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let (older, newer) = (repository.git(&["rev-parse", "main~1"]), repository.git(&["rev-parse", "main"]));
    let first = repository.git(&["rev-parse", "main~2"]);
    let world = Playground::start(two(directory.path(), &repository, &first)).await.unwrap();
    // The newer one comes first, then the older one, while the newer one rolls and once more when it is through.
    assert_eq!(pushed(&world, "d-newer", &push(&newer, "main")).await, "accepted");
    assert_eq!(pushed(&world, "d-older", &push(&older, "main")).await, "accepted");
    let words =
        format!("superseded: main has moved on from {older} to {newer}; sample/demo has it by deployment 1");
    said(directory.path(), &words).await;
    let ended = world.ended(1).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&json!("Succeeded"), &json!(newer)));
    // A replay: GitHub's button gives the same id, a thief another one.
    for id in ["d-older", "d-thief"] {
        assert_eq!(pushed(&world, id, &push(&older, "main")).await, "duplicate");
    }
    // The same push as another hook tells it.
    assert_eq!(pushed(&world, "d-later", &push(&older, "main").replace("ada", "bob")).await, "accepted");
    let again = || async {
        std::fs::read_to_string(directory.path().join("daemon.log")).unwrap().matches(&words).count() == 2
    };
    until("the later one is dealt with", 60, again).await;
    assert_eq!(deployments(&world).await, 1);
    // Taken back by force: then the older one is the head, and is deployed.
    repository.git(&["reset", "-q", "--hard", &older]);
    assert_eq!(pushed(&world, "d-force", &push(&older, "main").replace("ada", "eve")).await, "accepted");
    let ended = world.ended(2).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&json!("Succeeded"), &json!(older)));
    world.stop().await;
}

/// GitHub's API learns of a push after its webhook, may be away, and may know the repository by another name.
#[tokio::test(flavor = "multi_thread")]
async fn a_push_waits_until_github_knows_it_whatever_the_repository_is_called() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main"]);
    let world = Playground::start(two(directory.path(), &repository, &first)).await.unwrap();
    let known = || async { !asked(&world, "GetRepository").await.is_empty() };
    until("the repository's number is asked for", 60, known).await;
    // Renamed, and its API behind: neither the commit nor the head is there.
    world.control("github/rename", &json!({ "from": "acme/sample", "to": "acme/renamed" })).await.unwrap();
    world.control("github/lag", &json!({ "on": true })).await.unwrap();
    let sha = repository.commit("5");
    let of = |name: &str, id: i64| {
        let mut body: Value = serde_json::from_str(&push(&sha, "main")).unwrap();
        body["repository"] = json!({ "full_name": name, "id": id });
        body.to_string()
    };
    assert_eq!(pushed(&world, "d-other", &of("acme/other", 77)).await, "ignored");
    assert_eq!(pushed(&world, "d-1", &of("acme/renamed", 1)).await, "accepted");
    said(directory.path(), "the repository acme/sample is called acme/renamed now").await;
    said(directory.path(), &format!("not yet: commit {sha} is not on branch main")).await;
    assert_eq!(deployments(&world).await, 0);
    // Once it is known there, GitHub is away for a moment.
    let fault = json!({ "kind": "error", "match": { "action": "GetCommit" }, "times": 2 });
    world.control("faults", &fault).await.unwrap();
    world.control("github/lag", &json!({ "on": false })).await.unwrap();
    let ended = world.ended(1).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&json!("Succeeded"), &json!(sha)));
    assert!(asked(&world, "GetCommit").await.contains(&301), "the old name is redirected");
    world.stop().await;
}

/// A refused delivery may be sent again with GitHub's button once its cause is mended; a poll beside the webhook brings what
/// no delivery told of, and costs no quota while nothing moves.
#[tokio::test(flavor = "multi_thread")]
async fn what_was_refused_may_come_again_and_what_was_lost_is_polled_for() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    repository.git(&["branch", "100%/feature#1"]);
    let first = repository.git(&["rev-parse", "main"]);
    let mut world = Playground::start(two(directory.path(), &repository, &first)).await.unwrap();
    world.kill_daemon().await.unwrap();
    let config = std::fs::read_to_string(world.config_path()).unwrap();
    let config = config
        .replace("[github]\n", "[github]\npoll_branches = \"2s\"\n")
        .replace("auto_deploy = true\n", "auto_deploy = true\nbranch = \"100%/feature#1\"\n");
    std::fs::write(world.config_path(), config).unwrap();
    world.start_daemon().await.unwrap();
    // Pushed to a branch that nothing follows; the button asks again.
    for _ in 0..2 {
        assert_eq!(pushed(&world, "d-1", &push(&first, "topic")).await, "ignored");
    }
    let polled =
        || async { asked(&world, "GetCommit").await.iter().filter(|status| **status == 304).count() >= 2 };
    until("polls that cost nothing", 60, polled).await;
    assert_eq!(deployments(&world).await, 0, "a head seen for the first time is only remembered");
    repository.git(&["checkout", "-q", "100%/feature#1"]);
    let sha = repository.commit("5");
    let ended = world.ended(1).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&json!("Succeeded"), &json!(sha)), "{ended:#}");
    assert_eq!(ended["by"], "new head of 100%/feature#1");
    world.stop().await;
}

/// In place of a person's token: each repository by the app's installation, with a token that may end at any time.
#[tokio::test(flavor = "multi_thread")]
async fn a_github_app_asks_in_place_of_a_token() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let first = repository.git(&["rev-parse", "main~1"]);
    let mut world = Playground::start(two(directory.path(), &repository, &first)).await.unwrap();
    let pair = rcgen::KeyPair::generate_for(&rcgen::PKCS_RSA_SHA256).unwrap();
    let key = directory.path().join("app.pem");
    std::fs::write(&key, pair.serialize_pem()).unwrap();
    let register = async |world: &Playground, repositories: &[&str]| {
        let app = json!({ "id": 12, "public_key": pair.public_key_pem(), "repositories": repositories });
        world.control("github/app", &app).await.unwrap();
    };
    world.kill_daemon().await.unwrap();
    let config = std::fs::read_to_string(world.config_path()).unwrap();
    let app = format!("[github]\napp = {{ id = 12, key = {key:?} }}\n");
    std::fs::write(world.config_path(), config.replace("[github]\n", &app)).unwrap();
    register(&world, &[]).await;
    world.start_daemon().await.unwrap();
    // Registered, and installed nowhere.
    let refused = world.drover(&["deploy", "--group", "sample/demo", "main"]).await;
    assert!(refused.stderr.contains("the GitHub App is not installed on acme/sample"), "{}", refused.stderr);
    register(&world, &["acme/sample"]).await;
    let id = world.submit("main").await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(asked(&world, "CreateInstallationToken").await, [201]);
    // Its token is taken away: another is had, and nobody notices.
    world.control("github/revoke", &json!({})).await.unwrap();
    let id = world.submit(&repository.commit("5")).await;
    assert_eq!(world.ended(id).await["state"], "Succeeded");
    assert_eq!(asked(&world, "CreateInstallationToken").await, [201, 201]);
    world.stop().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_push_deploys_once_and_nothing_else_does() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let main = repository.git(&["rev-parse", "main"]);
    let first = repository.git(&["rev-parse", "main~1"]);
    let world = Playground::start(two(directory.path(), &repository, &first)).await.unwrap();
    let secret = world.webhook_secret.clone();
    let body = push(&main, "main");
    let good = sign(&secret, &body);

    // Nothing of this starts anything.
    for (signature, event, id, body, status, code) in [
        (None, "push", "d-1", body.as_str(), 401, "bad-signature"),
        (Some(sign("another", &body)), "push", "d-1", &body, 401, "bad-signature"),
        (Some(good.clone()), "push", "d-1", &body.replace("ada", "eve"), 401, "bad-signature"),
        (Some("sha256=zz".into()), "push", "d-1", &body, 401, "bad-signature"),
        (Some(good.clone()), "push", "", &body, 400, "malformed-webhook"),
        (Some(sign(&secret, "{")), "push", "d-1", "{", 400, "malformed-webhook"),
        (Some(sign(&secret, "{}")), "push", "d-1", "{}", 400, "malformed-webhook"),
        (Some(good.clone()), "push", "d-1", &" ".repeat(9 << 20), 413, "too-large"),
    ] {
        let (got, answer) = deliver(&world, signature, event, id, body).await;
        assert_eq!((got, &answer["error"]["code"]), (status, &json!(code)), "{answer}");
    }
    let other = push(&main, "topic");
    let tag = body.replace("refs/heads/main", "refs/tags/v1");
    let deleted = body.replace("\"deleted\":false", "\"deleted\":true");
    for (event, id, body) in
        [("ping", "d-2", &body), ("push", "d-3", &other), ("push", "d-4", &tag), ("push", "d-5", &deleted)]
    {
        let (status, answer) = deliver(&world, Some(sign(&secret, body)), event, id, body).await;
        assert_eq!((status, &answer["status"]), (200, &json!("ignored")), "{answer}");
    }
    assert_eq!(deployments(&world).await, 0);

    let (status, answer) = deliver(&world, Some(good.clone()), "push", "d-6", &body).await;
    assert_eq!((status, &answer["groups"]), (202, &json!(["sample/demo"])), "{answer}");
    // The same delivery again, and the same body under another name.
    for id in ["d-6", "d-7"] {
        let (status, answer) = deliver(&world, Some(good.clone()), "push", id, &body).await;
        assert_eq!((status, &answer["status"]), (200, &json!("duplicate")), "{answer}");
    }
    let ended = world.ended(1).await;
    assert_eq!((&ended["state"], &ended["revision"]["sha"]), (&json!("Succeeded"), &json!(main)));
    assert_eq!(ended["by"], "push by ada");
    // A commit that is not on the branch is refused, whoever signed.
    repository.git(&["checkout", "-q", "-b", "topic"]);
    let stray = repository.commit("5");
    let stray = push(&stray, "main");
    let (status, _) = deliver(&world, Some(sign(&secret, &stray)), "push", "d-8", &stray).await;
    assert_eq!(status, 202);
    // A push of what the fleet has: it comes after the stray one, so that one has been dealt with.
    let again = push(&main, "main").replace("ada", "bob");
    let calls = world.look("audit?after=0").await.unwrap()["calls"].as_array().unwrap().len();
    deliver(&world, Some(sign(&secret, &again)), "push", "d-9", &again).await;
    let ended = world.ended(2).await;
    assert_eq!((&ended["state"], &ended["by"]), (&json!("Succeeded"), &json!("push by bob")), "{ended:#}");
    assert_eq!(deployments(&world).await, 2);
    let after = world.look("audit?after=0").await.unwrap();
    let changing = after["calls"].as_array().unwrap()[calls..].iter().filter(|call| call["mutating"] == true);
    assert_eq!(changing.count(), 0, "nothing was touched");
    // The daemon's own log says whom each line is about.
    let log = std::fs::read_to_string(directory.path().join("daemon.log")).unwrap();
    for says in [
        "deployment{id=1 group=\"sample/demo\"}",
        " instance=\"i-",
        " attempt=",
        "EnterStandby:sample instances=\"i-",
    ] {
        assert!(log.contains(says), "{says} is not in the daemon's log");
    }
    world.stop().await;
}
