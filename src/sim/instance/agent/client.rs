//! The agent's calls to its service: JSON over HTTP/1.1, one at a time retried where the protocol says so.

use std::time::Duration;

use anyhow::{Context, bail};
use bytes::Bytes;
use http::{Request, header};
use http_body_util::{BodyExt, Full};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::TokioExecutor;
use serde::Deserialize;
use serde_json::Value;

/// A message of the service.
#[derive(Debug, Clone, Deserialize)]
pub(super) struct Message {
    pub id: String,
    pub kind: Kind,
    pub command_id: String,
    #[serde(default)]
    pub commands: Vec<String>,
    /// Seconds of running, not divided by the time scale: the scripts run in real time.
    #[serde(default = "an_hour")]
    pub execution_timeout: u64,
    #[serde(default)]
    pub document_name: String,
    #[serde(default)]
    pub region: String,
    /// Output is uploaded while it runs.
    #[serde(default)]
    pub uploads: bool,
}

fn an_hour() -> u64 {
    3600
}

/// What a message asks for.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(super) enum Kind {
    Run,
    Cancel,
}

#[derive(Debug, Deserialize)]
struct Polled {
    #[serde(default)]
    messages: Vec<Message>,
}

/// The service as one agent sees it.
#[derive(Clone)]
pub(super) struct Service {
    http: Client<HttpConnector, Full<Bytes>>,
    url: String,
    token: String,
    instance: String,
    /// Pause between tries.
    pause: Duration,
}

impl Service {
    pub(super) fn new(url: String, token: String, instance: String, pause: Duration) -> Service {
        let http = Client::builder(TokioExecutor::new()).build(HttpConnector::new());
        Service { http, url, token, instance, pause }
    }

    /// One call; `body` gets the instance id.
    pub(super) async fn call(
        &self,
        verb: &str,
        mut body: Value,
        patience: Duration,
    ) -> anyhow::Result<Bytes> {
        body["instance_id"] = Value::from(self.instance.clone());
        let request = Request::post(format!("{}/_agent/v1/{verb}", self.url))
            .header(header::AUTHORIZATION, format!("Bearer {}", self.token))
            .header(header::CONTENT_TYPE, "application/json")
            .body(Full::from(body.to_string()))?;
        let exchange = async {
            let response = self.http.request(request).await?;
            let status = response.status();
            let bytes = response.into_body().collect().await?.to_bytes();
            if !status.is_success() {
                bail!("the service answered {status}: {}", String::from_utf8_lossy(&bytes));
            }
            Ok(bytes)
        };
        tokio::time::timeout(patience, exchange)
            .await
            .with_context(|| format!("call {verb}: no answer in time"))?
    }

    /// Calls until it is answered.
    pub(super) async fn insist(&self, verb: &str, body: Value) {
        while let Err(error) = self.call(verb, body.clone(), Duration::from_secs(10)).await {
            tracing::debug!(verb, error = format!("{error:#}"), "a call failed and is made again");
            tokio::time::sleep(self.pause).await;
        }
    }

    /// Waits up to 20 s for messages.
    pub(super) async fn poll(&self) -> anyhow::Result<Vec<Message>> {
        let bytes = self.call("poll", serde_json::json!({}), Duration::from_secs(30)).await?;
        Ok(serde_json::from_slice::<Polled>(&bytes).context("read the service's messages")?.messages)
    }
}
