//! A request as the handlers of all APIs get it, and the responses that they answer with.

use std::collections::BTreeMap;

use bytes::Bytes;
use http::{HeaderMap, Method, Response, StatusCode, header};
use http_body_util::Full;
use serde_json::Value;
use subtle::ConstantTimeEq;

/// The answer to a request; `None` closes the connection without one.
pub type HttpAnswer = Option<Response<Full<Bytes>>>;

/// A request whose body has been read.
pub struct Call {
    /// The method.
    pub method: Method,
    /// The address asked for.
    pub uri: http::Uri,
    /// The headers.
    pub headers: HeaderMap,
    /// The body.
    pub body: Bytes,
}

impl Call {
    /// Returns the path's segments, decoded.
    pub fn segments(&self) -> Vec<String> {
        self.uri.path().split('/').filter(|s| !s.is_empty()).map(decode_segment).collect()
    }

    /// Returns the query's parameters, decoded.
    pub fn query(&self) -> BTreeMap<String, String> {
        form_urlencoded::parse(self.uri.query().unwrap_or_default().as_bytes()).into_owned().collect()
    }

    /// Whether the `Authorization` header bears this token, as `Bearer` or, as GitHub allows, as `token`.
    pub fn bears(&self, token: &str) -> bool {
        let value = self.headers.get(header::AUTHORIZATION).and_then(|v| v.to_str().ok()).unwrap_or_default();
        let Some((scheme, given)) = value.split_once(' ') else { return false };
        (scheme.eq_ignore_ascii_case("bearer") || scheme.eq_ignore_ascii_case("token"))
            && bool::from(given.trim().as_bytes().ct_eq(token.as_bytes()))
    }

    /// Returns the token of the `Authorization` header; empty if there is none.
    pub fn bearer(&self) -> &str {
        self.header("authorization").split_once(' ').map_or("", |(_, token)| token.trim())
    }

    /// Returns a header's text; empty if there is none.
    pub fn header(&self, name: &str) -> &str {
        self.headers.get(name).and_then(|v| v.to_str().ok()).unwrap_or_default()
    }
}

fn decode_segment(segment: &str) -> String {
    // Only `%xx` is decoded: in a path, `+` is itself.
    let quoted = segment.replace('+', "%2B");
    form_urlencoded::parse(format!("x={quoted}").as_bytes())
        .next()
        .map(|(_, v)| v.into_owned())
        .unwrap_or_default()
}

/// Makes a response with a body of this media type.
pub fn response(status: u16, media: &str, body: impl Into<Bytes>) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(body.into()));
    *response.status_mut() = StatusCode::from_u16(status).unwrap_or(StatusCode::INTERNAL_SERVER_ERROR);
    if let Ok(value) = media.parse() {
        response.headers_mut().insert(header::CONTENT_TYPE, value);
    }
    response
}

/// Makes a JSON response.
pub fn json_response(status: u16, value: &Value) -> Response<Full<Bytes>> {
    response(status, "application/json; charset=utf-8", value.to_string())
}
