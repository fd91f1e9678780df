//! The HTTP side of the daemon: the page, the JSON API, the log streams, what hosts fetch and push, the webhook.
//!
//! Reads the store, hands wishes to the engine, decides nothing. [`gate::ROUTES`] names every route and whom it is for:
//! the page wants a session, the API a token, the hosts' routes a token that is good for one thing; webhooks are signed.

mod accept;
mod api;
pub mod gate;
mod groups;
mod health;
mod hosts;
mod pages;
mod reply;
mod request;
mod sessions;
mod slow;
mod stream;
mod tokens;
mod view;
mod webhook;

pub use accept::{Door, Standby, tls};
pub use hosts::DOWNLOADS;
pub use request::Strangers;
pub use slow::Failures;

use crate::{
    engine::{Engine, Secrets},
    logs::Logs,
    store::Store,
};
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::{
    net::{IpAddr, SocketAddr},
    path::Path,
    sync::Arc,
};
use tokio::{net::TcpListener, sync::Semaphore};
use tokio_util::sync::CancellationToken;
use warp::{Filter as _, Reply, filters::BoxedFilter, reply::Response};

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
    /// Wrong tokens by address.
    pub failures: Arc<Failures>,
    /// Room for what strangers send.
    pub strangers: Strangers,
    /// Turns of the instances that download.
    pub downloads: Arc<Semaphore>,
    /// Proxies before the daemon: only they connect, and they say where a request comes from. None: no proxy.
    pub trusted_proxies: Arc<[IpAddr]>,
    /// The daemon's address for people and hosts, if one is configured.
    pub public_url: Option<Arc<str>>,
    /// People reach the daemon by HTTPS: cookies are for HTTPS only.
    pub secure: bool,
    /// Cancelled when the daemon is to stop: streams end then.
    pub stop: CancellationToken,
}

/// All that there is behind the gate.
fn routes(web: Web) -> BoxedFilter<(Response,)> {
    health::routes(web.clone())
        .or(hosts::routes(web.clone()))
        .unify()
        .or(webhook::routes(web.clone()))
        .unify()
        .or(api::routes(web.clone()))
        .unify()
        .or(pages::routes(web))
        .unify()
        .recover(reply::rejected)
        .unify()
        .map(Reply::into_response)
        .boxed()
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
