//! What all routes work with.

use super::{access::Failures, body::Strangers};
use crate::{
    engine::{Engine, Secrets},
    logs::Logs,
    store::Store,
};
use std::{convert::Infallible, net::IpAddr, sync::Arc};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use warp::Filter;

/// What the routes work with.
#[derive(Clone)]
pub struct Web {
    /// The store.
    pub store: Arc<Store>,
    /// The logs.
    pub logs: Arc<Logs>,
    /// The engine.
    pub engine: Arc<Engine>,
    /// The secrets that the tokens of the hosts' routes and of forms derive from.
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

impl Web {
    /// Gives a copy of this to a handler.
    pub fn given(&self) -> impl Filter<Extract = (Web,), Error = Infallible> + Clone + use<> {
        let web = self.clone();
        warp::any().map(move || web.clone())
    }
}
