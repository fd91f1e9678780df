//! The HTTP client with which all paper instances push their logs.

use std::time::Duration;

use anyhow::Context;
use tokio::sync::Semaphore;

/// The most requests under way at the same time, of all paper instances: sockets are few.
pub(super) const REQUESTS: usize = 256;
/// A client and the permits of its requests.
#[derive(Debug)]
pub struct Uplink {
    pub(super) http: reqwest::Client,
    pub(super) permits: Semaphore,
}

impl Uplink {
    /// Makes the client with its pool of connections.
    pub fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(REQUESTS)
            .build()
            .context("making the HTTP client of paper instances")?;
        Ok(Self { http, permits: Semaphore::new(REQUESTS) })
    }
}
