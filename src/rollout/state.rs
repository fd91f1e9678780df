//! The states of a deployment and of an instance in it, and the persisted record of an instance.

use super::{
    event::LifecycleEvent,
    fault::short,
    transition::{Illegal, Step, next},
};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

pub use super::fault::{Cause, Failure, Fault};

/// Where a deployment stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum DeploymentState {
    Queued,
    Preparing,
    Rolling,
    /// Waits for a person: nothing new is started, what is in work finishes.
    Halted,
    /// A person paused it: the same, until that person or another resumes it.
    Paused,
    Succeeded,
    /// Ended within the failure budget: some instances failed, the others have the revision.
    Partial,
    Failed,
    Cancelled,
    /// Queued by itself, and a newer one queued by itself took its place.
    Superseded,
}

impl DeploymentState {
    /// Whether nothing will happen any more.
    pub fn is_final(self) -> bool {
        use DeploymentState::*;
        matches!(self, Succeeded | Partial | Failed | Cancelled | Superseded)
    }

    /// Whether it waits for a person: nothing new is started, what is in work finishes.
    pub fn waits_for_a_person(self) -> bool {
        matches!(self, DeploymentState::Halted | DeploymentState::Paused)
    }

    /// The exit code that a command waiting for this deployment ends with, if it is one to end on.
    pub fn exit_code(self) -> Option<i32> {
        use DeploymentState::*;
        match self {
            Succeeded => Some(0),
            Failed | Cancelled | Superseded => Some(1),
            Halted => Some(3),
            Partial => Some(4),
            Queued | Preparing | Rolling | Paused => None,
        }
    }
}

/// Where an instance stands in a deployment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum InstanceState {
    Pending,
    /// The revision is downloaded and unpacked beside the running release.
    Staging,
    Staged,
    /// BeforeBlockTraffic hooks run; only where the revision has some.
    PreBlocking,
    /// On its way out of the balancer: standby or deregistered, until drained.
    Blocking,
    /// The one dispatch from AfterBlockTraffic to BeforeAllowTraffic.
    Deploying,
    /// On its way back in, until healthy on every target group.
    Allowing,
    /// AfterAllowTraffic hooks run; only where the revision has some.
    PostAllowing,
    Succeeded,
    /// A retry is due later; `Wait` says when and where it goes on.
    Waiting,
    /// A cancelled deployment puts the last good release back on this instance.
    Restoring,
    /// Restored: back in service on the release it had before.
    Restored,
    Failed,
    /// Left the group. Not a failure.
    Gone,
    /// Not touched: already on the revision and healthy, or the deployment was cancelled before its turn.
    Skipped,
}

impl InstanceState {
    /// Whether this deployment has nothing more to do with the instance.
    pub fn is_final(self) -> bool {
        use InstanceState::*;
        matches!(self, Succeeded | Restored | Failed | Gone | Skipped)
    }

    /// Whether the deployment has begun to take it out of the balancer and is not through with it.
    /// A waiting one counts by what it waits for: see [`Instance::in_work`].
    pub fn is_in_work(self) -> bool {
        use InstanceState::*;
        matches!(self, PreBlocking | Blocking | Deploying | Allowing | PostAllowing | Restoring)
    }
}

macro_rules! names {
    ($type:ident: $($variant:ident)*) => {
        impl fmt::Display for $type {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.pad(match self { $($type::$variant => stringify!($variant)),* })
            }
        }
        impl FromStr for $type {
            type Err = String;
            fn from_str(name: &str) -> Result<Self, String> {
                match name {
                    $(stringify!($variant) => Ok($type::$variant),)*
                    other => Err(format!("'{other}' is no state that this version of drover knows")),
                }
            }
        }
    };
}
names!(DeploymentState: Queued Preparing Rolling Halted Paused Succeeded Partial Failed Cancelled Superseded);
names!(InstanceState: Pending Staging Staged PreBlocking Blocking Deploying Allowing PostAllowing Succeeded Waiting Restoring Restored Failed Gone Skipped);

/// Which release the instance is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The deployment's revision.
    New,
    /// What it had before, after a cancel.
    Old,
}

/// A retry that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Wait {
    /// When it is due.
    pub until: Timestamp,
    /// The state in which it goes on.
    pub back: InstanceState,
}

/// A membership in a target group, as journalled before the instance is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Membership {
    /// ARN of the target group.
    pub target_group: String,
    /// The target's port.
    pub port: u16,
    /// Registered and deregistered by the Auto Scaling group itself; else by us.
    pub owned: bool,
    /// It was registered there when it was looked for.
    #[serde(default)]
    pub seen: bool,
    /// Neither its Auto Scaling group nor the configuration names the target group, and it was not healthy there at the
    /// start: it is drained there too, but its health there is waited for by nobody.
    #[serde(default)]
    pub unwatched: bool,
}

impl Membership {
    /// Its target: a target group may hold an instance on several ports.
    pub fn target(&self) -> (String, u16) {
        (self.target_group.clone(), self.port)
    }
}

/// What the store remembers of an instance in a deployment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Availability zone.
    pub zone: String,
    /// Name of its Auto Scaling group.
    pub group: String,
    /// Where it is registered when in service.
    pub memberships: Vec<Membership>,
    /// Where it stands …
    pub state: InstanceState,
    /// … since when.
    pub since: Timestamp,
    /// Which release it is to end with.
    pub goal: Goal,
    /// The last release known good on it, if any.
    pub good: Option<String>,
    /// The batch in which it was started; from 1.
    pub batch: Option<u32>,
    /// The attempt (see the store) that the present state waits for.
    pub attempt: Option<i64>,
    /// Attempts so far, staging not counted.
    pub attempts: u32,
    /// Retries used after transient failures.
    pub transient: u32,
    /// Retries used after failures of unknown class.
    pub unknown: u32,
    /// A run was dispatched: the running release may have been touched.
    pub touched: bool,
    /// Where the next attempt starts, if not at the first event.
    pub resume: Option<LifecycleEvent>,
    /// The retry that is due, in state Waiting.
    pub wait: Option<Wait>,
    /// What went wrong last, also while it is retried.
    pub fault: Option<Fault>,
    /// How it ended, in state Failed.
    pub failure: Option<Failure>,
    /// To be dispatched alone: a dispatch with others was refused for an id among them.
    pub solo: bool,
    /// The attempt that was asked to stop (cancel), if one was, and whether at once.
    pub stopping: Option<(i64, bool)>,
    /// When it was last asked to.
    #[serde(default)]
    pub stop_sent: Option<Timestamp>,
    /// Its BeforeBlockTraffic hooks are through.
    #[serde(default)]
    pub pre_blocked: bool,
    /// It came into service after the deployment had begun.
    #[serde(default)]
    pub joined: bool,
    /// When its launch was last kept waiting by a heartbeat.
    #[serde(default)]
    pub heartbeat: Option<Timestamp>,
    /// When its launch was answered. Another hook may hold it on.
    #[serde(default)]
    pub answered: Option<Timestamp>,
    /// It was in service and healthy when the deployment began.
    #[serde(default)]
    pub healthy_at_start: bool,
    /// In quarantine when it was taken in hand: not whole, whatever becomes of this deployment.
    #[serde(default)]
    pub kept_out: bool,
    /// It left the group from standby, where the desired capacity had gone down with it.
    #[serde(default)]
    pub left_standby: bool,
    /// Since when it is ready for service, and AWS doesn't let it in.
    #[serde(default)]
    pub kept_since: Option<Timestamp>,
    /// An attempt before was given up for lost: its hooks may be at work until then, and keep the next one out.
    #[serde(default)]
    pub busy_until: Option<Timestamp>,
    /// Seconds that the hooks of the attempt may take together; none: those of the revision's main events.
    #[serde(default)]
    pub run_seconds: Option<i64>,
}

impl Instance {
    /// A new, pending one.
    pub fn new(id: &str, zone: &str, group: &str, now: Timestamp) -> Self {
        Instance {
            id: id.into(),
            zone: zone.into(),
            group: group.into(),
            memberships: Vec::new(),
            state: InstanceState::Pending,
            since: now,
            goal: Goal::New,
            good: None,
            batch: None,
            attempt: None,
            attempts: 0,
            transient: 0,
            unknown: 0,
            touched: false,
            resume: None,
            wait: None,
            fault: None,
            failure: None,
            solo: false,
            stopping: None,
            stop_sent: None,
            pre_blocked: false,
            joined: false,
            heartbeat: None,
            answered: None,
            healthy_at_start: false,
            kept_out: false,
            left_standby: false,
            kept_since: None,
            busy_until: None,
            run_seconds: None,
        }
    }

    /// Whether it has been taken in hand (see [`InstanceState::is_in_work`]), waiting for a retry included.
    pub fn in_work(&self) -> bool {
        self.state.is_in_work() || self.wait.is_some_and(|wait| wait.back.is_in_work())
    }

    /// Whether it is still being staged, waiting for a retry of it included.
    pub fn in_staging(&self) -> bool {
        use InstanceState::*;
        matches!(self.state, Pending | Staging) || self.wait.is_some_and(|wait| wait.back == Staging)
    }

    /// A person wants it tried again: from the start, with all its retries. Only a failed one can be.
    pub fn try_again(&mut self, now: Timestamp) -> Result<(), Illegal> {
        let again = Instance {
            memberships: self.memberships.clone(),
            good: self.good.clone(),
            attempts: self.attempts,
            touched: self.touched,
            joined: self.joined,
            healthy_at_start: self.healthy_at_start,
            kept_out: self.quarantined() || self.kept_out,
            ..Instance::new(&self.id, &self.zone, &self.group, now)
        };
        next(self.state, Step::TryAgain)?;
        *self = again;
        Ok(())
    }

    /// What it is on at the end of a deployment, and whether it serves, in words.
    pub fn fate(&self) -> String {
        use InstanceState::*;
        let former = self.good.as_deref().map_or_else(
            || "its former release".to_owned(),
            |good| format!("its former release {}", short(good)),
        );
        match self.state {
            Succeeded => "on the new revision, in service".to_owned(),
            Restored => format!("back on {former}, in service"),
            Gone => "gone: it left the group".to_owned(),
            Failed if self.quarantined() => "quarantined, out of the balancer".to_owned(),
            Failed if self.touched => "on the new revision, in service, but failed".to_owned(),
            _ => format!("untouched, on {former}"),
        }
    }

    /// Failed and kept out of the balancer.
    pub fn quarantined(&self) -> bool {
        self.failure.as_ref().is_some_and(|failure| failure.quarantined)
    }
}
