//! S3, as far as bundles need it: GET of an object by a presigned link, whole or from a byte on.
//!
//! As S3 does for a caller without `s3:ListBucket`, it answers AccessDenied for what isn't there. The bucket `public` may be
//! read by everybody, as from any HTTPS server: there a missing file is a plain 404.

use std::collections::BTreeMap;
use std::sync::Arc;

use bytes::Bytes;
use http::{Method, Response, header};
use http_body_util::Full;
use serde_json::json;

use super::audit::Call as Line;
use super::cloud::Cloud;
use super::faults::Kind;
use super::server::{Answer, Call, response};
use super::wire::{ApiError, sigv4};

/// The bucket that everybody may read.
const PUBLIC: &str = "public";

/// Objects by bucket and key.
#[derive(Debug, Default)]
pub struct Objects {
    by_path: BTreeMap<String, Bytes>,
    /// Where a bucket is; elsewhere S3 refuses, and says where.
    regions: BTreeMap<String, String>,
}

impl Objects {
    /// Puts an object, or replaces it.
    pub fn put(&mut self, path: String, bytes: Bytes) {
        self.by_path.insert(path, bytes);
    }

    /// The bucket is in this region.
    pub fn put_region(&mut self, bucket: String, region: String) {
        self.regions.insert(bucket, region);
    }

    fn get(&self, bucket: &str, path: &str, region: &str) -> Result<Bytes, (ApiError, Option<String>)> {
        if let Some(right) = self.regions.get(bucket).filter(|right| *right != region) {
            let words = format!(
                "The authorization header is malformed; the region '{region}' is wrong; expecting '{right}'"
            );
            return Err((ApiError::new(400, "AuthorizationHeaderMalformed", words), Some(right.clone())));
        }
        let denied = || (ApiError::new(403, "AccessDenied", "Access Denied"), None);
        self.by_path.get(path).cloned().ok_or_else(denied)
    }
}

/// Answers for an object.
pub fn answer(cloud: &Arc<Cloud>, call: &Call, bucket: &str) -> Answer {
    let path = call.segments().join("/");
    if call.method != Method::GET {
        return Some(failure(&ApiError::new(405, "MethodNotAllowed", "only GET is simulated"), None));
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
            (Ok(_), _) if !signed => match state.objects.by_path.get(&path) {
                Some(bytes) => Ok(bytes.clone()),
                None => Err((ApiError::new(404, "NoSuchKey", "The specified key does not exist."), None)),
            },
            (Ok(region), _) => state.objects.get(bucket, &path, &region),
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
            request_id: state.uuid(),
            fault: None,
        });
        found
    });
    Some(match result {
        Ok(bytes) => object(bytes, call.header("range")),
        Err((error, region)) => failure(&error, region.as_deref()),
    })
}

fn object(bytes: Bytes, range: &str) -> Response<Full<Bytes>> {
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
        Some(_) => {
            failure(&ApiError::new(416, "InvalidRange", "The requested range is not satisfiable"), None)
        }
        None => response(200, "binary/octet-stream", bytes),
    }
}

fn failure(error: &ApiError, region: Option<&str>) -> Response<Full<Bytes>> {
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
