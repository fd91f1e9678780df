//! Verifies AWS Signature Version 4: the signature is computed again from the request's own date and signed headers.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use aws_sigv4::sign::v4::{calculate_signature, generate_signing_key};
use http::HeaderMap;
use sha2::{Digest, Sha256};
use subtle::ConstantTimeEq;

use super::ApiError;

/// The keys that callers of the simulated AWS must sign with.
#[derive(Clone, Debug)]
pub struct Keys {
    /// Access key id.
    pub id: String,
    /// Secret access key.
    pub secret: String,
}

/// What the credential scope says about a request.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope {
    /// The access key id.
    pub key_id: String,
    /// `yyyymmdd`.
    pub date: String,
    /// Region.
    pub region: String,
    /// Signing name of the service.
    pub service: String,
    signed_headers: Vec<String>,
    signature: String,
}

/// Reads the `Authorization` header.
pub fn scope(headers: &HeaderMap) -> Option<Scope> {
    let value = headers.get("authorization")?.to_str().ok()?.strip_prefix("AWS4-HMAC-SHA256")?;
    let mut scope = Scope {
        key_id: String::new(),
        date: String::new(),
        region: String::new(),
        service: String::new(),
        signed_headers: Vec::new(),
        signature: String::new(),
    };
    for part in value.split(',') {
        match part.trim().split_once('=')? {
            ("Credential", credential) => {
                let parts: Vec<&str> = credential.split('/').collect();
                let [key_id, date, region, service, "aws4_request"] = parts.as_slice() else { return None };
                scope.key_id = (*key_id).to_owned();
                scope.date = (*date).to_owned();
                scope.region = (*region).to_owned();
                scope.service = (*service).to_owned();
            }
            ("SignedHeaders", names) => scope.signed_headers = names.split(';').map(str::to_owned).collect(),
            ("Signature", signature) => scope.signature = signature.to_owned(),
            _ => {}
        }
    }
    (!scope.service.is_empty() && !scope.signature.is_empty()).then_some(scope)
}

/// Checks the signature of a request against `keys`.
pub fn verify(
    keys: &Keys,
    scope: &Scope,
    method: &str,
    uri: &http::Uri,
    headers: &HeaderMap,
    body: &[u8],
) -> Result<(), ApiError> {
    if scope.key_id != keys.id {
        let message = "The security token included in the request is invalid.";
        return Err(ApiError::new(403, "InvalidClientTokenId", message));
    }
    let mismatch = |why: &str| {
        ApiError::new(
            403,
            "SignatureDoesNotMatch",
            format!(
                "The request signature we calculated does not match the signature you provided. Check your AWS Secret \
                 Access Key and signing method. ({why})"
            ),
        )
    };
    if !scope.signed_headers.iter().any(|h| h == "host") {
        return Err(mismatch("'host' is not a signed header"));
    }
    let date =
        headers.get("x-amz-date").and_then(|v| v.to_str().ok()).ok_or_else(|| mismatch("no X-Amz-Date"))?;
    let at = parse_date(date).ok_or_else(|| mismatch("unreadable X-Amz-Date"))?;
    let skew = SystemTime::now().duration_since(at).unwrap_or_else(|e| e.duration());
    if skew > Duration::from_secs(15 * 60) {
        let message =
            "Signature expired or not yet current: the request's date is more than 15 minutes away.";
        return Err(ApiError::new(403, "RequestExpired", message));
    }
    let mut canonical_headers = String::new();
    for name in &scope.signed_headers {
        let values: Vec<String> = headers
            .get_all(name)
            .iter()
            .filter_map(|v| v.to_str().ok())
            .map(|v| v.split_whitespace().collect::<Vec<_>>().join(" "))
            .collect();
        canonical_headers.push_str(&format!("{name}:{}\n", values.join(",")));
    }
    let mut pairs: Vec<&str> = uri.query().unwrap_or_default().split('&').filter(|p| !p.is_empty()).collect();
    pairs.sort_unstable();
    let canonical = format!(
        "{method}\n{}\n{}\n{canonical_headers}\n{}\n{}",
        uri.path(),
        pairs.join("&"),
        scope.signed_headers.join(";"),
        hex::encode(Sha256::digest(body)),
    );
    let to_sign = format!(
        "AWS4-HMAC-SHA256\n{date}\n{}/{}/{}/aws4_request\n{}",
        scope.date,
        scope.region,
        scope.service,
        hex::encode(Sha256::digest(canonical.as_bytes())),
    );
    let key = generate_signing_key(&keys.secret, at, &scope.region, &scope.service);
    let expected = calculate_signature(key, to_sign.as_bytes());
    if expected.as_bytes().ct_eq(scope.signature.as_bytes()).into() {
        Ok(())
    } else {
        Err(mismatch("signature differs"))
    }
}

/// Checks a presigned link; answers the region that it is signed for.
pub fn verify_link(keys: &Keys, uri: &http::Uri, headers: &HeaderMap) -> Result<String, ApiError> {
    let query: Vec<(String, String)> =
        form_urlencoded::parse(uri.query().unwrap_or_default().as_bytes()).into_owned().collect();
    let value = |name: &str| query.iter().find(|(key, _)| key == name).map(|(_, value)| value.as_str());
    let denied = |why: &str| ApiError::new(403, "AccessDenied", why.to_owned());
    let (Some(credential), Some(date), Some(lasts), Some(signed), Some(signature)) = (
        value("X-Amz-Credential"),
        value("X-Amz-Date"),
        value("X-Amz-Expires").and_then(|seconds| seconds.parse().ok()),
        value("X-Amz-SignedHeaders"),
        value("X-Amz-Signature"),
    ) else {
        return Err(ApiError::new(
            400,
            "AuthorizationQueryParametersError",
            "a parameter of the signature is missing",
        ));
    };
    let parts: Vec<&str> = credential.split('/').collect();
    let [key_id, day, region, "s3", "aws4_request"] = parts.as_slice() else {
        return Err(ApiError::new(400, "AuthorizationQueryParametersError", "the credential is malformed"));
    };
    if *key_id != keys.id {
        return Err(ApiError::new(
            403,
            "InvalidAccessKeyId",
            "The AWS Access Key Id you provided does not exist",
        ));
    }
    let at = parse_date(date).ok_or_else(|| denied("unreadable X-Amz-Date"))?;
    if SystemTime::now().duration_since(at).is_ok_and(|age| age > Duration::from_secs(lasts)) {
        return Err(denied("Request has expired"));
    }
    let mut pairs: Vec<&str> = uri
        .query()
        .unwrap_or_default()
        .split('&')
        .filter(|pair| !pair.is_empty() && !pair.starts_with("X-Amz-Signature="))
        .collect();
    pairs.sort_unstable();
    let mut canonical_headers = String::new();
    for name in signed.split(';') {
        let value = headers.get(name).and_then(|value| value.to_str().ok()).unwrap_or_default();
        canonical_headers.push_str(&format!("{name}:{value}\n"));
    }
    let canonical =
        format!("GET\n{}\n{}\n{canonical_headers}\n{signed}\nUNSIGNED-PAYLOAD", uri.path(), pairs.join("&"));
    let digest = hex::encode(Sha256::digest(canonical.as_bytes()));
    let to_sign = format!("AWS4-HMAC-SHA256\n{date}\n{day}/{region}/s3/aws4_request\n{digest}");
    let key = generate_signing_key(&keys.secret, at, region, "s3");
    let expected = calculate_signature(key, to_sign.as_bytes());
    if expected.as_bytes().ct_eq(signature.as_bytes()).into() {
        Ok((*region).to_owned())
    } else {
        Err(ApiError::new(403, "SignatureDoesNotMatch", "the signature differs"))
    }
}

fn parse_date(date: &str) -> Option<SystemTime> {
    let at = jiff::civil::DateTime::strptime("%Y%m%dT%H%M%SZ", date)
        .ok()?
        .to_zoned(jiff::tz::TimeZone::UTC)
        .ok()?;
    Some(UNIX_EPOCH + Duration::from_secs(u64::try_from(at.timestamp().as_second()).ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_scope_names_the_service_and_a_wrong_secret_is_refused() {
        let mut headers = HeaderMap::new();
        let now = jiff::Timestamp::now().strftime("%Y%m%dT%H%M%SZ").to_string();
        headers.insert("host", "127.0.0.1:1".parse().unwrap());
        headers.insert("x-amz-date", now.parse().unwrap());
        headers.insert(
            "authorization",
            format!(
                "AWS4-HMAC-SHA256 Credential=K/{}/eu-central-1/ssm/aws4_request, SignedHeaders=host;x-amz-date, Signature=00",
                &now[..8]
            )
            .parse()
            .unwrap(),
        );
        let scope = scope(&headers).unwrap();
        assert_eq!(scope.service, "ssm");
        let uri = "/".parse().unwrap();
        let keys = Keys { id: "K".into(), secret: "s".into() };
        assert_eq!(
            verify(&keys, &scope, "POST", &uri, &headers, b"").unwrap_err().code,
            "SignatureDoesNotMatch"
        );
        let other = Keys { id: "L".into(), secret: "s".into() };
        assert_eq!(
            verify(&other, &scope, "POST", &uri, &headers, b"").unwrap_err().code,
            "InvalidClientTokenId"
        );
    }
}
