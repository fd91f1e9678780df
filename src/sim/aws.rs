//! The AWS side of the port: checks the signature, finds the service, applies limits and faults, and writes the audit log.

mod distort;

use std::sync::Arc;

use bytes::Bytes;
use http::Response;
use http_body_util::Full;
use serde_json::{Value, json};

use super::audit::{self, Call as Line};
use super::cloud::Cloud;
use super::faults::Kind;
use super::state::State;
use super::wire::call::{Call, HttpAnswer, response};
use super::wire::{ApiError, json as json_wire, query, sigv4};
use super::{autoscaling, elb, throttle};

/// Answers a signed request.
pub async fn answer(cloud: &Arc<Cloud>, call: &Call) -> HttpAnswer {
    let scope = sigv4::scope(&call.headers);
    let target = call.header("x-amz-target");
    let service = match &scope {
        Some(scope) => scope.service.clone(),
        None if target.is_empty() => "autoscaling".to_owned(),
        None => "ssm".to_owned(),
    };
    let (action, params) = if speaks_json(&service) {
        let body = if call.body.is_empty() { Ok(json!({})) } else { serde_json::from_slice(&call.body) };
        (json_wire::action(target), body.unwrap_or(Value::Null))
    } else {
        query::decode(&call.body)
    };
    let verified = match &scope {
        None => {
            Err(ApiError::new(403, "MissingAuthenticationToken", "Request is missing Authentication Token"))
        }
        Some(scope) => sigv4::verify(
            &cloud.secrets.keys,
            scope,
            call.method.as_str(),
            &call.uri,
            &call.headers,
            &call.body,
        ),
    };
    let (result, lost, request_id) = cloud.with(|state| {
        let request_id = state.random_uuid();
        let at = state.clock.unix_ms();
        let (result, fault) = match verified {
            Ok(()) => perform_call(state, &service, &action, &params),
            Err(e) => (Err(e), None),
        };
        let lost = fault.as_deref() == Some("lose-response");
        state.audit.push(Line {
            seq: 0,
            at,
            service: service.clone(),
            action: action.clone(),
            mutating: audit::mutates(&action),
            params: params.clone(),
            status: if lost { 0 } else { result.as_ref().map_or_else(|e| e.status, |_| 200) },
            error_code: result.as_ref().err().map(|e| e.code.clone()),
            request_id: request_id.clone(),
            fault,
        });
        (result, lost, request_id)
    });
    (!lost).then(|| write_answer(&service, &action, &result, &request_id))
}

/// Whether a service speaks JSON, as Systems Manager and CloudWatch Logs do; the others speak the query protocol.
fn speaks_json(service: &str) -> bool {
    ["ssm", "logs"].contains(&service)
}

/// Performs a call within its rate limit; returns its result and the fault that struck, if one did.
fn perform_call(
    state: &mut State,
    service: &str,
    action: &str,
    params: &Value,
) -> (Result<Value, ApiError>, Option<String>) {
    let now = state.clock.now();
    if let Err(e) = state.throttle.take(service, action, now) {
        return (Err(e), None);
    }
    let ids = named_instances(params);
    let before = [Kind::Throttle, Kind::Error];
    if let Some(fault) = state.faults.strike(&before, action, &ids, &mut state.chance) {
        let error = if fault.kind == Kind::Throttle {
            throttle::error(service)
        } else {
            ApiError::new(
                fault.status.unwrap_or(500),
                fault.code.as_deref().unwrap_or("InternalFailure"),
                fault.message.clone().unwrap_or_else(|| "an injected error".to_owned()),
            )
        };
        return (Err(error), Some(fault.kind.name()));
    }
    let result = match service {
        _ if params.is_null() => Err(ApiError::refused("SerializationException", "the body is not JSON")),
        "autoscaling" => state.autoscaling(action, params),
        "elasticloadbalancing" => state.elasticloadbalancing(action, params),
        "ssm" => state.ssm(action, params),
        "logs" => state.cloudwatch_logs(action, params),
        other => Err(ApiError::new(404, "UnknownService", format!("the service '{other}' is not simulated"))),
    };
    let (result, distorted) = match result {
        Ok(answer) => {
            let (answer, fault) = distort::distort(state, action, params, answer);
            (Ok(answer), fault)
        }
        Err(error) => (Err(error), None),
    };
    if distorted.is_some() {
        return (result, distorted);
    }
    let lost = state.faults.strike(&[Kind::LoseResponse], action, &ids, &mut state.chance);
    (result, lost.map(|f| f.kind.name()))
}

/// Returns the instances that a call names, for matching faults.
fn named_instances(params: &Value) -> Vec<String> {
    let mut ids: Vec<String> = Vec::new();
    let texts = |v: &Value| v.as_array().cloned().unwrap_or_default();
    ids.extend(texts(&params["InstanceIds"]).iter().filter_map(|v| v.as_str().map(str::to_owned)));
    ids.extend(params["InstanceId"].as_str().map(str::to_owned));
    ids.extend(texts(&params["Targets"]).iter().filter_map(|t| t["Id"].as_str().map(str::to_owned)));
    ids
}

/// Writes the answer in the service's protocol.
fn write_answer(
    service: &str,
    action: &str,
    result: &Result<Value, ApiError>,
    request_id: &str,
) -> Response<Full<Bytes>> {
    let status = result.as_ref().map_or_else(|e| e.status, |_| 200);
    let mut response = if speaks_json(service) {
        let body = result.as_ref().map_or_else(json_wire::failure, json_wire::success);
        response(status, "application/x-amz-json-1.1", body.to_string())
    } else {
        let namespace =
            if service == "elasticloadbalancing" { elb::NAMESPACE } else { autoscaling::NAMESPACE };
        let body = match result {
            Ok(value) => query::success(namespace, action, value, request_id),
            Err(e) => query::failure(namespace, e, request_id),
        };
        response(status, "text/xml", body)
    };
    if let Ok(value) = request_id.parse() {
        response.headers_mut().insert("x-amzn-requestid", value);
    }
    response
}
