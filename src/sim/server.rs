//! The HTTP server: one loopback port for AWS, GitHub, the agents and the control API, told apart by the path.

use std::sync::Arc;
use std::time::Duration;

use http::Request;
use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use serde_json::json;
use tokio::net::TcpListener;

use super::cloud::Cloud;
use super::wire::call::{Call, HttpAnswer, json_response};
use super::{agent_api, aws, control, github_api, s3};

/// The largest request body, bytes.
const LARGEST: usize = 16 << 20;
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
                async move { answer(cloud, request).await.ok_or(Lost) }
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

/// The error that closes a connection without an answer.
#[derive(Debug, thiserror::Error)]
#[error("the response was lost on purpose")]
struct Lost;

/// Reads a request and answers it by the API that its path belongs to.
async fn answer(cloud: Arc<Cloud>, request: Request<Incoming>) -> HttpAnswer {
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
        ["_agent", "v1", "parameter"] => Some(agent_api::answer_parameter(&cloud, &call)),
        ["_agent", "v1", verb] => Some(agent_api::answer(&cloud, &call, verb).await),
        ["_codeload" | "app" | "repos" | "repositories", ..] => github_api::answer(&cloud, &call).await,
        [] => aws::answer(&cloud, &call).await,
        [bucket, _, ..] => s3::answer(&cloud, &call, bucket),
        _ => Some(json_response(404, &json!({"message": "Not Found"}))),
    }
}
