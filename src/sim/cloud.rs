//! The running cloud: the state behind its lock, the clock that drives it, and what its handlers share.
//!
//! A change of the state orders effects. How they are carried out is given from above (`sim::perform`), so that
//! whatever carries them out can change the state in turn.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use tokio::sync::{Notify, Semaphore};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::balancer::Balancer;
use super::github::GitHub;
use super::instance::Host;
use super::paper::Uplink;
use super::state::{Effect, State};
use super::wire::sigv4::Keys;

/// How often the state is brought up to the time.
const TICK: Duration = Duration::from_millis(25);
/// The number of process trees that are started at the same time.
const LAUNCHES: usize = 4;

/// The keys and tokens that callers prove themselves with.
#[derive(Clone, Debug)]
pub struct Secrets {
    /// The AWS keys.
    pub keys: Keys,
    /// The bearer token of the control API.
    pub token: String,
    /// The bearer token of the GitHub API.
    pub github: String,
    /// The bearer token of the agents.
    pub agent: String,
}

/// Carries out one effect, or starts a task that does.
pub type Perform = fn(&Arc<Cloud>, Effect);

/// The running cloud.
pub struct Cloud {
    state: Mutex<State>,
    /// The simulated GitHub.
    pub github: GitHub,
    /// The keys and tokens that callers prove themselves with.
    pub secrets: Secrets,
    /// Where the API is served.
    pub address: SocketAddr,
    /// Cancelled when the cloud shuts down.
    pub stop: CancellationToken,
    /// Notified when messages wait for agents.
    pub agents: Notify,
    /// The HTTP client with which paper instances push their logs.
    pub uplink: Uplink,
    perform: Perform,
    /// The balancers by the ARN of their target group.
    pub(super) balancers: Mutex<Vec<(String, Arc<Balancer>)>>,
    /// The directory for the instances' files.
    pub(super) data: PathBuf,
    /// A permit for each process tree that may be started now.
    pub(super) launches: Semaphore,
    /// The launches under way.
    pub(super) tasks: TaskTracker,
}

impl Cloud {
    /// Makes a cloud that keeps its instances' files below `data` and has `perform` carry out the effects.
    pub fn new(
        state: State,
        github: GitHub,
        secrets: Secrets,
        address: SocketAddr,
        data: PathBuf,
        uplink: Uplink,
        perform: Perform,
    ) -> Arc<Self> {
        Arc::new(Self {
            state: Mutex::new(state),
            github,
            secrets,
            address,
            stop: CancellationToken::new(),
            agents: Notify::new(),
            uplink,
            perform,
            balancers: Mutex::default(),
            data,
            launches: Semaphore::new(LAUNCHES),
            tasks: TaskTracker::new(),
        })
    }

    /// Returns the API's address as `http://host:port`.
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Locks the state to be read; a change that orders effects has to go through [`Self::with`].
    pub(super) fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Reads or changes the state, then carries out the effects that this ordered.
    pub fn with<R>(self: &Arc<Self>, work: impl FnOnce(&mut State) -> R) -> R {
        let (result, effects) = {
            let mut state = self.lock();
            let result = work(&mut state);
            (result, std::mem::take(&mut state.effects))
        };
        effects.into_iter().for_each(|effect| (self.perform)(self, effect));
        result
    }

    /// Brings the state up to the time again and again, until the cloud shuts down.
    pub async fn run(self: Arc<Self>) {
        let mut interval = tokio::time::interval(TICK);
        interval.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        loop {
            tokio::select! {
                () = self.stop.cancelled() => return,
                _ = interval.tick() => self.with(State::tick),
            }
        }
    }

    /// Shuts everything down: the servers, then all process trees.
    pub async fn shut_down(self: &Arc<Self>) {
        self.stop.cancel();
        self.launches.close();
        self.tasks.close();
        let _ = tokio::time::timeout(Duration::from_secs(5), self.tasks.wait()).await;
        let hosts: Vec<Arc<Host>> = self.lock().instances.values().filter_map(|i| i.host.clone()).collect();
        futures_util::future::join_all(hosts.iter().map(|h| h.terminate())).await;
    }

    /// Returns an instance's process tree, while it has one.
    pub fn host(&self, id: &str) -> Option<Arc<Host>> {
        self.lock().instances.get(id).and_then(|i| i.host.clone())
    }
}
