//! Load for the demo and the tests: requests begun at a constant rate through a balancer, whether or not earlier ones have
//! ended, with every answer checked at the client. Must not import anything of the daemon.

mod report;
mod requests;
mod sockets;
#[cfg(test)]
mod tests;

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

pub use report::{ByKind, Counted, CountedSockets, LoadReport};

use report::{Kind, Tally};
use requests::Client;

/// The number of WebSockets held open.
const SOCKETS: usize = 4;

/// Which load to make, and where.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// The balancer's base URL, `http://127.0.0.1:PORT`.
    pub url: String,
    /// Requests begun each second.
    pub rate_per_second: u32,
    /// Seed of the random choices between the kinds of request.
    pub seed: u64,
}

impl LoadSpec {
    /// Describes a load of forty requests a second at this URL.
    pub fn new(url: impl Into<String>) -> LoadSpec {
        LoadSpec { url: url.into(), rate_per_second: 40, seed: 1 }
    }
}

/// Running load; stop it with [`Load::stop`].
pub struct Load {
    tally: Arc<Tally>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

impl Load {
    /// Starts the load on the sample service; must be called within a tokio runtime.
    ///
    /// # Errors
    /// Where the URL is not `http://HOST:PORT`, or the rate is zero.
    pub fn start(spec: LoadSpec) -> anyhow::Result<Load> {
        Load::begin(spec, true)
    }

    /// Starts load on a service of which nothing is known: `GET /` alone, where any status below 500 is right.
    ///
    /// # Errors
    /// As [`Load::start`].
    pub fn start_gets(spec: LoadSpec) -> anyhow::Result<Load> {
        Load::begin(spec, false)
    }

    fn begin(spec: LoadSpec, mixed: bool) -> anyhow::Result<Load> {
        ensure!(spec.rate_per_second > 0, "the load's rate must be at least one request a second");
        let authority = spec.url.strip_prefix("http://").map(|rest| rest.trim_end_matches('/').to_owned());
        let authority =
            authority.with_context(|| format!("the load's URL {} must begin with http://", spec.url))?;
        let load = Load {
            tally: Arc::new(Tally::begin()),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let arrivals = begin_requests(
            spec,
            mixed,
            Client::new(authority.clone()),
            load.tally.clone(),
            load.tasks.clone(),
        );
        load.tasks.spawn(load.stopping.clone().run_until_cancelled_owned(arrivals));
        for number in 0..if mixed { SOCKETS } else { 0 } {
            let socket = sockets::hold(authority.clone(), number, load.tally.clone(), load.stopping.clone());
            load.tasks.spawn(socket);
        }
        Ok(load)
    }

    /// Returns what the clients have seen so far.
    pub fn so_far(&self) -> LoadReport {
        self.tally.report().clone()
    }

    /// Stops the load, waits for the requests in flight, and returns the report.
    pub async fn stop(self) -> LoadReport {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.tally.report().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// Begins requests at the given rate, whether or not earlier ones have ended.
async fn begin_requests(spec: LoadSpec, mixed: bool, client: Client, tally: Arc<Tally>, tasks: TaskTracker) {
    let client = Arc::new(client);
    let mut random = StdRng::seed_from_u64(spec.seed);
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / spec.rate_per_second);
    loop {
        ticks.tick().await;
        // One in twenty streams for three seconds; of the others one in five has a body.
        let kind = match random.random_range(0..100) {
            0..5 if mixed => Kind::Stream,
            5..25 if mixed => Kind::Post,
            _ => Kind::Get,
        };
        let (fresh, salt) = (random.random_bool(0.3), random.random());
        let (client, tally) = (client.clone(), tally.clone());
        tasks.spawn(async move {
            let result = match kind {
                Kind::Get if !mixed => client.get_anything(fresh).await,
                Kind::Get => client.get(fresh).await,
                Kind::Post => client.post(salt).await,
                Kind::Stream => client.stream().await,
            };
            tally.count_request(kind, result);
        });
    }
}
