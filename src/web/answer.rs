//! Answers one request: the gate, the handler, the headers that every answer has.

use super::{access::Stop, context::Web, pages, reply::Refusal};
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, service::Service as _};
use hyper_util::service::TowerToHyperService;
use std::net::IpAddr;
use tokio::sync::watch;
use warp::{Reply as _, filters::BoxedFilter, reply::Response};

/// What answers requests.
pub trait Answers: Clone + Send + Sync + 'static {
    /// One answer.
    fn answer(self, request: Request<Incoming>, peer: IpAddr) -> impl Future<Output = Response> + Send;
}

/// A standby daemon: nothing to see, and why.
#[derive(Clone)]
pub struct Standby {
    /// Who is active, in words.
    pub active: watch::Receiver<String>,
}

impl Answers for Standby {
    async fn answer(self, request: Request<Incoming>, _: IpAddr) -> Response {
        if request.uri().path() == "/healthz" {
            return String::from("ok\n").into_response();
        }
        let words = format!(
            "this daemon is standby: {}; this one takes over when that one ends, so ask again or ask that one",
            *self.active.borrow()
        );
        let refusal = Refusal::new(http::StatusCode::SERVICE_UNAVAILABLE, "standby", words);
        let html = accepts_html(request.headers()) && !request.uri().path().starts_with("/api/");
        let mut response = if html { pages::error(&refusal) } else { refusal.into_response() };
        response.headers_mut().insert(header::RETRY_AFTER, HeaderValue::from_static("2"));
        response
    }
}

/// What the daemon answers with, behind the gate.
#[derive(Clone)]
pub struct Active {
    /// What the routes work with.
    pub web: Web,
    /// The routes.
    pub routes: BoxedFilter<(Response,)>,
}

impl Answers for Active {
    async fn answer(self, request: Request<Incoming>, peer: IpAddr) -> Response {
        self.web.answer(request, peer, self.routes).await
    }
}

fn accepts_html(headers: &http::HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

impl Web {
    /// One request: the gate, the handler, the headers that every answer has.
    async fn answer(
        self,
        mut request: Request<Incoming>,
        peer: IpAddr,
        routes: BoxedFilter<(Response,)>,
    ) -> Response {
        let (method, path) = (request.method().clone(), request.uri().path().to_owned());
        let accepts_html = accepts_html(request.headers());
        let peer = self.client(peer, request.headers());
        let admitted = match peer {
            Some(peer) => self.admit(&method, &path, request.headers(), peer).await,
            None => Err(Refusal::new(
                http::StatusCode::FORBIDDEN,
                "not-the-proxy",
                "only the configured proxies may connect here",
            )
            .into()),
        };
        let mut response = match admitted {
            Ok(caller) => {
                if let Some(caller) = caller {
                    request.extensions_mut().insert(caller);
                }
                if let Some(peer) = peer {
                    request.extensions_mut().insert(peer);
                }
                match TowerToHyperService::new(warp::service(routes)).call(request).await {
                    Ok(response) => response,
                    Err(never) => match never {},
                }
            }
            Err(Stop::SignIn) => pages::to_sign_in(&method, request.uri()),
            Err(Stop::Refused(refusal)) => refusal.into_response(),
        };
        // A person's browser gets the words as a page.
        let page =
            !["/api/", "/ingest/", "/bundles/", "/webhooks/"].iter().any(|part| path.starts_with(part));
        if page
            && accepts_html
            && let Some(refusal) = response.extensions_mut().remove::<Refusal>()
        {
            response = pages::error(&refusal);
        }
        let status = response.status().as_u16();
        if response.status().is_server_error() {
            tracing::warn!(%method, path, status, ?peer, "a request failed");
        } else {
            tracing::debug!(%method, path, status, ?peer, "a request");
        }
        let headers = response.headers_mut();
        for (name, value) in [
            (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
            (header::X_FRAME_OPTIONS, "DENY"),
            (header::REFERRER_POLICY, "same-origin"),
            (header::CONTENT_SECURITY_POLICY, pages::CONTENT_SECURITY_POLICY),
        ] {
            headers.insert(name, HeaderValue::from_static(value));
        }
        // Tokens and logs are nobody's to keep.
        headers.entry(header::CACHE_CONTROL).or_insert(HeaderValue::from_static("no-store"));
        if self.secure {
            let value = HeaderValue::from_static("max-age=31536000");
            headers.insert(header::STRICT_TRANSPORT_SECURITY, value);
        }
        response
    }

    /// Where a request really comes from: the last address that a trusted proxy has not put there itself. None: it does
    /// not come through one, and must.
    fn client(&self, peer: IpAddr, headers: &http::HeaderMap) -> Option<IpAddr> {
        let peer = peer.to_canonical();
        if self.trusted_proxies.is_empty() {
            return Some(peer);
        }
        if !self.trusted_proxies.contains(&peer) {
            return peer.is_loopback().then_some(peer);
        }
        let forwarded = headers.get_all("x-forwarded-for").iter().filter_map(|value| value.to_str().ok());
        let mut addresses: Vec<IpAddr> =
            forwarded.flat_map(|text| text.split(',')).filter_map(|text| text.trim().parse().ok()).collect();
        while let Some(address) = addresses.pop() {
            if !self.trusted_proxies.contains(&address) {
                return Some(address);
            }
        }
        Some(peer)
    }
}
