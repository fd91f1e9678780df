//! `POST /webhooks/github`: a push deploys by itself.
//!
//! What has no signature is refused with its body unread. The signature is checked over the raw body, in constant time,
//! before anything else is looked at. A push is in the store before it is answered; what comes of it is seen in the deployments.

use super::{
    context::Web,
    limits::LARGEST_WEBHOOK,
    reply::{Refusal, answer},
};
use crate::{
    api::WebhookAnswer,
    engine::{Push, Received},
};
use bytes::Buf;
use futures_util::Stream;
use hmac::{Hmac, Mac};
use http::StatusCode;
use serde::Deserialize;
use sha2::{Digest, Sha256};
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// A delivery id is a UUID.
const LONGEST_ID: usize = 100;

/// What is read of a `push` event.
#[derive(Deserialize)]
struct PushEvent {
    #[serde(rename = "ref")]
    reference: String,
    after: String,
    #[serde(default)]
    deleted: bool,
    repository: Repository,
    #[serde(default)]
    pusher: Option<Pusher>,
}

#[derive(Deserialize)]
struct Repository {
    full_name: String,
    #[serde(default)]
    id: Option<u64>,
}

#[derive(Deserialize)]
struct Pusher {
    name: String,
}

/// The route.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let header = warp::header::optional::<String>;
    warp::path!("webhooks" / "github")
        .and(warp::post())
        .and(warp::any().map(move || web.clone()))
        .and(header("x-hub-signature-256"))
        .and(header("x-github-event"))
        .and(header("x-github-delivery"))
        .and(header("content-type"))
        .and(warp::body::stream())
        .then(
            |web: Web,
             signature: Option<String>,
             event: Option<String>,
             delivery: Option<String>,
             kind: Option<String>,
             body| async move {
                let form = kind.is_some_and(|kind| kind.starts_with("application/x-www-form-urlencoded"));
                let delivery = Delivery { signature, event, delivery, form };
                answer(delivery.take(&web, body).await)
            },
        )
        .boxed()
}

struct Delivery {
    signature: Option<String>,
    event: Option<String>,
    delivery: Option<String>,
    /// The JSON is in the form field `payload`.
    form: bool,
}

fn malformed(message: impl Into<String>) -> Refusal {
    Refusal::new(StatusCode::BAD_REQUEST, "malformed-webhook", message)
}

impl Delivery {
    async fn take<B: Buf>(
        self,
        web: &Web,
        body: impl Stream<Item = Result<B, warp::Error>>,
    ) -> Result<Response, Refusal> {
        let Some(secret) = &web.webhook_secret else {
            let words = "no webhook secret is configured: set it in the environment (DROVER_WEBHOOK_SECRET) of the daemon";
            return Err(Refusal::new(StatusCode::NOT_FOUND, "no-webhook", words));
        };
        let unsigned = || {
            let words = "the signature (X-Hub-Signature-256) is missing or wrong: it must be made over this body with the webhook's secret";
            Refusal::new(StatusCode::UNAUTHORIZED, "bad-signature", words)
        };
        let signature = self.signature.as_deref().and_then(mac_of).ok_or_else(unsigned)?;
        let body = web.strangers.body(body, LARGEST_WEBHOOK).await?;
        if !signed(secret, &body, &signature) {
            let id: String = self.delivery.unwrap_or_default().chars().take(LONGEST_ID).collect();
            tracing::warn!(delivery = id, "a webhook without a good signature was refused");
            return Err(unsigned());
        }
        let delivery = self
            .delivery
            .filter(|id| !id.is_empty() && id.len() <= LONGEST_ID)
            .ok_or_else(|| malformed("the header X-GitHub-Delivery is missing or too long"))?;
        let said = |status: StatusCode, body: WebhookAnswer| {
            Ok(warp::reply::with_status(warp::reply::json(&body), status).into_response())
        };
        let ignored = |reason: String| said(StatusCode::OK, WebhookAnswer::Ignored { reason });
        match self.event.as_deref() {
            None | Some("") => return Err(malformed("the header X-GitHub-Event is missing")),
            Some("push") => {}
            Some(other) => return ignored(format!("'{other}' events start nothing; only 'push' does")),
        }
        let text = if self.form {
            let field = form_urlencoded::parse(&body).find(|(name, _)| name == "payload");
            field.ok_or_else(|| malformed("the form has no field 'payload'"))?.1.into_owned().into_bytes()
        } else {
            body.to_vec()
        };
        let push: PushEvent = serde_json::from_slice(&text)
            .map_err(|e| malformed(format!("the body is not a push event of GitHub's: {e}")))?;
        let Some(branch) = push.reference.strip_prefix("refs/heads/") else {
            return ignored(format!("{} is no branch", push.reference));
        };
        if push.deleted {
            return ignored(format!("branch {branch} was deleted"));
        }
        if push.after.len() != 40 || !push.after.bytes().all(|b| b.is_ascii_hexdigit()) {
            return Err(malformed(format!("after: '{}' is no full commit SHA", push.after)));
        }
        let received = web
            .engine
            .receive_push(Push {
                delivery: delivery.clone(),
                digest: hex::encode(Sha256::digest(&body)),
                repository: push.repository.full_name,
                repository_id: push.repository.id,
                branch: branch.to_owned(),
                sha: push.after.to_ascii_lowercase(),
                pusher: push.pusher.map_or_else(|| "somebody".into(), |pusher| pusher.name),
            })
            .await?;
        match received {
            Received::Accepted(groups) => {
                said(StatusCode::ACCEPTED, WebhookAnswer::Accepted { delivery, groups })
            }
            Received::Duplicate => said(StatusCode::OK, WebhookAnswer::Duplicate { delivery }),
            Received::Ignored(why) => ignored(why),
        }
    }
}

/// The HMAC-SHA256 that the header gives.
fn mac_of(header: &str) -> Option<Vec<u8>> {
    header.strip_prefix("sha256=").and_then(|text| hex::decode(text).ok()).filter(|mac| mac.len() == 32)
}

/// Whether that is the HMAC-SHA256 of the body; compared in constant time.
fn signed(secret: &str, body: &[u8], given: &[u8]) -> bool {
    let Ok(mut mac) = Hmac::<Sha256>::new_from_slice(secret.as_bytes()) else { return false };
    mac.update(body);
    mac.verify_slice(given).is_ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn githubs_own_example_of_a_signature() {
        // From GitHub's guide 'Validating webhook deliveries'.
        let (secret, body) = ("It's a Secret to Everybody", b"Hello, World!");
        let header = "sha256=757107ea0eb2509fc211221cce984b8a37570b6d7586c22c46f4379c8b043e17";
        let signed =
            |secret, body: &[u8], header| mac_of(header).is_some_and(|given| signed(secret, body, &given));
        assert!(signed(secret, body, header));
        assert!(!signed(secret, b"Hello, World?", header));
        assert!(!signed("another", body, header));
        for header in ["", "sha256=", "sha256=zz", "sha1=757107ea", &header[7..]] {
            assert!(!signed(secret, body, header), "{header}");
        }
    }
}
