//! Reads how attempts ended, and ends those that are overdue.

use super::planner::Planner;
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::{Health, Outcome},
    state::{
        Back, Cause, Fault, Goal, InstanceState as S,
        transition::{Illegal, Step},
    },
};
use jiff::SignedDuration;

impl Planner<'_> {
    /// Reads how attempts ended, and ends those that are overdue.
    pub(super) fn read_outcomes(&mut self) -> Result<(), Illegal> {
        for index in 0..self.drafts.len() {
            let state = self.drafts[index].record.state();
            let Some(attempt) = self.drafts[index].attempt else { continue };
            match attempt.outcome.clone() {
                Some(Outcome::Succeeded { current }) => self.attempt_succeeded(index, current)?,
                Some(Outcome::Stopped(event)) => self.attempt_stopped(index, event)?,
                Some(Outcome::Failed(fault)) => self.attempt_failed(index, fault)?,
                Some(Outcome::NotSent { alone }) => {
                    let draft = &mut self.drafts[index];
                    draft.record.forget_attempt();
                    draft.record.dispatch_alone |= alone;
                    draft.attempt = None;
                }
                None => {
                    let deadline = self.extend_deadline(attempt.created_at + self.attempt_deadline(index));
                    if self.outage().is_some() {
                        // Its end might just not be seen.
                    } else if self.now >= deadline {
                        let waited = self.now.duration_since(attempt.created_at).as_secs();
                        let event = self.running_event(state);
                        let cause = Cause::AgentLost(format!("no result after {waited} s"));
                        self.attempt_failed(index, Fault { event, hook: None, cause, tail: Vec::new() })?;
                    } else {
                        self.wake(deadline);
                    }
                }
            }
        }
        Ok(())
    }

    pub(super) fn attempt_deadline(&self, index: usize) -> SignedDuration {
        let record = &self.drafts[index].record;
        match record.state() {
            // What executionTimeout allows, and the delivery before it.
            S::Staging => self.snapshot.policy.deadlines.staging + SignedDuration::from_mins(10),
            _ => {
                let seconds = record.running().and_then(|running| running.run_seconds);
                let seconds = seconds.unwrap_or(self.snapshot.revision.run_seconds);
                SignedDuration::from_secs(seconds) + SignedDuration::from_mins(10)
            }
        }
    }

    pub(super) fn running_event(&self, state: S) -> LifecycleEvent {
        match state {
            S::Staging => LifecycleEvent::DownloadBundle,
            S::PreBlocking => LifecycleEvent::BeforeBlockTraffic,
            S::PostAllowing => LifecycleEvent::AfterAllowTraffic,
            _ => LifecycleEvent::ApplicationStop,
        }
    }

    fn attempt_succeeded(&mut self, index: usize, current: Option<String>) -> Result<(), Illegal> {
        let cancelled = self.snapshot.deployment.cancel.is_some();
        let draft = &mut self.drafts[index];
        match draft.record.state() {
            S::Staging => {
                // A fleet that drover has not deployed to before: what serves now is what a cancel puts back.
                if draft.record.good.is_none() && draft.sight.health == Health::Healthy {
                    draft.record.good = current;
                }
                draft.step(Step::StagingDone, self.now, "the revision is on the instance")
            }
            S::PreBlocking if cancelled => draft.end_work(self.now, "cancelled before it was taken out"),
            S::PreBlocking => {
                draft.record.pre_blocked = true;
                draft.step(Step::Yield, self.now, "BeforeBlockTraffic hooks are through")
            }
            S::Deploying => {
                let wanted = &self.snapshot.deployment.sha;
                if let Some(current) = current.filter(|current| current != wanted && !wanted.is_empty()) {
                    let fault = wrong_release(&current, wanted);
                    return self.attempt_failed(index, fault);
                }
                draft.step(Step::Allow, self.now, "deployed; back into the balancer")
            }
            S::Restoring => {
                let proof = (current.as_deref(), draft.record.good.as_deref());
                if let (Some(current), Some(good)) = proof
                    && current != good
                {
                    let fault = wrong_release(current, good);
                    return self.attempt_failed(index, fault);
                }
                draft.step(Step::Allow, self.now, "the former release runs; back into the balancer")
            }
            S::PostAllowing => draft.step(Step::Succeed, self.now, "AfterAllowTraffic hooks are through"),
            _ => Ok(()),
        }
    }

    fn attempt_stopped(&mut self, index: usize, event: Option<LifecycleEvent>) -> Result<(), Illegal> {
        let draft = &mut self.drafts[index];
        let after = event.map_or("before its first lifecycle event".into(), |event| format!("at {event}"));
        match draft.record.state() {
            S::Deploying => {
                draft.record.goal = Goal::Old;
                draft.step(
                    Step::Restore,
                    self.now,
                    format!("stopped {after}; putting the former release back"),
                )
            }
            S::PreBlocking | S::Staging => draft.end_work(self.now, &format!("stopped {after}")),
            // It has the new release and serves.
            S::PostAllowing => draft.end_work(self.now, &format!("stopped {after}, on the new revision")),
            _ => Ok(()),
        }
    }

    fn attempt_failed(&mut self, index: usize, fault: Fault) -> Result<(), Illegal> {
        // One that was quarantined, and tried again, is out of service still.
        let stands_by = self.drafts[index].is_in_standby();
        match self.drafts[index].record.state() {
            S::Staging => self.handle_fault(index, fault, Back::Staging, stands_by),
            S::PreBlocking => self.handle_fault(index, fault, Back::PreBlocking, stands_by),
            S::PostAllowing => self.handle_fault(index, fault, Back::PostAllowing, false),
            S::Deploying if self.snapshot.deployment.cancel.is_some() => {
                self.note_lost_attempt(index, &fault);
                let draft = &mut self.drafts[index];
                let words = fault.words();
                draft.record.fault = Some(fault);
                draft.record.goal = Goal::Old;
                draft.step(
                    Step::Restore,
                    self.now,
                    format!("{words}; cancelled: putting the former release back"),
                )
            }
            S::Deploying => self.handle_fault(index, fault, Back::Deploying { resume: None }, true),
            S::Restoring => self.handle_fault(index, fault, Back::Restoring, true),
            _ => Ok(()),
        }
    }
}

/// Makes the fault of a host that reports another release as current than the one that was expected.
fn wrong_release(current: &str, wanted: &str) -> Fault {
    let cause = Cause::WrongRelease { current: current.to_owned(), wanted: wanted.to_owned() };
    Fault { event: LifecycleEvent::Install, hook: None, cause, tail: Vec::new() }
}
