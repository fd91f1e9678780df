//! The headers of a request or an answer on their way through the balancer: what is taken off, kept and added.

use std::net::SocketAddr;

use http::{HeaderMap, HeaderName, HeaderValue, Request, Version, header};
use hyper::body::Incoming;

/// Headers that belong to one connection and are not passed on.
const HOP_BY_HOP: [HeaderName; 7] = [
    header::CONNECTION,
    header::PROXY_AUTHENTICATE,
    header::PROXY_AUTHORIZATION,
    header::TE,
    header::TRAILER,
    header::TRANSFER_ENCODING,
    header::UPGRADE,
];

/// Removes the headers that belong to one connection.
pub(super) fn strip_connection_headers(headers: &mut HeaderMap) {
    // A header named by Connection belongs to the connection as well.
    let named: Vec<HeaderName> = headers
        .get_all(header::CONNECTION)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .filter_map(|name| name.trim().parse().ok())
        .collect();
    for name in named.iter().chain(&HOP_BY_HOP) {
        headers.remove(name);
    }
    headers.remove("keep-alive");
    headers.remove("proxy-connection");
}

/// Returns the protocol that a message wants to switch to.
pub(super) fn requested_upgrade(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get_all(header::CONNECTION).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    });
    headers.get(header::UPGRADE).filter(|_| wanted).cloned()
}

/// Adds the headers that ask for, or confirm, a switch of protocols.
pub(super) fn add_upgrade_headers(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

/// Makes the request that goes to the target of the one that came from the client.
pub(super) fn forwarded_request(
    mut request: Request<Incoming>,
    peer: SocketAddr,
    upgrade: Option<HeaderValue>,
) -> Request<Incoming> {
    *request.version_mut() = Version::HTTP_11;
    let path = request.uri().path_and_query().cloned();
    if let Some(path) = path {
        *request.uri_mut() = path.into();
    }
    let headers = request.headers_mut();
    strip_connection_headers(headers);
    add_upgrade_headers(headers, upgrade);
    let mut chain = peer.ip().to_string();
    if let Some(before) = headers.get("x-forwarded-for").and_then(|value| value.to_str().ok()) {
        chain = format!("{before}, {chain}");
    }
    if let Ok(chain) = HeaderValue::from_str(&chain) {
        headers.insert("x-forwarded-for", chain);
    }
    headers.insert("x-forwarded-proto", HeaderValue::from_static("http"));
    request
}
