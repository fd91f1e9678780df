//! Load for the demo and the tests: requests at a constant rate through a balancer, checked at the client, whatever
//! becomes of earlier ones. Must not import anything of the daemon.

mod requests;
mod sockets;
#[cfg(test)]
mod tests;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context, ensure};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use serde::Serialize;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use requests::Client;

/// WebSockets held open.
const SOCKETS: usize = 4;
/// Failures that are described; the others are only counted.
const DESCRIBED: usize = 20;

/// What load to make.
#[derive(Debug, Clone)]
pub struct LoadSpec {
    /// The balancer's base URL, `http://127.0.0.1:PORT`.
    pub url: String,
    /// Requests begun each second.
    pub rate_per_second: u32,
    /// Of the mixture's random choices.
    pub seed: u64,
}

impl LoadSpec {
    /// Forty requests a second at this URL.
    pub fn new(url: impl Into<String>) -> LoadSpec {
        LoadSpec { url: url.into(), rate_per_second: 40, seed: 1 }
    }
}

/// Requests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Ended, well or not.
    pub total: u64,
    /// Connect errors, statuses of 500 and above, short or wrong bodies.
    pub failed: u64,
}

/// WebSockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CountedSockets {
    /// Opened, reopenings included.
    pub opened: u64,
    /// Ended by the balancer in an orderly way, without a word of the service: the end of a deregistration delay.
    pub closed_by_deregistration: u64,
    /// Not opened, broken off, or closed by the service.
    pub failed: u64,
}

/// The kinds of load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByKind {
    /// Plain requests, on kept and on fresh connections.
    pub get: Counted,
    /// Requests with a body that the service must have received whole.
    pub post: Counted,
    /// Responses streamed for three seconds, checked to the last line.
    pub stream: Counted,
    /// WebSockets held open, with traffic.
    pub websocket: CountedSockets,
}

/// What the clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Requests ended, and WebSockets opened or tried to.
    pub total: u64,
    /// Those of them that failed; a WebSocket that was opened may fail later, without another count in the total.
    pub failed: u64,
    /// The same by kind.
    pub by_kind: ByKind,
    /// The first twenty failures in words.
    pub failures: Vec<String>,
    /// When each failure was seen, milliseconds since the Unix epoch; not in what is printed.
    #[serde(skip)]
    pub failed_at: Vec<i64>,
}

/// Running load; stop it with [`Load::stop`].
pub struct Load {
    shared: Arc<Shared>,
    stopping: CancellationToken,
    tasks: TaskTracker,
}

/// A kind of request.
#[derive(Debug, Clone, Copy)]
enum Kind {
    Get,
    Post,
    Stream,
}

struct Shared {
    begun: Instant,
    report: Mutex<LoadReport>,
}

impl Shared {
    fn report(&self) -> MutexGuard<'_, LoadReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn request(&self, kind: Kind, result: anyhow::Result<()>) {
        let mut report = self.report();
        let by_kind = &mut report.by_kind;
        let (name, counted) = match kind {
            Kind::Get => ("GET /", &mut by_kind.get),
            Kind::Post => ("POST /echo", &mut by_kind.post),
            Kind::Stream => ("GET /stream", &mut by_kind.stream),
        };
        counted.total += 1;
        counted.failed += u64::from(result.is_err());
        report.total += 1;
        if let Err(error) = result {
            self.failure(&mut report, name, &error);
        }
    }

    fn socket_failed(&self, error: &anyhow::Error) {
        let mut report = self.report();
        report.by_kind.websocket.failed += 1;
        self.failure(&mut report, "WebSocket /ws", error);
    }

    fn failure(&self, report: &mut LoadReport, name: &str, error: &anyhow::Error) {
        report.failed += 1;
        report.failed_at.push(jiff::Timestamp::now().as_millisecond());
        if report.failures.len() < DESCRIBED {
            let at = self.begun.elapsed().as_secs_f64();
            report.failures.push(format!("{at:.1} s: {name}: {error:#}"));
        }
    }
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
            shared: Arc::new(Shared { begun: Instant::now(), report: Mutex::default() }),
            stopping: CancellationToken::new(),
            tasks: TaskTracker::new(),
        };
        let arrivals =
            arrive(spec, mixed, Client::new(authority.clone()), load.shared.clone(), load.tasks.clone());
        load.tasks.spawn(load.stopping.clone().run_until_cancelled_owned(arrivals));
        for number in 0..if mixed { SOCKETS } else { 0 } {
            let socket = sockets::hold(authority.clone(), number, load.shared.clone(), load.stopping.clone());
            load.tasks.spawn(socket);
        }
        Ok(load)
    }

    /// What has been seen so far.
    pub fn so_far(&self) -> LoadReport {
        self.shared.report().clone()
    }

    /// Stops, lets what is in flight end, and reports.
    pub async fn stop(self) -> LoadReport {
        self.stopping.cancel();
        self.tasks.close();
        self.tasks.wait().await;
        self.shared.report().clone()
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        self.stopping.cancel();
    }
}

/// Begins requests at the given rate, whatever becomes of them.
async fn arrive(spec: LoadSpec, mixed: bool, client: Client, shared: Arc<Shared>, tasks: TaskTracker) {
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
        let (client, shared) = (client.clone(), shared.clone());
        tasks.spawn(async move {
            let result = match kind {
                Kind::Get if !mixed => client.get_anything(fresh).await,
                Kind::Get => client.get(fresh).await,
                Kind::Post => client.post(salt).await,
                Kind::Stream => client.stream().await,
            };
            shared.request(kind, result);
        });
    }
}
