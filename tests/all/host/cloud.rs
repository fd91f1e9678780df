//! A stand-in for the service that agents talk to.

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use bytes::Bytes;
use http::{Request, Response};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::sync::Notify;

use super::eventually;

pub const TOKEN: &str = "agent-token";

/// Calls received, messages to hand out.
pub struct Cloud {
    pub address: SocketAddr,
    pub state: Arc<State>,
}

#[derive(Default)]
pub struct State {
    pub calls: Mutex<Vec<(String, Value)>>,
    messages: Mutex<Vec<Value>>,
    changed: Notify,
}

impl Cloud {
    pub async fn start() -> Cloud {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let state = Arc::new(State::default());
        let shared = state.clone();
        tokio::spawn(async move {
            loop {
                let (stream, _) = listener.accept().await.unwrap();
                let state = shared.clone();
                let service = service_fn(move |request| state.clone().answer(request));
                tokio::spawn(
                    hyper::server::conn::http1::Builder::new()
                        .serve_connection(TokioIo::new(stream), service),
                );
            }
        });
        Cloud { address, state }
    }

    /// Hands a script to the agent.
    pub fn run(&self, command_id: &str, script: &str, execution_timeout: u64) {
        self.message(json!({"id": format!("run-{command_id}"), "kind": "run", "command_id": command_id,
            "commands": script.lines().collect::<Vec<_>>(), "execution_timeout": execution_timeout,
            "document_name": "AWS-RunShellScript", "region": "eu-central-1"}));
    }

    pub fn cancel(&self, command_id: &str) {
        self.message(json!({"id": format!("cancel-{command_id}"), "kind": "cancel", "command_id": command_id,
            "commands": [], "execution_timeout": 0, "document_name": "AWS-RunShellScript", "region": "eu-central-1"}));
    }

    fn message(&self, message: Value) {
        self.state.messages.lock().unwrap().push(message);
        self.state.changed.notify_waiters();
    }

    pub fn calls(&self, verb: &str) -> Vec<Value> {
        let calls = self.state.calls.lock().unwrap();
        calls.iter().filter(|(name, _)| name == verb).map(|(_, body)| body.clone()).collect()
    }

    pub async fn online(&self) {
        eventually("the agent's first poll", async || self.calls("poll").pop()).await;
    }

    pub async fn reply(&self, command_id: &str) -> Value {
        let what = format!("the reply to {command_id}");
        eventually(&what, async || {
            self.calls("reply").into_iter().find(|reply| reply["command_id"] == command_id)
        })
        .await
    }
}

impl State {
    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
    ) -> Result<Response<Full<Bytes>>, Infallible> {
        assert_eq!(request.headers()["authorization"], format!("Bearer {TOKEN}"));
        let verb = request.uri().path().strip_prefix("/_agent/v1/").unwrap().to_owned();
        let body = request.into_body().collect().await.unwrap().to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap();
        self.calls.lock().unwrap().push((verb.clone(), body.clone()));
        let answer = match verb.as_str() {
            "poll" => {
                let changed = self.changed.notified();
                if self.messages.lock().unwrap().is_empty() {
                    drop(tokio::time::timeout(Duration::from_secs(2), changed).await);
                }
                json!({"messages": self.messages.lock().unwrap().clone()})
            }
            "ack" => {
                self.messages.lock().unwrap().retain(|message| message["id"] != body["message_id"]);
                json!({})
            }
            _ => json!({}),
        };
        Ok(Response::new(Full::from(answer.to_string())))
    }
}
