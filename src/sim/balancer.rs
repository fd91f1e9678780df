//! The simulated load balancer's data path: a real HTTP/1.1 reverse proxy in front of the instances. It counts every
//! request and every failed one and never tries a second target. Which target gets a request is decided by [`Targets`].

mod exchange;
mod headers;
mod ledger;
mod outcome;
mod tunnel;

use std::convert::Infallible;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderValue, Request, Response, StatusCode, header};
use http_body_util::combinators::UnsyncBoxBody;
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper::service::service_fn;
use hyper_util::rt::TokioIo;
use tokio::net::{TcpListener, TcpStream};
use tokio_util::sync::CancellationToken;

pub use outcome::{Counts, Ended, Outcome, Picked, Targets};

use exchange::{BoxError, Exchange, Relayed};
use headers::{add_upgrade_headers, forwarded_request, requested_upgrade, strip_connection_headers};
use ledger::Ledger;

type Body = UnsyncBoxBody<Bytes, BoxError>;

/// How long a target may take to accept a connection, as at AWS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long a connection may be idle: AWS's default.
const IDLE_TIMEOUT: Duration = Duration::from_secs(60);

/// A load balancer's listener and the requests on their way through it.
pub struct Balancer {
    ledger: Arc<Ledger>,
}

impl Balancer {
    /// Makes a balancer over these targets; it does nothing until [`Balancer::serve`].
    pub fn new(targets: Arc<dyn Targets>) -> Arc<Balancer> {
        Arc::new(Balancer { ledger: Arc::new(Ledger::new(targets)) })
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
                    let connection = self.clone().serve_connection(stream, peer, shutdown.clone());
                    tokio::spawn(shutdown.clone().run_until_cancelled_owned(connection));
                }
                // Out of descriptors, or a client that left: later ones may fare better.
                Err(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        }
    }

    /// Ends the requests in flight to a target, as happens when its deregistration delay is over.
    pub fn close_target(&self, instance_id: &str) {
        self.ledger.close_target(instance_id);
    }

    /// Returns the number of requests and tunnels in flight to a target.
    pub fn in_flight(&self, instance_id: &str) -> usize {
        self.ledger.in_flight(instance_id)
    }

    /// Returns what has been counted so far.
    pub fn counts(&self) -> Counts {
        self.ledger.counts()
    }

    async fn serve_connection(
        self: Arc<Self>,
        stream: TcpStream,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) {
        // A missing TCP_NODELAY costs time only.
        drop(stream.set_nodelay(true));
        let service = service_fn(move |request| {
            let (balancer, shutdown) = (self.clone(), shutdown.clone());
            async move { Ok::<_, Infallible>(balancer.answer(request, peer, shutdown).await) }
        });
        let serving = hyper::server::conn::http1::Builder::new()
            .serve_connection(TokioIo::new(stream), service)
            .with_upgrades();
        if let Err(error) = serving.await {
            tracing::debug!(%peer, %error, "a client's connection ended");
        }
    }

    async fn answer(
        self: Arc<Self>,
        request: Request<Incoming>,
        peer: SocketAddr,
        shutdown: CancellationToken,
    ) -> Response<Body> {
        let mut exchange = Exchange::begin(Arc::clone(&self.ledger), &request);
        let Some(picked) = self.ledger.pick_target() else {
            return refuse_request(exchange, StatusCode::SERVICE_UNAVAILABLE, "no target to send to".into());
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
                response.map(|_| empty_body())
            }
            Err((status, reason)) => refuse_request(exchange, status, reason),
        }
    }

    /// Sends a request to its target and returns the answer; an upgraded one comes with the client's side of the tunnel.
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
        let upgrade = requested_upgrade(request.headers());
        let client = upgrade.is_some().then(|| hyper::upgrade::on(&mut request));
        let request = forwarded_request(request, peer, upgrade);
        match tokio::time::timeout(IDLE_TIMEOUT, sender.send_request(request)).await {
            Ok(Ok(mut response)) => {
                let switching = response.status() == StatusCode::SWITCHING_PROTOCOLS;
                let upgrade = requested_upgrade(response.headers());
                strip_connection_headers(response.headers_mut());
                match (switching, client) {
                    (true, Some(client)) => {
                        add_upgrade_headers(response.headers_mut(), upgrade);
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

/// Answers a request in the place of its target, with the reason for the record.
fn refuse_request(mut exchange: Exchange, status: StatusCode, reason: String) -> Response<Body> {
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

/// Makes a body without content.
fn empty_body() -> Body {
    http_body_util::Empty::new().map_err(|never| match never {}).boxed_unsync()
}
