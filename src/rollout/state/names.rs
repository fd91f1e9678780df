//! The states of a deployment and of an instance in it, by name.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// The state of a deployment.
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

/// The state of an instance in a deployment.
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
    /// A waiting one counts by what it waits for: see `Instance::in_work`.
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

/// The release that an instance is to end with.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Goal {
    /// The deployment's revision.
    New,
    /// What it had before, after a cancel.
    Old,
}
