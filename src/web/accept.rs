//! Our own accept loop: plain HTTP or TLS, the gate before every request, a graceful end.

use super::{Web, gate::Stop, pages, reply::Refusal};
use anyhow::Context as _;
use http::{HeaderValue, Request, header};
use hyper::{body::Incoming, server::conn::http1, service::Service as _};
use hyper_util::{
    rt::{TokioIo, TokioTimer},
    service::TowerToHyperService,
};
use std::{
    convert::Infallible,
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
    time::Duration,
};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::{Semaphore, watch},
    time::Instant,
};
use tokio_rustls::{
    TlsAcceptor,
    rustls::{
        ServerConfig,
        pki_types::{CertificateDer, PrivateKeyDer, pem::PemObject as _},
    },
};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use warp::{Reply as _, filters::BoxedFilter, reply::Response};

/// Open connections get this long to end after the signal to stop.
const LAST_MOMENT: Duration = Duration::from_secs(3);
/// A client has this long for its request's head, and for its TLS handshake.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections at the same time, each with one request at most. Past it new ones are closed at once; those that say nothing
/// are cut before long.
const MOST_CONNECTIONS: usize = 8192;
/// That is said in the daemon's log this often at most.
const SAY_AGAIN: Duration = Duration::from_secs(60);
/// After an accept that failed: out of descriptors, as a rule.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// A TLS acceptor from PEM files: the certificate with its chain, and its key.
pub fn tls(certificate: &Path, key: &Path) -> anyhow::Result<TlsAcceptor> {
    let chain: Vec<CertificateDer<'static>> = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(|| format!("reading the TLS certificate {}", certificate.display()))?;
    anyhow::ensure!(!chain.is_empty(), "there is no certificate in {}", certificate.display());
    let private = PrivateKeyDer::from_pem_file(key)
        .map_err(|e| anyhow::anyhow!("{e}"))
        .with_context(|| format!("reading the TLS key {}", key.display()))?;
    let mut config = ServerConfig::builder()
        .with_no_client_auth()
        .with_single_cert(chain, private)
        .with_context(|| format!("the key {} for {}", key.display(), certificate.display()))?;
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(TlsAcceptor::from(Arc::new(config)))
}

/// Where people and hosts come in.
#[derive(Clone)]
pub struct Door {
    /// The port.
    pub listener: Arc<TcpListener>,
    /// HTTPS, if that is spoken.
    pub tls: Option<TlsAcceptor>,
}

/// What answers requests.
trait Answers: Clone + Send + Sync + 'static {
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
struct Active {
    web: Web,
    routes: BoxedFilter<(Response,)>,
}

impl Answers for Active {
    async fn answer(self, request: Request<Incoming>, peer: IpAddr) -> Response {
        self.web.answer(request, peer, self.routes).await
    }
}

impl Door {
    /// Serves a standby's refusals until the token is cancelled.
    pub async fn stand_by(self, standby: Standby, stop: CancellationToken) {
        self.accept(standby, stop).await;
    }

    /// Serves the daemon until it stops, and a last moment longer.
    pub async fn serve(self, web: Web) {
        let (routes, stop) = (super::routes(web.clone()), web.stop.clone());
        self.accept(Active { web, routes }, stop).await;
    }

    async fn accept(self, answers: impl Answers, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let Door { listener, tls } = self;
        let places = Arc::new(Semaphore::new(MOST_CONNECTIONS));
        let mut said: Option<Instant> = None;
        loop {
            let (stream, peer) = tokio::select! {
                () = stop.cancelled() => break,
                accepted = listener.accept() => match accepted {
                    Ok(accepted) => accepted,
                    Err(error) => {
                        tracing::warn!("accepting a connection: {error}");
                        tokio::time::sleep(ACCEPT_PAUSE).await;
                        continue;
                    }
                },
            };
            let Ok(place) = Arc::clone(&places).try_acquire_owned() else {
                if said.is_none_or(|at| at.elapsed() > SAY_AGAIN) {
                    tracing::warn!(%peer, "{MOST_CONNECTIONS} connections are open: new ones are closed");
                    said = Some(Instant::now());
                }
                continue;
            };
            if stream.set_nodelay(true).is_err() {
                continue;
            }
            let (answers, stop, tls) = (answers.clone(), stop.clone(), tls.clone());
            connections.spawn(async move {
                let _place = place;
                match tls {
                    None => connection(answers, stream, peer, stop).await,
                    Some(tls) => match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                        Ok(Ok(stream)) => connection(answers, stream, peer, stop).await,
                        Ok(Err(error)) => tracing::debug!(%peer, "TLS: {error}"),
                        Err(_) => tracing::debug!(%peer, "TLS: no handshake in time"),
                    },
                }
            });
        }
        drop(listener);
        connections.close();
        if tokio::time::timeout(LAST_MOMENT, connections.wait()).await.is_err() {
            tracing::info!("{} connections were still open at the end", connections.len());
        }
    }
}

fn accepts_html(headers: &http::HeaderMap) -> bool {
    let accept = headers.get(header::ACCEPT).and_then(|value| value.to_str().ok());
    accept.is_some_and(|accept| accept.contains("text/html"))
}

async fn connection(
    answers: impl Answers,
    stream: impl AsyncRead + AsyncWrite + Unpin,
    peer: SocketAddr,
    stop: CancellationToken,
) {
    let service = hyper::service::service_fn(move |request| {
        let answers = answers.clone();
        async move { Ok::<_, Infallible>(answers.answer(request, peer.ip()).await) }
    });
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .serve_connection(TokioIo::new(stream), service);
    let mut connection = std::pin::pin!(connection);
    let ended = tokio::select! {
        ended = connection.as_mut() => ended,
        () = stop.cancelled() => {
            connection.as_mut().graceful_shutdown();
            connection.await
        }
    };
    if let Err(error) = ended {
        tracing::debug!(%peer, "a connection ended: {error}");
    }
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
