//! The phases of an instance in a deployment, each with the data that only this phase has.

use super::{fault::Failure, names::InstanceState};
use crate::rollout::event::LifecycleEvent;
use jiff::Timestamp;

/// The phase of an instance, with the data that only this phase has, so that no later phase finds data left over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Phase {
    /// See [`InstanceState::Pending`].
    Pending,
    /// The attempt that stages, once one is recorded.
    Staging(Option<Running>),
    /// On the host, and its turn may come.
    Staged {
        /// The event at which the run begins, if that is not the first.
        resume: Option<LifecycleEvent>,
    },
    /// The attempt that runs the BeforeBlockTraffic hooks.
    PreBlocking(Option<Running>),
    /// On its way out of the balancer.
    Blocking {
        /// The event at which the run begins, if that is not the first.
        resume: Option<LifecycleEvent>,
    },
    /// The run of the deployment's revision.
    Deploying {
        /// The event at which it begins, if that is not the first.
        resume: Option<LifecycleEvent>,
        /// The attempt, once one is recorded.
        attempt: Option<Running>,
    },
    /// On its way back in.
    Allowing {
        /// Since when it is ready for service, and AWS doesn't let it in.
        kept_since: Option<Timestamp>,
    },
    /// The attempt that runs the AfterAllowTraffic hooks.
    PostAllowing(Option<Running>),
    /// See [`InstanceState::Succeeded`].
    Succeeded,
    /// A retry is due later.
    Waiting(Wait),
    /// The run of the former release, from its own beginning.
    Restoring(Option<Running>),
    /// See [`InstanceState::Restored`].
    Restored,
    /// How it ended.
    Failed(Box<Failure>),
    /// Left the group.
    Gone {
        /// From standby, where the desired capacity had gone down with it.
        left_standby: bool,
    },
    /// See [`InstanceState::Skipped`].
    Skipped,
}

/// An attempt (a row of a dispatch) that a phase waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Running {
    /// Its number.
    pub number: i64,
    /// Seconds that its hooks may take together; none: those of the revision's main events.
    pub run_seconds: Option<i64>,
    /// The request to stop, if one was made.
    pub stop: Option<Stop>,
}

/// A request to an attempt to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stop {
    /// Whether it is to stop at once; otherwise after the lifecycle event that it runs.
    pub at_once: bool,
    /// When it was last sent.
    pub sent: Timestamp,
}

/// A retry that is due later.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Wait {
    /// When it is due.
    pub until: Timestamp,
    /// The phase in which it continues.
    pub back: Back,
}

/// The phase in which a retry continues.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Back {
    Staging,
    PreBlocking,
    Blocking {
        /// The event at which the run begins, if that is not the first.
        resume: Option<LifecycleEvent>,
    },
    Deploying {
        /// The event at which the run begins, if that is not the first.
        resume: Option<LifecycleEvent>,
    },
    PostAllowing,
    Restoring,
}

impl Back {
    /// Returns the name of the state.
    pub fn state(self) -> InstanceState {
        self.phase().state()
    }

    /// Returns the event at which the run begins, if that is not the first.
    pub fn resume(self) -> Option<LifecycleEvent> {
        self.phase().resume()
    }

    /// Returns the same, with its run beginning at `resume` where a run follows.
    pub fn at(self, resume: Option<LifecycleEvent>) -> Back {
        match self {
            Back::Blocking { .. } => Back::Blocking { resume },
            Back::Deploying { .. } => Back::Deploying { resume },
            other => other,
        }
    }

    /// Returns the phase itself, with no attempt yet.
    pub fn phase(self) -> Phase {
        match self {
            Back::Staging => Phase::Staging(None),
            Back::PreBlocking => Phase::PreBlocking(None),
            Back::Blocking { resume } => Phase::Blocking { resume },
            Back::Deploying { resume } => Phase::Deploying { resume, attempt: None },
            Back::PostAllowing => Phase::PostAllowing(None),
            Back::Restoring => Phase::Restoring(None),
        }
    }
}

impl Phase {
    /// Returns the phase's name.
    pub fn state(&self) -> InstanceState {
        use InstanceState as S;
        match self {
            Phase::Pending => S::Pending,
            Phase::Staging(_) => S::Staging,
            Phase::Staged { .. } => S::Staged,
            Phase::PreBlocking(_) => S::PreBlocking,
            Phase::Blocking { .. } => S::Blocking,
            Phase::Deploying { .. } => S::Deploying,
            Phase::Allowing { .. } => S::Allowing,
            Phase::PostAllowing(_) => S::PostAllowing,
            Phase::Succeeded => S::Succeeded,
            Phase::Waiting(_) => S::Waiting,
            Phase::Restoring(_) => S::Restoring,
            Phase::Restored => S::Restored,
            Phase::Failed(_) => S::Failed,
            Phase::Gone { .. } => S::Gone,
            Phase::Skipped => S::Skipped,
        }
    }

    /// Returns the event at which the run begins, if that is not the first.
    pub fn resume(&self) -> Option<LifecycleEvent> {
        match self {
            Phase::Staged { resume } | Phase::Blocking { resume } | Phase::Deploying { resume, .. } => {
                *resume
            }
            _ => None,
        }
    }

    /// Returns the attempt that it waits for.
    pub fn running(&self) -> Option<&Running> {
        match self {
            Phase::Staging(attempt)
            | Phase::PreBlocking(attempt)
            | Phase::Deploying { attempt, .. }
            | Phase::PostAllowing(attempt)
            | Phase::Restoring(attempt) => attempt.as_ref(),
            _ => None,
        }
    }

    /// Returns the slot for an attempt, in a phase that waits for one.
    pub(super) fn attempt_slot(&mut self) -> Option<&mut Option<Running>> {
        match self {
            Phase::Staging(attempt)
            | Phase::PreBlocking(attempt)
            | Phase::Deploying { attempt, .. }
            | Phase::PostAllowing(attempt)
            | Phase::Restoring(attempt) => Some(attempt),
            _ => None,
        }
    }
}
