//! Accepts connections, by plain HTTP or TLS, and ends them in good order.

use super::{
    answer::{Active, Answers, Standby},
    context::Web,
    limits::{HEAD_TIMEOUT, LAST_MOMENT, MOST_CONNECTIONS},
    routes::routes,
};
use anyhow::Context as _;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use std::{convert::Infallible, net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::{
    io::{AsyncRead, AsyncWrite},
    net::TcpListener,
    sync::Semaphore,
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

/// Binds the address; the error says what to do.
pub async fn bind(address: SocketAddr) -> anyhow::Result<TcpListener> {
    TcpListener::bind(address).await.map_err(|e| match e.kind() {
        std::io::ErrorKind::AddrInUse => anyhow::anyhow!(
            "can't listen on {address}: the port is in use; stop what listens there, or set another server.listen"
        ),
        _ => anyhow::anyhow!("can't listen on {address}: {e}"),
    })
}

/// Where people and hosts come in.
#[derive(Clone)]
pub struct Acceptor {
    /// The port.
    pub listener: Arc<TcpListener>,
    /// HTTPS, if that is spoken.
    pub tls: Option<TlsAcceptor>,
}

impl Acceptor {
    /// Serves a standby's refusals until the token is cancelled.
    pub async fn stand_by(self, standby: Standby, stop: CancellationToken) {
        self.accept(standby, stop).await;
    }

    /// Serves the daemon until it stops, and a last moment longer.
    pub async fn serve(self, web: Web) {
        let (routes, stop) = (routes(&web), web.stop.clone());
        self.accept(Active { web, routes }, stop).await;
    }

    async fn accept(self, answers: impl Answers, stop: CancellationToken) {
        let connections = TaskTracker::new();
        let Acceptor { listener, tls } = self;
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
