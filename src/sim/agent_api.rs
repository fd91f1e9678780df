//! The agents' side of the port: their requests, and those of the `aws` command inside instances.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::cloud::Cloud;
use super::ssm::{AgentRequest, Refused};
use super::wire::call::{Call, json_response, response};

/// How long an agent's poll is held.
const POLL: Duration = Duration::from_secs(20);

/// Answers an instance's request for a parameter, which its `aws` command makes.
pub(super) fn answer_parameter(cloud: &Arc<Cloud>, call: &Call) -> Response<Full<Bytes>> {
    if !call.bears(&cloud.secrets.agent) {
        return response(401, "text/plain", "Unable to locate credentials\n");
    }
    let name = call.query().get("name").cloned().unwrap_or_default();
    match cloud.with(|state| state.read_parameter_for_instance(&name)) {
        Ok(value) => response(200, "text/plain; charset=utf-8", value),
        Err(words) => response(400, "text/plain; charset=utf-8", words),
    }
}

/// Answers a request of an agent.
pub(super) async fn answer(cloud: &Arc<Cloud>, call: &Call, verb: &str) -> Response<Full<Bytes>> {
    if !call.bears(&cloud.secrets.agent) {
        return json_response(401, &json!({"error": "wrong agent token"}));
    }
    let request: AgentRequest = match serde_json::from_slice(&call.body) {
        Ok(request) => request,
        Err(e) => return json_response(400, &json!({"error": format!("unreadable agent request: {e}")})),
    };
    let result = if verb == "poll" {
        wait_for_messages(cloud, &request.instance_id).await
    } else {
        cloud.with(|s| s.answer_agent(verb, &request))
    };
    match result {
        Ok(value) => json_response(200, &value),
        Err(Refused::Offline) => json_response(503, &json!({"error": "offline"})),
        Err(Refused::Unknown) => json_response(404, &json!({"error": "unknown instance or verb"})),
    }
}

/// Waits until there are messages for an agent, or the poll has been held long enough.
async fn wait_for_messages(cloud: &Arc<Cloud>, instance: &str) -> Result<Value, Refused> {
    let deadline = tokio::time::Instant::now() + POLL;
    loop {
        let messages = cloud.with(|s| s.poll_messages(instance))?;
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
