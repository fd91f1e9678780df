//! One loopback port for everything: AWS, GitHub, the agents and the control API, told apart by path and signature.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, Response, StatusCode, header};
use http_body_util::{BodyExt, Full, Limited};
use hyper::body::Incoming;
use serde_json::{Value, json};
use subtle::ConstantTimeEq;
use tokio::net::TcpListener;

use super::cloud::Cloud;
use super::ssm::{AgentRequest, Refused};
use super::{aws, control, github_api, objects};

/// Largest request body, bytes.
const LARGEST: usize = 16 << 20;
/// How long an agent's poll is held.
const POLL: Duration = Duration::from_secs(20);

/// What a request is answered with; `None` closes the connection without an answer.
pub type Answer = Option<Response<Full<Bytes>>>;

/// A request, its body read.
pub struct Call {
    /// Method.
    pub method: Method,
    /// Address.
    pub uri: http::Uri,
    /// Headers.
    pub headers: HeaderMap,
    /// Body.
    pub body: Bytes,
}

impl Call {
    /// The path's segments, decoded.
    pub fn segments(&self) -> Vec<String> {
        self.uri.path().split('/').filter(|s| !s.is_empty()).map(decode).collect()
    }

    /// The query's parameters, decoded.
    pub fn query(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
    }

    /// Whether the bearer (or, as GitHub allows, `token`) is this one.
    pub fn bears(&self, token: &str) -> bool {
        let value = self.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let Some((scheme, given)) = value.split_once(' ') else { return false };
        (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
            && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
    }

    /// The token of the `Authorization` header, if there is one.
    pub fn bearer(&self) -> &str {
        self.header("authorization").split_once(' ').map_or("", |(_, token)| token.trim())
    }

    /// A header's text.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

fn decode(segment: &str) -> String {
    // Only `%xx` is decoded: in a path, `+` is itself.
    let quoted = segment.replace('+', "%2B");
    form_urlencoded::parse(format!("x={quoted}").as_bytes())
        .next()
        .map(|(_, v)| v.into_owned())
        .unwrap_or_default()
}

/// A response with a body of some media type.
pub fn response(status: u16, media: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = media.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// A JSON response.
pub fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    response(status, "application/json; charset=utf-8", value.to_string())
}

/// Accepts connections until the cloud stops.
pub async fn serve(cloud: Arc<Cloud>, listener: TcpListener) {
    loop {
        let accepted = tokio::select! {
            () = cloud.stop.cancelled() => return,
            accepted = listener.accept() => accepted,
        };
        let stream = match accepted {
            Ok((stream, _)) => stream,
            Err(e) => {
                // Out of descriptors, as a rule: give others time to close theirs.
                tracing::warn!("a connection could not be accepted: {e}");
                tokio::time::sleep(Duration::from_millis(50)).await;
                continue;
            }
        };
        let _ = stream.set_nodelay(true);
        let cloud = Arc::clone(&cloud);
        drop(tokio::spawn(async move {
            let stop = cloud.stop.clone();
            let service = hyper::service::service_fn(move |request| {
                let cloud = Arc::clone(&cloud);
                async move { handle(cloud, request).await.ok_or(Lost) }
            });
            let io = hyper_util::rt::TokioIo::new(stream);
            let connection = hyper::server::conn::http1::Builder::new().serve_connection(io, service);
            tokio::select! {
                () = stop.cancelled() => {}
                result = connection => if let Err(e) = result { tracing::debug!("a connection ended: {e}") },
            }
        }));
    }
}

/// The response was lost on purpose.
#[derive(Debug, thiserror::Error)]
#[error("the response was lost on purpose")]
struct Lost;

async fn handle(cloud: Arc<Cloud>, request: Request<Incoming>) -> Answer {
    let (parts, body) = request.into_parts();
    let body = match Limited::new(body, LARGEST).collect().await {
        Ok(collected) => collected.to_bytes(),
        Err(_) => return Some(json_response(413, &json!({"error": "the request's body is too large"}))),
    };
    let call = Call { method: parts.method, uri: parts.uri, headers: parts.headers, body };
    let port = cloud.address.port();
    let host = call.header("host");
    if !["127.0.0.1", "localhost", "[::1]"].iter().any(|name| host == format!("{name}:{port}")) {
        let message = format!("the Host header '{host}' is not this server: use 127.0.0.1:{port}");
        return Some(json_response(421, &json!({"error": message})));
    }
    let segments = call.segments();
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    match segments.as_slice() {
        ["_sim", rest @ ..] => Some(control::answer(&cloud, &call, rest).await),
        ["_agent", "v1", "parameter"] => Some(parameter(&cloud, &call)),
        ["_agent", "v1", verb] => Some(agent(&cloud, &call, verb).await),
        ["_codeload" | "app" | "repos" | "repositories", ..] => github_api::answer(&cloud, &call).await,
        [] => aws::answer(&cloud, &call).await,
        [bucket, _, ..] => objects::answer(&cloud, &call, bucket),
        _ => Some(json_response(404, &json!({"message": "Not Found"}))),
    }
}

/// For the `aws` command of instances.
fn parameter(cloud: &Arc<Cloud>, call: &Call) -> Response<Full<Bytes>> {
    if !call.bears(&cloud.secrets.agent) {
        return response(401, "text/plain", "Unable to locate credentials\n");
    }
    let name = call.query().get("name").cloned().unwrap_or_default();
    match cloud.with(|state| state.parameter_of_instance(&name)) {
        Ok(value) => response(200, "text/plain; charset=utf-8", value),
        Err(words) => response(400, "text/plain; charset=utf-8", words),
    }
}

async fn agent(cloud: &Arc<Cloud>, call: &Call, verb: &str) -> Response<Full<Bytes>> {
    if !call.bears(&cloud.secrets.agent) {
        return json_response(401, &json!({"error": "wrong agent token"}));
    }
    let request: AgentRequest = match serde_json::from_slice(&call.body) {
        Ok(request) => request,
        Err(e) => return json_response(400, &json!({"error": format!("unreadable agent request: {e}")})),
    };
    let result = if verb == "poll" {
        poll(cloud, &request.instance_id).await
    } else {
        cloud.with(|s| s.agent_call(verb, &request))
    };
    match result {
        Ok(value) => json_response(200, &value),
        Err(Refused::Offline) => json_response(503, &json!({"error": "offline"})),
        Err(Refused::Unknown) => json_response(404, &json!({"error": "unknown instance or verb"})),
    }
}

async fn poll(cloud: &Arc<Cloud>, instance: &str) -> Result<Value, Refused> {
    let deadline = tokio::time::Instant::now() + POLL;
    loop {
        let messages = cloud.with(|s| s.agent_poll(instance))?;
        if !messages.is_empty() || tokio::time::Instant::now() >= deadline {
            return Ok(json!({"messages": messages}));
        }
        // A delayed message becomes visible without a wake.
        tokio::select! {
            () = cloud.stop.cancelled() => return Err(Refused::Offline),
            () = cloud.agents.notified() => {}
            () = tokio::time::sleep(Duration::from_millis(50)) => {}
        }
    }
}
