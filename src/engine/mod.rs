//! The engine: load → observe → plan → record → perform → record, one task and one value a deployment (`deployment/`).
//!
//! It decides nothing: [`crate::rollout`] does. It is level-triggered: whatever woke it, it has a plan made afresh from the
//! whole state, so that a start is an ordinary tick. Every effect on a group passes through `effects`, and every command
//! through `deployment::dispatch`; both write it down first.

mod bundles;
mod crash;
mod deployment;
mod effects;
mod estimate;
mod former;
mod group;
mod kept;
mod launches;
mod outcome;
mod plan;
mod planned;
mod preconditions;
mod prepare;
mod push;
mod quarantine;
mod queue;
mod record;
mod retention;
mod secrets;
mod seen;
mod shared;
mod submit;
mod survey;
mod takeover;
mod targets;
mod uploads;
mod verbs;

pub use group::GroupError;
pub use outcome::{End as LogEnd, RunnerResult};
pub use preconditions::{Findings, examine};
pub use push::{Push, Received};
pub use record::{policy, readable_instances, standing};
pub use secrets::{Secrets, same};
use submit::Order;
pub use submit::SubmitError;

use crate::{
    artifact::Artifacts,
    config::{Application, Config, Group},
    fleet::{Fleet, autoscaling::GroupSight},
    github::Repositories,
    logs::Logs,
    revision::appspec::AppSpec,
    rollout::{plan::Explain, snapshot::Timing},
    store::Store,
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, MutexGuard, PoisonError, atomic::AtomicBool},
    time::Duration,
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tracing::error;

/// The queue is looked at this often even when nothing wakes it.
const QUEUE_INTERVAL: Duration = Duration::from_secs(5);

/// DescribeAutoScalingGroups may show a tag for so long after it was removed: AWS states no number; its reads are
/// eventually consistent, within seconds as a rule.
const TAG_LAG: SignedDuration = SignedDuration::from_mins(1);

/// The engine of one daemon.
pub struct Engine {
    config: Config,
    store: Arc<Store>,
    logs: Arc<Logs>,
    fleet: Fleet,
    github: Repositories,
    artifacts: Artifacts,
    secrets: Secrets,
    /// URL under which instances reach this daemon; none: nothing comes in.
    public_url: Option<String>,
    /// Logs that are read from CloudWatch.
    uploads: uploads::Uploads,
    /// The log group has been made, or tried, since the start.
    log_group_made: AtomicBool,
    bundles: bundles::Bundles,
    queue: Notify,
    /// A push was delivered.
    pushed: Notify,
    /// What is known of the repositories that deploy by themselves.
    following: Mutex<push::Following>,
    running: Mutex<HashMap<i64, Arc<Notify>>>,
    explained: Mutex<HashMap<i64, Explain>>,
    /// How much is left of each rollout, as last estimated.
    left: Mutex<HashMap<i64, estimate::Left>>,
    /// How ready the way back from a deployment is, in words, as last looked at.
    ready: Mutex<HashMap<i64, (std::time::Instant, Option<String>)>>,
    /// Waits that follow from the target groups' settings, by deployment group.
    timings: Mutex<HashMap<String, Timing>>,
    /// ARNs of the target groups attached to each Auto Scaling group, as last seen; by its name.
    attached: Mutex<HashMap<String, Vec<String>>>,
    /// Auto Scaling groups that were put back in order, and when: AWS may show the tag for a while.
    released: Mutex<HashMap<String, Timestamp>>,
    /// Launches that are kept waiting outside a rollout: the last heartbeat of each, by instance.
    heartbeats: Mutex<HashMap<String, Timestamp>>,
    /// Groups whose launches wait for a person, and why; by name.
    alarms: Mutex<HashMap<String, String>>,
    /// What is known of releases that run before; by SHA.
    formers: Mutex<HashMap<String, Option<AppSpec>>>,
    /// Whether a SHA that a host named belongs to its repository.
    vetted: Mutex<HashMap<String, bool>>,
    /// Target groups that held no instance of some Auto Scaling groups, and when they were asked.
    strangers: Mutex<HashMap<(String, String), Timestamp>>,
    /// What launches see together.
    shared: shared::Shared,
    /// Quarantined instances that the last look didn't show.
    missed: Mutex<deployment::Missed>,
    /// The last fault of drover's own, and when it was.
    fault: Mutex<Option<(std::time::Instant, String)>>,
    tasks: TaskTracker,
    stop: CancellationToken,
}

/// What an engine works with.
pub struct Parts {
    /// The configuration.
    pub config: Config,
    /// The store.
    pub store: Arc<Store>,
    /// The log pipeline.
    pub logs: Arc<Logs>,
    /// AWS.
    pub fleet: Fleet,
    /// GitHub.
    pub github: Repositories,
    /// Bundles that CI built.
    pub artifacts: Artifacts,
    /// The daemon's own secret.
    pub secrets: Secrets,
    /// URL under which instances reach this daemon. None: nothing comes in; hosts fetch from GitHub, and their logs are
    /// read from CloudWatch Logs.
    pub public_url: Option<String>,
    /// Cancelled when the daemon is to stop.
    pub stop: CancellationToken,
}

impl Engine {
    /// An engine that doesn't run yet.
    pub fn new(parts: Parts) -> Arc<Engine> {
        let Parts { config, store, logs, fleet, github, artifacts, secrets, public_url, stop } = parts;
        let bundles = bundles::Bundles::new(config.server.data.join("bundles"));
        Arc::new(Engine {
            config,
            store,
            logs,
            fleet,
            github,
            artifacts,
            secrets,
            public_url,
            uploads: uploads::Uploads::default(),
            log_group_made: AtomicBool::new(false),
            bundles,
            queue: Notify::new(),
            pushed: Notify::new(),
            following: Mutex::default(),
            running: Mutex::default(),
            explained: Mutex::default(),
            left: Mutex::default(),
            ready: Mutex::default(),
            timings: Mutex::default(),
            attached: Mutex::default(),
            released: Mutex::default(),
            heartbeats: Mutex::default(),
            alarms: Mutex::default(),
            formers: Mutex::default(),
            vetted: Mutex::default(),
            strangers: Mutex::default(),
            shared: shared::Shared::default(),
            missed: Mutex::default(),
            fault: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// Runs until the daemon stops: starts what is queued, goes on with what is under way.
    pub async fn run(self: Arc<Self>) {
        self.keep_running("follows pushes", Engine::follow_pushes);
        self.keep_running("follows launches", Engine::follow_launches);
        self.keep_running("removes what is over for long", Engine::follow_retention);
        if self.public_url.is_none() {
            self.keep_running("reads uploaded logs", Engine::follow_uploads);
        }
        while !self.stop.is_cancelled() {
            if let Err(error) = self.look_at_queue().await {
                error!("looking at the queue: {error}");
            }
            tokio::select! {
                () = self.queue.notified() => {}
                () = tokio::time::sleep(QUEUE_INTERVAL) => {}
                () = self.stop.cancelled() => {}
            }
        }
        self.tasks.close();
        self.tasks.wait().await;
    }

    /// Wakes the task of a deployment, and the queue.
    pub fn wake(&self, deployment: i64) {
        if let Some(notify) = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&deployment) {
            notify.notify_one();
        }
        self.queue.notify_one();
    }

    fn following(&self) -> MutexGuard<'_, push::Following> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn missed(&self) -> MutexGuard<'_, deployment::Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn remember_attached(&self, groups: &[GroupSight]) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            attached.insert(group.name.clone(), group.target_groups.clone());
        }
    }

    fn was_released_lately(&self, auto_scaling_group: &str) -> bool {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.get(auto_scaling_group).is_some_and(|at| Timestamp::now() < *at + TAG_LAG)
    }

    /// Forgets what was only worth knowing while the deployment ran.
    fn forget(&self, deployment: i64) {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).remove(&deployment);
        self.left.lock().unwrap_or_else(PoisonError::into_inner).remove(&deployment);
        self.logs.forget(deployment);
    }

    /// The configured groups: name, application, group.
    pub fn groups(&self) -> impl Iterator<Item = (String, &Application, &Group)> {
        self.config.group_names().filter_map(|name| {
            let (application, group) = self.config.group(&name)?;
            Some((name, application, group))
        })
    }

    /// What a deployment waits for is this now.
    fn explain(&self, deployment: i64, explain: Explain) {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).insert(deployment, explain);
    }

    /// Why things wait, as the last plan said.
    pub fn explained(&self, deployment: i64) -> Option<Explain> {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).get(&deployment).cloned()
    }
}
