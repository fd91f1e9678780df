//! What has happened since the last look: departures, ended attempts, drained and healthy targets, deadlines.

use super::{PATIENCE, Planner};
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::{Health, Lifecycle, Outcome, Sight},
    state::{Back, Cause, Fault, Goal, Instance, InstanceState as S, Phase},
    transition::{Illegal, Step},
};
use jiff::{SignedDuration, Timestamp};

/// From the decision to take an instance out to the start of its drain: the calls in between, with a margin. A look
/// just before the end of the drain would cost the pause to the next one.
const CALLS_BEFORE_DRAIN: SignedDuration = SignedDuration::from_millis(200);
/// Between two looks while something is due. Two DescribeTargetHealth a second are 20 % of what AWS's bucket refills
/// (10/s); drover allows itself 30 %.
pub(super) const CLOSE_LOOK: SignedDuration = SignedDuration::from_millis(500);
/// AWS's reads are eventually consistent: for so long a look may show what was before.
const READS_LAG: SignedDuration = SignedDuration::from_secs(10);
/// An instance that AWS doesn't let back into service (the group is at its MaxSize, Launch is suspended) is waited for so
/// long; then it is quarantined by name, and the deployment goes on to its end.
const KEPT_OUT: SignedDuration = SignedDuration::from_mins(30);
/// How long close looks go on past the time at which something was due.
const CLOSE_LOOKS_FOR: SignedDuration = SignedDuration::from_secs(15);

impl Planner<'_> {
    /// How long an instance gets to become healthy behind the balancer.
    pub(super) fn becoming_healthy(&self) -> SignedDuration {
        self.snapshot.timing.becoming_healthy * 3 + self.snapshot.policy.deadlines.health
    }

    /// Attempts that ended.
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
                    draft.record.solo |= alone;
                    draft.attempt = None;
                }
                None => {
                    let deadline = self.extended(attempt.created_at + self.attempt_deadline(index));
                    if self.blind().is_some() {
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
            S::PreBlocking if cancelled => draft.let_be(self.now, "cancelled before it was taken out"),
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
            S::PreBlocking | S::Staging => draft.let_be(self.now, &format!("stopped {after}")),
            // It has the new release and serves.
            S::PostAllowing => draft.let_be(self.now, &format!("stopped {after}, on the new revision")),
            _ => Ok(()),
        }
    }

    fn attempt_failed(&mut self, index: usize, fault: Fault) -> Result<(), Illegal> {
        // One that was quarantined, and tried again, is out of service still.
        let stands_by = self.drafts[index].stands_by();
        match self.drafts[index].record.state() {
            S::Staging => self.fault(index, fault, Back::Staging, stands_by),
            S::PreBlocking => self.fault(index, fault, Back::PreBlocking, stands_by),
            S::PostAllowing => self.fault(index, fault, Back::PostAllowing, false),
            S::Deploying if self.snapshot.deployment.cancel.is_some() => {
                self.note_loss(index, &fault);
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
            S::Deploying => self.fault(index, fault, Back::Deploying { resume: None }, true),
            S::Restoring => self.fault(index, fault, Back::Restoring, true),
            _ => Ok(()),
        }
    }

    /// Drained, healthy, or too late for either.
    pub(super) fn read_fleet(&mut self) -> Result<(), Illegal> {
        if self.blind().is_some() {
            return Ok(());
        }
        for index in 0..self.drafts.len() {
            match self.drafts[index].record.state() {
                S::Blocking => self.read_blocking(index)?,
                S::Allowing => self.read_allowing(index)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Something is due at `eta`: a look then, and close ones for a while after. What is later than that is looked
    /// for at the configured pace.
    fn expect(&mut self, eta: Timestamp) {
        if self.now < eta {
            self.wake(eta);
        } else if self.now < eta + CLOSE_LOOKS_FOR {
            self.wake(self.now + CLOSE_LOOK);
        }
    }

    fn read_blocking(&mut self, index: usize) -> Result<(), Illegal> {
        let limit = self.snapshot.timing.deregistration_delay + self.snapshot.policy.deadlines.drain;
        let refused =
            self.snapshot.refused.values().map(|r| r.message.as_str()).next().unwrap_or("not drained");
        let deadline = self.extended(self.drafts[index].record.since + limit);
        let draft = &mut self.drafts[index];
        if is_out(&draft.record, draft.sight) {
            return draft.step(Step::Drained, self.now, "drained");
        }
        if self.now < deadline {
            let eta = draft.record.since + self.snapshot.timing.deregistration_delay + CALLS_BEFORE_DRAIN;
            self.expect(eta);
            self.wake(deadline);
            return Ok(());
        }
        let what = format!("{} after {} s; {refused}", describe(draft.sight), limit.as_secs());
        let fault = Fault {
            event: LifecycleEvent::BlockTraffic,
            hook: None,
            cause: Cause::Deadline(what),
            tail: Vec::new(),
        };
        let touched = self.drafts[index].record.touched;
        self.fault(index, fault, Back::Blocking { resume: None }, touched)
    }

    fn read_allowing(&mut self, index: usize) -> Result<(), Illegal> {
        let timing = self.snapshot.timing;
        let mut limit = self.becoming_healthy();
        let post_allow = self.snapshot.revision.post_allow;
        let launch = self.is_launch();
        let now = self.now;
        let by_account = self.is_refused_by_account();
        let draft = &mut self.drafts[index];
        let untouched = draft.record.goal == Goal::Old && !draft.record.touched;
        if untouched {
            // Cancelled on its way out: it is drained before it can come back.
            limit += timing.deregistration_delay + self.snapshot.policy.deadlines.drain;
        }
        let healthy = draft.sight.serves();
        if healthy && untouched && now < draft.record.since + READS_LAG {
            // What is seen may be from before it was to go out.
            let settled = draft.record.since + READS_LAG;
            self.wake(settled);
            return Ok(());
        }
        if healthy {
            return match (draft.record.goal, post_allow) {
                (Goal::Old, _) => {
                    draft.step(Step::Restored, self.now, "back in service on its former release")
                }
                (Goal::New, true) => draft.step(Step::PostAllow, self.now, "healthy"),
                (Goal::New, false) => draft.step(Step::Succeed, self.now, "healthy"),
            };
        }
        let refusal = self.snapshot.refused.get(&format!("ExitStandby:{}", draft.record.group));
        let refusal = refusal.map(|refused| refused.message.clone());
        let refused = refusal.is_some();
        // AWS doesn't let it in, or the lifecycle hook of another holds its launch: no fault of the instance.
        let kept_out = refused && draft.sight.lifecycle == Lifecycle::Standby
            || launch && matches!(draft.sight.lifecycle, Lifecycle::Coming(_));
        // AWS itself being refused is waited out elsewhere; another's hook is waited for as long as a deployment may take.
        let kept_for = if launch { self.snapshot.policy.deadlines.deployment } else { KEPT_OUT };
        let Phase::Allowing { kept_since: before } = draft.record.phase else { return Ok(()) };
        let kept_since = kept_out.then(|| before.unwrap_or(now));
        if kept_since != before {
            draft.record.phase = Phase::Allowing { kept_since };
        }
        if !kept_out && before.is_some() {
            // The wait for its health begins.
            draft.record.since = now;
        }
        let kept = kept_since.map(|since| since + kept_for);
        let patience = if by_account { PATIENCE } else { SignedDuration::ZERO };
        let deadline = kept.unwrap_or(draft.record.since + limit + patience);
        if self.now < deadline {
            // A newly registered target is healthy after one passed check: that may be at once.
            let eta = draft.record.since;
            self.expect(eta);
            self.wake(deadline);
            return Ok(());
        }
        let event = LifecycleEvent::AllowTraffic;
        let cause = match (kept_out, refusal) {
            (true, Some(refusal)) => {
                Cause::Deadline(format!("not let back in for {} min: {refusal}", kept_for.as_mins()))
            }
            _ => {
                let waited = now.duration_since(draft.record.since).as_secs();
                Cause::Unhealthy(format!("{} after {waited} s", describe(draft.sight)))
            }
        };
        let fault = Fault { event, hook: None, cause, tail: Vec::new() };
        if kept_out && !launch {
            // It would meet the same again, whatever is run on it.
            let note = format!("{}; quarantined", fault.words());
            return draft.end_by(Step::Fail, fault, true, self.now, note);
        }
        if draft.record.goal == Goal::Old {
            let note = format!("{}; quarantined", fault.words());
            return draft.end_by(Step::Fail, fault, true, self.now, note);
        }
        if self.is_launch() {
            let draft = &mut self.drafts[index];
            let note = format!("{}; left to the balancer and Auto Scaling", fault.words());
            return draft.end_by(Step::Fail, fault, false, self.now, note);
        }
        self.fault(index, fault, Back::Blocking { resume: None }, true)
    }

    /// Retries that are due.
    pub(super) fn resume_due(&mut self) -> Result<(), Illegal> {
        let mut next: Option<Timestamp> = None;
        for draft in &mut self.drafts {
            let Some(wait) = draft.record.wait() else { continue };
            let serves = draft.sight.lifecycle == Lifecycle::InService;
            if self.now < wait.until {
                next = Some(next.map_or(wait.until, |earlier| earlier.min(wait.until)));
            } else if serves && matches!(wait.back, Back::Blocking { .. } | Back::PreBlocking) {
                draft.step(Step::Yield, self.now, "its turn again")?;
            } else {
                draft.step(Step::Resume, self.now, "trying again")?;
            }
        }
        if let Some(at) = next {
            self.wake(at);
        }
        Ok(())
    }
}

/// Behind a balancer, healthy or not yet.
pub(super) fn serves_behind(sight: &Sight) -> bool {
    !matches!(sight.health, Health::Out | Health::Draining)
}

/// The host says that another release is current than the one that was to be.
fn wrong_release(current: &str, wanted: &str) -> Fault {
    let cause = Cause::WrongRelease { current: current.to_owned(), wanted: wanted.to_owned() };
    Fault { event: LifecycleEvent::Install, hook: None, cause, tail: Vec::new() }
}

/// Out of the balancer; and in standby where the Auto Scaling group registers it, which would else put it back.
pub(super) fn is_out(record: &Instance, sight: &Sight) -> bool {
    sight.health == Health::Out && (sight.lifecycle == Lifecycle::Standby || !by_standby(record))
}

/// Whether it is taken out by standby: a target group of its is the Auto Scaling group's own.
pub(super) fn by_standby(record: &Instance) -> bool {
    record.memberships.iter().any(|membership| membership.owned)
}

/// The sight in words.
pub(super) fn describe(sight: &Sight) -> String {
    let lifecycle = match &sight.lifecycle {
        Lifecycle::InService => "InService",
        Lifecycle::EnteringStandby => "EnteringStandby",
        Lifecycle::Standby => "Standby",
        Lifecycle::Coming(name) | Lifecycle::Unknown(name) => name,
        Lifecycle::Leaving => "leaving",
    };
    let health = match &sight.health {
        Health::Healthy => "healthy",
        Health::Initial(reason) => return format!("{lifecycle}, initial ({reason})"),
        Health::Unhealthy(reason) => return format!("{lifecycle}, unhealthy ({reason})"),
        Health::Draining => "draining",
        Health::Out => "in no target group",
    };
    format!("{lifecycle}, {health}")
}
