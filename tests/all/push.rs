//! What deploys by itself: signed pushes, and nothing else that comes to the same door.

use crate::ground::{Play as _, Repository, TURN, setup};
use drover::cli::demo::playground::Playground;
use hmac::{Hmac, Mac as _};
use serde_json::{Value, json};
use sha2::Sha256;

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

#[tokio::test(flavor = "multi_thread")]
async fn a_signed_push_deploys_once_and_nothing_else_does() {
    let _turn = TURN.acquire().await;
    let directory = tempfile::tempdir().unwrap();
    let repository = Repository::wrapped(directory.path());
    let main = repository.git(&["rev-parse", "main"]);
    let first = repository.git(&["rev-parse", "main~1"]);
    let world = Playground::start(setup(directory.path(), &repository, &first)).await.unwrap();
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
