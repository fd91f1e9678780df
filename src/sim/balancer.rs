//! The simulated load balancer's data path: a real HTTP/1.1 reverse proxy in front of the instances. It counts every
//! request and every failed one and never tries another target. Which target gets a request is not decided here.

mod exchange;
mod tunnel;

use std::collections::HashMap;
use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Request, Response, StatusCode, Version, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use serde::Serialize;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

use super::instance::Host;
use exchange::{Exchange, Relayed};

/// How long a target may take to accept a connection: the real one's time-out.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long nothing may be said on an exchange: the real one's default idle time-out.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

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

type BoxError = Box<dyn std::error::Error + Send + Sync>;
type Body = UnsyncBoxBody<Bytes, BoxError>;

/// The target that a request goes to.
#[derive(Clone)]
pub struct Picked {
    /// The instance's id.
    pub instance_id: String,
    /// The instance; none where its processes are gone and its target isn't unhealthy yet.
    pub host: Option<Arc<Host>>,
    /// The port the target group sends to.
    pub port: u16,
}

/// Chooses targets and is told what came of each request.
pub trait Targets: Send + Sync + 'static {
    /// The target of a new request: never a draining one; None where the target group has none to send to.
    fn pick(&self) -> Option<Picked>;
    /// Called once a request, when it has ended.
    fn record(&self, outcome: Outcome);
}

/// How a request ended.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Ended {
    /// The whole response went to the client, or the balancer's own error did.
    Complete,
    /// The target broke off within the response, or let a WebSocket's connection fall.
    TargetBroke,
    /// It was still going on when the deregistration delay ended.
    Deregistered,
    /// Nothing was said for the idle time-out.
    Idle,
    /// The client went away first.
    ClientLeft,
}

/// What came of one request.
#[derive(Debug, Clone, Serialize)]
pub struct Outcome {
    /// The target; None where there was none.
    pub instance_id: Option<String>,
    /// The request's method.
    pub method: String,
    /// The request's path without its query.
    pub path: String,
    /// The status that the client got; 0 where it left before there was one.
    pub status: u16,
    /// True where the status is the balancer's own (502, 503, 504), with the reason.
    pub balancer_error: Option<String>,
    /// Whether the connection became a tunnel (WebSocket).
    pub upgraded: bool,
    /// How it ended.
    pub ended: Ended,
    /// Milliseconds from its arrival to its end.
    pub millis: u64,
}

/// What a balancer has seen since it began.
#[derive(Debug, Clone, Default, Serialize)]
pub struct Counts {
    /// Requests received, those in flight included.
    pub requests: u64,
    /// Answers 502, 503 and 504 made by the balancer itself.
    pub balancer_5xx: u64,
    /// Statuses of 500 and above that came from targets.
    pub target_5xx: u64,
    /// Responses that a target broke off.
    pub broken: u64,
    /// Requests cut at the end of a deregistration delay.
    pub deregistered: u64,
    /// Requests by instance id, those in flight included.
    pub by_target: HashMap<String, u64>,
}

/// A load balancer's listener and the requests on their way through it.
pub struct Balancer {
    targets: Arc<dyn Targets>,
    state: Mutex<State>,
}

#[derive(Default)]
struct State {
    counts: Counts,
    open: HashMap<String, Open>,
}

/// The requests in flight to one target.
#[derive(Default)]
struct Open {
    requests: usize,
    close: CancellationToken,
}

impl Balancer {
    /// A balancer over these targets; it does nothing until [`Balancer::serve`].
    pub fn new(targets: Arc<dyn Targets>) -> Arc<Balancer> {
        Arc::new(Balancer { targets, state: Mutex::default() })
    }

    /// Serves a listener until `shutdown`, then closes every connection.
    pub async fn serve(self: Arc<Self>, listener: TcpListener, shutdown: CancellationToken) {
        loop {
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let connection = self.clone().connection(stream, peer, shutdown.clone());
                    tokio::spawn(shutdown.clone().run_until_cancelled_owned(connection));
                }
                // Out of descriptors, or a client that left: later ones may fare better.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Ends the requests in flight to a target: what happens when its deregistration delay is over.
    pub fn close_target(&self, instance_id: &str) {
        if let Some(open) = self.state().open.get_mut(instance_id) {
            std::mem::take(&mut open.close).cancel();
        }
    }

    /// The number of requests and tunnels in flight to a target.
    pub fn in_flight(&self, instance_id: &str) -> usize {
        self.state().open.get(instance_id).map_or(0, |open| open.requests)
    }

    /// What has been seen so far.
    pub fn counts(&self) -> Counts {
        self.state().counts.clone()
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn connection(self: Arc<Self>, stream: TcpStream, peer: SocketAddr, shutdown: CancellationToken) {
        // A missing TCP_NODELAY costs time only.
        drop(stream.set_nodelay(true));
        let service = service_fn(move |request| {
            let (balancer, shutdown) = (self.clone(), shutdown.clone());
            async move { Ok::<_, Infallible>(balancer.request(request, peer, shutdown).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = serving.await {
            tracing::debug!(%peer, %error, "a client's connection ended");
        }
    }

    async fn request(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Response<Body> {
        let mut exchange = Exchange::begin(self.clone(), &request);
        let Some(picked) = self.targets.pick() else {
            return refuse(exchange, StatusCode::SERVICE_UNAVAILABLE, "no target to send to".into());
        };
        let closed = exchange.assign(&picked.instance_id);
        let answered = tokio::select! {
            answered = self.forward(&picked, request, peer) => answered,
            () = closed.cancelled() => {
                exchange.ended = Some(Ended::Deregistered);
                let reason = "the target was deregistered before it answered".to_owned();
                Err((StatusCode::GATEWAY_TIMEOUT, reason))
            }
        };
        match answered {
            Ok((response, None)) => {
                exchange.outcome.status = response.status().as_u16();
                response.map(|body| Relayed::new(body, exchange, closed, IDLE_TIMEOUT).boxed_unsync())
            }
            Ok((mut response, Some(client))) => {
                exchange.outcome.status = response.status().as_u16();
                exchange.outcome.upgraded = true;
                let target = hyper::upgrade::on(&mut response);
                let tunnel = tunnel::run(client, target, exchange, closed, IDLE_TIMEOUT);
                tokio::spawn(shutdown.run_until_cancelled_owned(tunnel));
                response.map(|_| empty())
            }
            Err((status, reason)) => refuse(exchange, status, reason),
        }
    }

    /// Sends a request to its target; an upgraded answer comes with the client's side of the tunnel.
    async fn forward(
        &self,
        picked: &Picked,
        mut request: Request<Incoming>,
        peer: SocketAddr,
    ) -> Result<(Response<Incoming>, Option<hyper::upgrade::OnUpgrade>), (StatusCode, String)> {
        let bad = |what: &str, error: &dyn std::fmt::Display| {
            (StatusCode::BAD_GATEWAY, format!("{what} {}:{}: {error}", picked.instance_id, picked.port))
        };
        let Some(host) = &picked.host else { return Err(bad("connect to", &"it is gone")) };
        let stream = match tokio::time::timeout(CONNECT_TIMEOUT, host.connect(picked.port)).await {
            Ok(Ok(stream)) => stream,
            Ok(Err(error)) if error.kind() != std::io::ErrorKind::TimedOut => {
                return Err(bad("connect to", &error));
            }
            _ => {
                let reason = format!("connect to {}:{}: no answer", picked.instance_id, picked.port);
                return Err((StatusCode::GATEWAY_TIMEOUT, reason));
            }
        };
        let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream))
            .await
            .map_err(|error| bad("speak HTTP to", &error))?;
        tokio::spawn(async move {
            if let Err(error) = connection.with_upgrades().await {
                tracing::debug!(%error, "a target's connection ended");
            }
        });
        let upgrade = upgrade_of(request.headers());
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let request = prepare(request, peer, upgrade);
        match tokio::time::timeout(IDLE_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(mut response)) => {
                let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                let upgrade = upgrade_of(response.headers());
                strip(response.headers_mut());
                match (switching, client) {
                    (true, Some(client)) => {
                        pass_upgrade(response.headers_mut(), upgrade);
                        Ok((response, Some(client)))
                    }
                    (true, None) => Err(bad("an unasked switch of protocols by", &"refused")),
                    (false, _) => Ok((response, None)),
                }
            }
            Ok(Err(error)) => Err(bad("no response from", &error)),
            Err(_) => {
                let reason = format!("no response from {}:{} in time", picked.instance_id, picked.port);
                Err((StatusCode::GATEWAY_TIMEOUT, reason))
            }
        }
    }
}

fn refuse(mut exchange: Exchange, status: StatusCode, reason: String) -> Response<Body> {
    tracing::debug!(%status, reason, "the balancer answers itself");
    exchange.outcome.status = status.as_u16();
    exchange.outcome.balancer_error = Some(reason);
    exchange.ended.get_or_insert(Ended::Complete);
    let text = format!("{status}\n");
    let body = Full::from(text).map_err(|never| match never {}).boxed_unsync();
    let mut response = Response::new(body);
    *response.status_mut() = status;
    response.headers_mut().insert(header::SERVER, HeaderValue::from_static("awselb/2.0"));
    response
}

fn empty() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}

fn strip(headers: &mut HeaderMap) {
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

/// The protocol that a message wants to switch to.
fn upgrade_of(headers: &HeaderMap) -> Option<HeaderValue> {
    let wanted = headers.get_all(header::CONNECTION).iter().any(|value| {
        value
            .to_str()
            .is_ok_and(|value| value.split(',').any(|word| word.trim().eq_ignore_ascii_case("upgrade")))
    });
    headers.get(header::UPGRADE).filter(|_| wanted).cloned()
}

fn pass_upgrade(headers: &mut HeaderMap, upgrade: Option<HeaderValue>) {
    if let Some(protocol) = upgrade {
        headers.insert(header::UPGRADE, protocol);
        headers.insert(header::CONNECTION, HeaderValue::from_static("upgrade"));
    }
}

fn prepare(
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
    strip(headers);
    pass_upgrade(headers, upgrade);
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
