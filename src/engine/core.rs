//! The engine of one daemon: what it works with, and what it remembers while it runs.

use super::{
    Secrets,
    deployment::Missed,
    intake::Following,
    memory::{Left, Shared, Uploads},
    revisions::Bundles,
};
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
};
use tokio::sync::Notify;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

/// DescribeAutoScalingGroups may show a tag for so long after it was removed: AWS states no number; its reads are
/// eventually consistent, within seconds as a rule.
const TAG_LAG: SignedDuration = SignedDuration::from_mins(1);

/// The engine of one daemon.
pub struct Engine {
    pub(super) config: Config,
    pub(super) store: Arc<Store>,
    pub(super) logs: Arc<Logs>,
    pub(super) fleet: Fleet,
    pub(super) github: Repositories,
    pub(super) artifacts: Artifacts,
    pub(super) secrets: Secrets,
    /// URL under which instances reach this daemon; none: nothing comes in.
    pub(super) public_url: Option<String>,
    /// Logs that are read from CloudWatch.
    pub(super) uploads: Uploads,
    /// The log group has been made, or tried, since the start.
    pub(super) log_group_made: AtomicBool,
    pub(super) bundles: Bundles,
    pub(super) queue: Notify,
    /// A push was delivered.
    pub(super) pushed: Notify,
    /// What is known of the repositories that deploy by themselves.
    pub(super) following: Mutex<Following>,
    pub(super) running: Mutex<HashMap<i64, Arc<Notify>>>,
    pub(super) explained: Mutex<HashMap<i64, Explain>>,
    /// How much is left of each rollout, as last estimated.
    pub(super) left: Mutex<HashMap<i64, Left>>,
    /// How ready the way back from a deployment is, in words, as last looked at.
    pub(super) ready: Mutex<HashMap<i64, (std::time::Instant, Option<String>)>>,
    /// Waits that follow from the target groups' settings, by deployment group.
    pub(super) timings: Mutex<HashMap<String, Timing>>,
    /// ARNs of the target groups attached to each Auto Scaling group, as last seen; by its name.
    pub(super) attached: Mutex<HashMap<String, Vec<String>>>,
    /// Auto Scaling groups that were put back in order, and when: AWS may show the tag for a while.
    pub(super) released: Mutex<HashMap<String, Timestamp>>,
    /// Launches that are kept waiting outside a rollout: the last heartbeat of each, by instance.
    pub(super) heartbeats: Mutex<HashMap<String, Timestamp>>,
    /// Groups whose launches wait for a person, and why; by name.
    pub(super) alarms: Mutex<HashMap<String, String>>,
    /// What is known of releases that run before; by SHA.
    pub(super) formers: Mutex<HashMap<String, Option<AppSpec>>>,
    /// Whether a SHA that a host named belongs to its repository.
    pub(super) vetted: Mutex<HashMap<String, bool>>,
    /// Target groups that held no instance of some Auto Scaling groups, and when they were asked.
    pub(super) strangers: Mutex<HashMap<(String, String), Timestamp>>,
    /// What launches see together.
    pub(super) shared: Shared,
    /// Quarantined instances that the last look didn't show.
    pub(super) missed: Mutex<Missed>,
    /// The last fault of drover's own, and when it was.
    pub(super) fault: Mutex<Option<(std::time::Instant, String)>>,
    pub(super) tasks: TaskTracker,
    pub(super) stop: CancellationToken,
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
        let bundles = Bundles::new(config.server.data.join("bundles"));
        Arc::new(Engine {
            config,
            store,
            logs,
            fleet,
            github,
            artifacts,
            secrets,
            public_url,
            uploads: Uploads::default(),
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
            shared: Shared::default(),
            missed: Mutex::default(),
            fault: Mutex::default(),
            tasks: TaskTracker::new(),
            stop,
        })
    }

    /// Wakes the task of a deployment, and the queue.
    pub fn wake(&self, deployment: i64) {
        if let Some(notify) = self.running.lock().unwrap_or_else(PoisonError::into_inner).get(&deployment) {
            notify.notify_one();
        }
        self.queue.notify_one();
    }

    pub(super) fn following(&self) -> MutexGuard<'_, Following> {
        self.following.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn missed(&self) -> MutexGuard<'_, Missed> {
        self.missed.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn remember_attached(&self, groups: &[GroupSight]) {
        let mut attached = self.attached.lock().unwrap_or_else(PoisonError::into_inner);
        for group in groups {
            attached.insert(group.name.clone(), group.target_groups.clone());
        }
    }

    pub(super) fn was_released_lately(&self, auto_scaling_group: &str) -> bool {
        let released = self.released.lock().unwrap_or_else(PoisonError::into_inner);
        released.get(auto_scaling_group).is_some_and(|at| Timestamp::now() < *at + TAG_LAG)
    }

    /// Forgets what was only worth knowing while the deployment ran.
    pub(super) fn forget(&self, deployment: i64) {
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
    pub(super) fn explain(&self, deployment: i64, explain: Explain) {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).insert(deployment, explain);
    }

    /// Why things wait, as the last plan said.
    pub fn explained(&self, deployment: i64) -> Option<Explain> {
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).get(&deployment).cloned()
    }
}
