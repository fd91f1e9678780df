//! What the fleet shows of instances on their way out and in: drained and healthy targets, and deadlines.

use super::{
    patience::PATIENCE,
    planner::Planner,
    service::{describe_sight, is_out},
};
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::Lifecycle,
    state::{
        Back, Cause, Fault, Goal, InstanceState as S, Phase,
        transition::{Illegal, Step},
    },
};
use jiff::{SignedDuration, Timestamp};

/// From the decision to take an instance out to the start of its drain: the calls in between, with a margin. A look
/// just before the end of the drain would cost the pause to the next one.
const CALLS_BEFORE_DRAIN: SignedDuration = SignedDuration::from_millis(200);
/// The interval between looks while something is due. Two DescribeTargetHealth a second are 20 % of what AWS's bucket
/// refills (10/s); drover allows itself 30 %.
pub(super) const CLOSE_LOOK: SignedDuration = SignedDuration::from_millis(500);
/// How long a look may show an earlier state: AWS's reads are eventually consistent.
const READS_LAG: SignedDuration = SignedDuration::from_secs(10);
/// An instance that AWS doesn't let back into service (the group is at its MaxSize, Launch is suspended) is waited for so
/// long; then it is quarantined by name, and the deployment goes on to its end.
const KEPT_OUT: SignedDuration = SignedDuration::from_mins(30);
/// The number of awaited instances above which looks are half as frequent.
const MANY: u32 = 10;
/// How long close looks go on past the time at which something was due.
const CLOSE_LOOKS_FOR: SignedDuration = SignedDuration::from_secs(15);

impl Planner<'_> {
    /// Returns how long an instance may take to become healthy behind the balancer.
    pub(super) fn becoming_healthy(&self) -> SignedDuration {
        self.snapshot.timing.becoming_healthy * 3 + self.snapshot.policy.deadlines.health
    }

    /// Reads which instances are drained or healthy, and which are too late for it.
    pub(super) fn read_fleet(&mut self) -> Result<(), Illegal> {
        if self.outage().is_some() {
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

    /// Plans a look at `eta`, when something is due, and frequent looks for a while after. Later than that the configured
    /// interval applies.
    fn look_closely_from(&mut self, eta: Timestamp, pause: SignedDuration) {
        if self.now < eta {
            self.wake(eta);
        } else if self.now < eta + CLOSE_LOOKS_FOR {
            self.wake(self.now + pause);
        }
    }

    fn read_blocking(&mut self, index: usize) -> Result<(), Illegal> {
        let limit = self.snapshot.timing.deregistration_delay + self.snapshot.policy.deadlines.drain;
        let refused =
            self.snapshot.refused.values().map(|r| r.message.as_str()).next().unwrap_or("not drained");
        let deadline = self.extend_deadline(self.drafts[index].record.since + limit);
        let draft = &mut self.drafts[index];
        if is_out(&draft.record, draft.sight) {
            return draft.step(Step::Drained, self.now, "drained");
        }
        if self.now < deadline {
            let eta = draft.record.since + self.snapshot.timing.deregistration_delay + CALLS_BEFORE_DRAIN;
            self.look_closely_from(eta, CLOSE_LOOK);
            self.wake(deadline);
            return Ok(());
        }
        let what = format!("{} after {} s; {refused}", describe_sight(draft.sight), limit.as_secs());
        let fault = Fault {
            event: LifecycleEvent::BlockTraffic,
            hook: None,
            cause: Cause::Deadline(what),
            tail: Vec::new(),
        };
        let touched = self.drafts[index].record.touched;
        self.handle_fault(index, fault, Back::Blocking { resume: None }, touched)
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
            // Of a large batch the last ones count: as long as many are awaited, fewer looks do.
            let awaited = self.count(|record| record.state() == S::Allowing);
            let pause = if awaited > MANY { CLOSE_LOOK * 2 } else { CLOSE_LOOK };
            self.look_closely_from(eta, pause);
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
                Cause::Unhealthy(format!("{} after {waited} s", describe_sight(draft.sight)))
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
        self.handle_fault(index, fault, Back::Blocking { resume: None }, true)
    }

    /// Continues those whose retry is due.
    pub(super) fn resume_due_retries(&mut self) -> Result<(), Illegal> {
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
