//! S3, as far as bundles need it: GET of an object by a presigned link, whole or from a byte on.
//!
//! As S3 does for a caller without `s3:ListBucket`, it answers AccessDenied for what isn't there. The bucket `public` may be
//! read by everybody, as from any HTTPS server: there a missing file is a plain 404.

use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, header};
use http_body_util::Full;
use serde_json::json;

use super::audit::Call as Line;
use super::cloud::Cloud;
use super::faults::Kind;
use super::wire::call::{Call, HttpAnswer, response};
use super::wire::{ApiError, sigv4};

/// The bucket whose objects everybody may read.
const PUBLIC: &str = "public";

/// Answers a request for an object.
pub fn answer(cloud: &Arc<Cloud>, call: &Call, bucket: &str) -> HttpAnswer {
    let path = call.segments().join("/");
    if call.method != Method::GET {
        return Some(error_response(&ApiError::new(405, "MethodNotAllowed", "only GET is simulated"), None));
    }
    let signed = call.query().contains_key("X-Amz-Signature");
    let verified = if signed {
        sigv4::verify_link(&cloud.secrets.keys, &call.uri, &call.headers)
    } else {
        Ok(String::new())
    };
    let result = cloud.with(|state| {
        let fault = state.faults.strike(&[Kind::Throttle, Kind::Error], "GetObject", &[], &mut state.chance);
        let found = match (verified, fault) {
            (Err(error), _) => Err((error, None)),
            (_, Some(_)) => Err((ApiError::new(503, "SlowDown", "Please reduce your request rate."), None)),
            (Ok(_), _) if !signed && bucket != PUBLIC => {
                Err((ApiError::new(403, "AccessDenied", "Access Denied"), None))
            }
            (Ok(_), _) if !signed => state.objects.get_public(&path).map_err(|error| (error, None)),
            (Ok(region), _) => state.objects.get_signed(bucket, &path, &region),
        };
        state.audit.push(Line {
            seq: 0,
            at: state.clock.unix_ms(),
            service: "s3".into(),
            action: "GetObject".into(),
            mutating: false,
            params: json!({ "path": path, "range": call.header("range") }),
            status: found.as_ref().map_or_else(|(error, _)| error.status, |_| 200),
            error_code: found.as_ref().err().map(|(error, _)| error.code.clone()),
            request_id: state.random_uuid(),
            fault: None,
        });
        found
    });
    Some(match result {
        Ok(bytes) => object_response(bytes, call.header("range")),
        Err((error, region)) => error_response(&error, region.as_deref()),
    })
}

/// Answers with an object, from the byte on that the range names.
fn object_response(bytes: Bytes, range: &str) -> Response<Full<Bytes>> {
    let from: Option<usize> = range
        .strip_prefix("bytes=")
        .and_then(|range| range.strip_suffix('-'))
        .and_then(|from| from.parse().ok());
    let length = bytes.len();
    match from {
        Some(from) if from < length => {
            let mut part = response(206, "binary/octet-stream", bytes.slice(from..));
            if let Ok(value) = format!("bytes {from}-{}/{length}", length - 1).parse() {
                part.headers_mut().insert(header::CONTENT_RANGE, value);
            }
            part
        }
        Some(_) => error_response(
            &ApiError::new(416, "InvalidRange", "The requested range is not satisfiable"),
            None,
        ),
        None => response(200, "binary/octet-stream", bytes),
    }
}

/// Answers with an error; `region` is the one where the bucket is.
fn error_response(error: &ApiError, region: Option<&str>) -> Response<Full<Bytes>> {
    let body = format!(
        "<?xml version=\"1.0\"?>\n<Error><Code>{}</Code><Message>{}</Message></Error>",
        error.code, error.message
    );
    let mut response = response(error.status, "application/xml", body);
    if let Some(value) = region.and_then(|region| region.parse().ok()) {
        response.headers_mut().insert("x-amz-bucket-region", value);
    }
    response
}
