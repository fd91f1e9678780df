//! The record of an instance in a deployment: the phase it is in, and what is known of it whatever happens.

use super::{
    fault::{Failure, Fault, short},
    names::{Goal, InstanceState},
    phase::{Phase, Running, Stop, Wait},
    transition::{Illegal, Step, next},
};
use crate::rollout::event::LifecycleEvent;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A membership in a target group, as journalled before the instance is taken out.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
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
#[derive(Clone, Debug, PartialEq, Eq)]
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
    pub phase: Phase,
    /// … since when.
    pub since: Timestamp,
    /// Which release it is to end with.
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
    /// A run was dispatched: the running release may have been touched.
    pub touched: bool,
    /// What went wrong last, also while it is retried.
    pub fault: Option<Fault>,
    /// To be dispatched alone: a dispatch with others was refused for an id among them.
    pub dispatch_alone: bool,
    /// Its BeforeBlockTraffic hooks are through.
    pub pre_blocked: bool,
    /// It came into service after the deployment had begun.
    pub joined: bool,
    /// When its launch was last kept waiting by a heartbeat.
    pub heartbeat: Option<Timestamp>,
    /// When its launch was answered. Another hook may hold it on.
    pub answered: Option<Timestamp>,
    /// It was in service and healthy when the deployment began.
    pub healthy_at_start: bool,
    /// In quarantine when it was taken in hand: not whole, whatever becomes of this deployment.
    pub was_quarantined: bool,
    /// In quarantine when it was taken in hand, and the desired capacity that standby took with it was never given back.
    pub is_capacity_owed: bool,
    /// Standby has taken it out of the desired capacity, and it hasn't come back.
    pub left_desired_capacity: bool,
    /// It doesn't come back, and the desired capacity that standby took with it was given back.
    pub is_capacity_returned: bool,
    /// An attempt before was given up for lost: its hooks may be at work until then, and keep the next one out.
    pub lost_attempt_until: Option<Timestamp>,
}

impl Instance {
    /// A new, pending one.
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

    /// The name of the phase it is in.
    pub fn state(&self) -> InstanceState {
        self.phase.state()
    }

    /// The attempt that it waits for.
    pub fn running(&self) -> Option<&Running> {
        self.phase.running()
    }

    /// The number of the attempt that it waits for.
    pub fn attempt(&self) -> Option<i64> {
        self.running().map(|running| running.number)
    }

    /// It waits for this attempt from now on. Nothing in a phase that waits for none.
    pub fn begin_attempt(&mut self, number: i64, run_seconds: Option<i64>) {
        if let Some(place) = self.phase.attempt_slot() {
            *place = Some(Running { number, run_seconds, stop: None });
        }
    }

    /// The attempt that it waited for was never sent.
    pub fn forget_attempt(&mut self) {
        if let Some(place) = self.phase.attempt_slot() {
            *place = None;
        }
    }

    /// This attempt was asked to stop, if it is the one that it waits for.
    pub fn note_stop(&mut self, number: i64, stop: Stop) {
        let running = self.phase.attempt_slot().and_then(Option::as_mut);
        if let Some(running) = running.filter(|running| running.number == number) {
            running.stop = Some(stop);
        }
    }

    /// Where its run begins, or would, if not at the first event; after the retry that is due too.
    pub fn resume(&self) -> Option<LifecycleEvent> {
        self.phase.resume().or(self.wait().and_then(|wait| wait.back.resume()))
    }

    /// The retry that is due.
    pub fn wait(&self) -> Option<Wait> {
        match self.phase {
            Phase::Waiting(wait) => Some(wait),
            _ => None,
        }
    }

    /// How it ended, if it failed.
    pub fn failure(&self) -> Option<&Failure> {
        match &self.phase {
            Phase::Failed(failure) => Some(failure),
            _ => None,
        }
    }

    /// Where it stands; waiting, where it goes on.
    pub fn state_after_wait(&self) -> InstanceState {
        self.wait().map_or(self.state(), |wait| wait.back.state())
    }

    /// Whether it has been taken in hand (see [`InstanceState::is_in_work`]), waiting for a retry included.
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

    /// A person wants it tried again: from the start, with all its retries. Only a failed one can be.
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

    /// What it is on at the end of a deployment, and whether it serves, in words.
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

    /// Kept out by an earlier deployment, which gave the desired capacity back: Auto Scaling has launched another for it.
    pub fn is_replaced(&self) -> bool {
        self.was_quarantined && !self.healthy_at_start && !self.is_capacity_owed
    }

    /// Failed and kept out of the balancer.
    pub fn is_quarantined(&self) -> bool {
        self.failure().is_some_and(|failure| failure.quarantined)
    }
}
