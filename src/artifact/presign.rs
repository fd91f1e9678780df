//! Links that are signed: whoever has one may fetch that one object, for a while.

use aws_credential_types::Credentials;
use aws_sigv4::{
    http_request::{
        PercentEncodingMode, SignableBody, SignableRequest, SignatureLocation, SigningSettings,
        UriPathNormalizationMode, sign,
    },
    sign::v4,
};
use std::time::{Duration, SystemTime};

/// A link for GET.
pub(super) fn link(
    address: &str,
    region: &str,
    credentials: Credentials,
    lasts: Duration,
) -> anyhow::Result<String> {
    let mut settings = SigningSettings::default();
    settings.signature_location = SignatureLocation::QueryParams;
    settings.expires_in = Some(lasts);
    // S3 alone takes paths as they are.
    settings.percent_encoding_mode = PercentEncodingMode::Single;
    settings.uri_path_normalization_mode = UriPathNormalizationMode::Disabled;
    let identity = credentials.into();
    let parameters = v4::SigningParams::builder()
        .identity(&identity)
        .region(region)
        .name("s3")
        .time(SystemTime::now())
        .settings(settings)
        .build()?
        .into();
    let request = SignableRequest::new("GET", address, std::iter::empty(), SignableBody::UnsignedPayload)?;
    let (instructions, _) = sign(request, &parameters)?.into_parts();
    let mut request = http::Request::get(address).body(())?;
    instructions.apply_to_request_http1x(&mut request);
    Ok(request.uri().to_string())
}
