//! The record of an instance in a deployment: its phase, and what is kept in every phase.

use super::{
    fault::{Failure, Fault, short},
    names::{Goal, InstanceState},
    phase::{Phase, Running, Stop, Wait},
    transition::{Illegal, Step, next},
};
use crate::rollout::event::LifecycleEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An instance's membership in a target group, as recorded before the instance is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct Membership {
    /// ARN of the target group.
    pub target_group: String,
    /// The target's port.
    pub port: u16,
    /// Whether the Auto Scaling group itself registers and deregisters the target; otherwise drover does.
    pub owned: bool,
    /// Whether the instance was registered there when drover looked.
    #[serde(default)]
    pub seen: bool,
    /// Neither its Auto Scaling group nor the configuration names the target group, and it was not healthy there at the
    /// start: it is drained there too, but nothing waits for its health there.
    #[serde(default)]
    pub unwatched: bool,
}

impl Membership {
    /// Returns the target group and port: a target group may hold an instance on several ports.
    pub fn target(&self) -> (String, u16) {
        (self.target_group.clone(), self.port)
    }
}

/// What the store remembers of an instance in a deployment.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Instance {
    /// `i-…`.
    pub id: String,
    /// Availability zone.
    pub zone: String,
    /// Name of its Auto Scaling group.
    pub group: String,
    /// The target groups in which it is registered when in service.
    pub memberships: Vec<Membership>,
    /// The phase that it is in.
    pub phase: Phase,
    /// When it entered that phase.
    pub since: Timestamp,
    /// The release that it is to end with.
    pub goal: Goal,
    /// The last release known good on it, if any.
    pub good: Option<String>,
    /// The batch in which it was started; from 1.
    pub batch: Option<u32>,
    /// Attempts so far, staging not counted.
    pub attempts: u32,
    /// Retries used after transient failures.
    pub transient: u32,
    /// Retries used after failures of unknown class.
    pub unknown: u32,
    /// Whether a run was dispatched, so that the running release may have been changed.
    pub touched: bool,
    /// What went wrong last, also while it is retried.
    pub fault: Option<Fault>,
    /// Whether it must be dispatched alone, because a dispatch to several was refused for one of their ids.
    pub dispatch_alone: bool,
    /// Whether its BeforeBlockTraffic hooks have finished.
    pub pre_blocked: bool,
    /// Whether it came into service after the deployment had begun.
    pub joined: bool,
    /// When a heartbeat last kept its launch waiting.
    pub heartbeat: Option<Timestamp>,
    /// When the lifecycle hook of its launch was completed. Another hook may still hold the launch.
    pub answered: Option<Timestamp>,
    /// Whether it was in service and healthy when the deployment began.
    pub healthy_at_start: bool,
    /// Whether it was in quarantine when this deployment included it: it is not sound, however this deployment ends.
    pub was_quarantined: bool,
    /// Whether it was in quarantine when this deployment included it, and the desired capacity that standby had taken
    /// with it was never returned.
    pub is_capacity_owed: bool,
    /// Whether standby has reduced the desired capacity by it, and it hasn't come back.
    pub left_desired_capacity: bool,
    /// Whether the desired capacity that standby took with it was returned, because it doesn't come back.
    pub is_capacity_returned: bool,
    /// Until when the hooks of an attempt that counts as lost may still run, and keep the next attempt from starting.
    pub lost_attempt_until: Option<Timestamp>,
}

impl Instance {
    /// Makes the record of an instance that is pending.
    pub fn new(id: &str, zone: &str, group: &str, now: Timestamp) -> Self {
        Instance {
            id: id.into(),
            zone: zone.into(),
            group: group.into(),
            memberships: Vec::new(),
            phase: Phase::Pending,
            since: now,
            goal: Goal::New,
            good: None,
            batch: None,
            attempts: 0,
            transient: 0,
            unknown: 0,
            touched: false,
            fault: None,
            dispatch_alone: false,
            pre_blocked: false,
            joined: false,
            heartbeat: None,
            answered: None,
            healthy_at_start: false,
            was_quarantined: false,
            is_capacity_owed: false,
            left_desired_capacity: false,
            is_capacity_returned: false,
            lost_attempt_until: None,
        }
    }

    /// Returns the name of its phase.
    pub fn state(&self) -> InstanceState {
        self.phase.state()
    }

    /// Returns the attempt that it waits for.
    pub fn running(&self) -> Option<&Running> {
        self.phase.running()
    }

    /// Returns the number of the attempt that it waits for.
    pub fn attempt(&self) -> Option<i64> {
        self.running().map(|running| running.number)
    }

    /// Makes it wait for this attempt. Does nothing in a phase that waits for no attempt.
    pub fn begin_attempt(&mut self, number: i64, run_seconds: Option<i64>) {
        if let Some(place) = self.phase.attempt_slot() {
            *place = Some(Running { number, run_seconds, stop: None });
        }
    }

    /// Forgets the attempt that it waited for, because that was never sent.
    pub fn forget_attempt(&mut self) {
        if let Some(place) = self.phase.attempt_slot() {
            *place = None;
        }
    }

    /// Records that this attempt was asked to stop, if it is the one that the instance waits for.
    pub fn note_stop(&mut self, number: i64, stop: Stop) {
        let running = self.phase.attempt_slot().and_then(Option::as_mut);
        if let Some(running) = running.filter(|running| running.number == number) {
            running.stop = Some(stop);
        }
    }

    /// Returns the event at which its run begins, if that is not the first; also after a retry that is due.
    pub fn resume(&self) -> Option<LifecycleEvent> {
        self.phase.resume().or(self.wait().and_then(|wait| wait.back.resume()))
    }

    /// Returns the retry that it waits for.
    pub fn wait(&self) -> Option<Wait> {
        match self.phase {
            Phase::Waiting(wait) => Some(wait),
            _ => None,
        }
    }

    /// Returns how it failed, if it did.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Returns its state, or, while it waits for a retry, the state in which the retry continues.
    pub fn state_after_wait(&self) -> InstanceState {
        self.wait().map_or(self.state(), |wait| wait.back.state())
    }

    /// Whether it is in work (see [`InstanceState::is_in_work`]), or waits for a retry of that.
    pub fn in_work(&self) -> bool {
        self.state_after_wait().is_in_work()
    }

    /// Whether it is staged, and its turn has not come.
    pub fn awaits_turn(&self) -> bool {
        self.state() == InstanceState::Staged && self.batch.is_none()
    }

    /// Whether it is still being staged, waiting for a retry of it included.
    pub fn in_staging(&self) -> bool {
        matches!(self.state_after_wait(), InstanceState::Pending | InstanceState::Staging)
    }

    /// Resets a failed instance, as a person has asked: it starts again from the beginning, with all its retries.
    pub fn try_again(&mut self, now: Timestamp) -> Result<(), Illegal> {
        let again = Instance {
            memberships: self.memberships.clone(),
            good: self.good.clone(),
            attempts: self.attempts,
            touched: self.touched,
            joined: self.joined,
            healthy_at_start: self.healthy_at_start,
            was_quarantined: self.is_quarantined() || self.was_quarantined,
            is_capacity_owed: self.is_capacity_owed,
            ..Instance::new(&self.id, &self.zone, &self.group, now)
        };
        next(&self.phase, Step::TryAgain)?;
        *self = again;
        Ok(())
    }

    /// Describes in words which release it has at the end of a deployment, and whether it serves.
    pub fn describe_end(&self) -> String {
        use InstanceState::*;
        let former = self.good.as_deref().map_or_else(
            || "its former release".to_owned(),
            |good| format!("its former release {}", short(good)),
        );
        match self.state() {
            Succeeded => "on the new revision, in service".to_owned(),
            Restored => format!("back on {former}, in service"),
            Gone => "gone: it left the group".to_owned(),
            Failed if self.is_quarantined() => "quarantined, out of the balancer".to_owned(),
            Failed if self.touched => "on the new revision, in service, but failed".to_owned(),
            _ => format!("untouched, on {former}"),
        }
    }

    /// Whether Auto Scaling has launched another instance in its place: an earlier deployment quarantined it and returned
    /// its desired capacity.
    pub fn is_replaced(&self) -> bool {
        self.was_quarantined && !self.healthy_at_start && !self.is_capacity_owed
    }

    /// Whether it failed and is kept out of the balancer.
    pub fn is_quarantined(&self) -> bool {
        self.failure().is_some_and(|failure| failure.quarantined)
    }
}
