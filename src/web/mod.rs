//! The HTTP side of the daemon: the JSON API, the log streams, what hosts fetch and push.
//!
//! Reads the store, hands wishes to the engine, decides nothing. Every route but `/healthz` wants a token: the API
//! one of the store's, the hosts' routes one that is good for that one thing; webhooks are signed.

mod api;
mod hosts;
mod reply;
mod request;
mod stream;
mod view;
mod webhook;

use crate::{
    engine::{Engine, Secrets},
    logs::Logs,
    store::Store,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{net::SocketAddr, path::Path, sync::Arc, time::Duration};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use warp::Filter;

/// Open connections get this long to end after the signal to stop.
const LAST_MOMENT: Duration = Duration::from_secs(3);

/// What the routes work with.
#[derive(Clone)]
pub struct Web {
    /// The store.
    pub store: Arc<Store>,
    /// The logs.
    pub logs: Arc<Logs>,
    /// The engine.
    pub engine: Arc<Engine>,
    /// For the tokens of the hosts' routes.
    pub secrets: Secrets,
    /// What GitHub signs its webhooks with; none, no webhooks.
    pub webhook_secret: Option<Arc<str>>,
    /// Cancelled when the daemon is to stop: streams end then.
    pub stop: CancellationToken,
}

impl Web {
    /// Serves until the daemon stops, and a last moment longer.
    pub async fn serve(self, listener: TcpListener) {
        let stop = self.stop.clone();
        let health = warp::path!("healthz").and(warp::get()).map(|| String::from("ok\n"));
        let routes = health
            .or(hosts::routes(self.clone()))
            .or(webhook::routes(self.clone()))
            .or(api::routes(self))
            .recover(reply::rejected)
            .with(warp::trace::request());
        let signal = stop.clone();
        let server =
            warp::serve(routes).incoming(listener).graceful(async move { signal.cancelled().await }).run();
        tokio::select! {
            () = server => {}
            () = async { stop.cancelled().await; tokio::time::sleep(LAST_MOMENT).await } => {}
        }
    }
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

/// How a token is kept.
pub fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Makes the first token, if there is none, and writes it to `path` for its owner alone.
pub async fn first_token(store: &Store, path: &Path) -> anyhow::Result<bool> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    if store.has_tokens().await? {
        return Ok(false);
    }
    let token = Secrets::fresh();
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    let mut tx = store.write().await?;
    tx.insert_token(&token_hash(&token), "admin", Timestamp::now().as_millisecond()).await?;
    tx.commit().await?;
    Ok(true)
}
