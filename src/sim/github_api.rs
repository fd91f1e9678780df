//! The GitHub side of the port: checks the token, applies limits and faults, and writes the audit log around
//! [`super::github`].

use std::sync::Arc;

use http::header;
use serde_json::json;
use sha2::{Digest, Sha256};

use super::audit::Call as Line;
use super::cloud::Cloud;
use super::faults::Kind;
use super::github::{GitHub, Reply, Request, error};
use super::throttle;
use super::wire::call::{Call, HttpAnswer, json_response, response};

/// Answers a request for `/repos/…`, `/repositories/…` or an archive's short-lived address.
pub async fn answer(cloud: &Arc<Cloud>, call: &Call) -> HttpAnswer {
    let segments = call.segments();
    let query = call.query();
    let download = segments.first().is_some_and(|s| s == "_codeload");
    let action = if download { "DownloadTarball" } else { GitHub::action(&segments) };
    let (id, struck) = cloud.with(|state| {
        let id = state.random_uuid();
        let now = state.clock.now();
        if state.throttle.take("github", action, now).is_err() {
            return (id, Some((Kind::Throttle, None, None)));
        }
        let mut kinds = vec![Kind::Throttle, Kind::Error, Kind::LoseResponse];
        if download {
            kinds.push(Kind::DownloadFail);
        }
        let fault = state.faults.strike(&kinds, action, &[], &mut state.chance);
        (id, fault.map(|f| (f.kind, f.status, f.message)))
    });
    let path: Vec<&str> = segments.iter().map(String::as_str).collect();
    let repository = match path.as_slice() {
        ["repos", owner, name, ..] => Some(format!("{owner}/{name}")),
        _ => None,
    };
    let own = struck.is_none().then(|| {
        cloud.github.apps.answer(&call.method, &path, call.bearer(), cloud.with(|state| state.clock.scale()))
    });
    let own = own.flatten();
    let installation = cloud.github.apps.admits(call.bearer(), None);
    let foreign = installation && !cloud.github.apps.admits(call.bearer(), repository.as_deref());
    let authorized = download || installation || call.bears(&cloud.secrets.github);
    let base = format!("http://{}", call.header("host"));
    let mut limited = false;
    let reply = match &struck {
        _ if own.is_some() => own.unwrap_or_else(|| error(500, "Server Error")),
        _ if !authorized => error(401, "Bad credentials"),
        _ if foreign => error(404, "Not Found"),
        _ if call.method != http::Method::GET => error(404, "Not Found"),
        Some((Kind::Throttle, ..)) => {
            limited = true;
            error(403, &throttle::error("github").message)
        }
        Some((Kind::Error, status, message)) => {
            error(status.unwrap_or(500), message.as_deref().unwrap_or("Server Error"))
        }
        Some((Kind::DownloadFail, ..)) => error(502, "Bad Gateway"),
        _ if download => cloud.github.archive(query.get("token").map_or("", String::as_str)).await,
        _ => {
            let raw = call.header("accept").contains("raw");
            let target = call.uri.path_and_query().map_or("", |target| target.as_str());
            let request = Request { segments: &segments, target, query: &query, base: &base, raw };
            cloud.github.answer(&request).await
        }
    };
    // A conditional request whose answer is the same is answered without it.
    let etag = match &reply {
        Reply::Json(200, body) => Some(format!("W/\"{}\"", hex::encode(Sha256::digest(body.to_string())))),
        _ => None,
    };
    let unchanged = etag.as_deref().is_some_and(|etag| call.header("if-none-match") == etag);
    let (status, code) = match &reply {
        Reply::Json(status, body) if *status >= 400 => (*status, body["message"].as_str().map(str::to_owned)),
        _ if unchanged => (304, None),
        Reply::Json(status, _) => (*status, None),
        Reply::Moved(_) => (301, None),
        Reply::Redirect(_) => (302, None),
        Reply::Bytes(..) => (200, None),
    };
    let lost = matches!(struck, Some((Kind::LoseResponse, ..)));
    cloud.with(|state| {
        let at = state.clock.unix_ms();
        let mut params = json!({"path": call.uri.path()});
        if !download {
            params["query"] = json!(query);
        }
        state.audit.push(Line {
            seq: 0,
            at,
            service: "github".to_owned(),
            action: action.to_owned(),
            mutating: false,
            params,
            status: if lost { 0 } else { status },
            error_code: code,
            request_id: id.clone(),
            fault: struck.as_ref().map(|(kind, ..)| kind.name()),
        });
    });
    if lost {
        return None;
    }
    let mut answer = match reply {
        _ if unchanged => response(304, "application/json; charset=utf-8", ""),
        Reply::Moved(path) => {
            let url = format!("{base}{path}");
            let mut answer = json_response(301, &json!({"message": "Moved Permanently", "url": url}));
            if let Ok(value) = url.parse() {
                answer.headers_mut().insert(header::LOCATION, value);
            }
            answer
        }
        Reply::Json(status, body) => json_response(status, &body),
        Reply::Bytes(media, bytes) => response(200, media, bytes),
        Reply::Redirect(path) => {
            let mut answer = response(302, "text/html", "");
            if let Ok(value) = format!("{base}{path}").parse() {
                answer.headers_mut().insert(header::LOCATION, value);
            }
            answer
        }
    };
    let headers = answer.headers_mut();
    if let Some(value) = etag.and_then(|etag| etag.parse().ok()) {
        headers.insert(header::ETAG, value);
    }
    headers.insert("x-ratelimit-limit", 5000.into());
    headers.insert("x-ratelimit-remaining", if limited { 0.into() } else { 4999.into() });
    if limited {
        headers.insert("retry-after", 1.into());
    }
    if let Ok(value) = id.parse() {
        headers.insert("x-github-request-id", value);
    }
    Some(answer)
}
