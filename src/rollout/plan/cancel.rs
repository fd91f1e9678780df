//! What a cancel means for each instance. Nothing new is started; what was touched gets its former release back.

use super::{effect::Effect, launch::HELD, planner::Planner};
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::{Cancel, Health, Lifecycle},
    state::{
        Back, Cause, Failure, Fault, Goal, InstanceState as S,
        transition::{Illegal, Step},
    },
};
use jiff::SignedDuration;

/// How long after a request to stop an attempt that goes on is asked again. A stop at once takes the host 30 s at most;
/// after the event in work it takes as long as that does.
const ASK_AGAIN: SignedDuration = SignedDuration::from_mins(1);

impl Planner<'_> {
    pub(super) fn apply_cancel(&mut self) -> Result<(), Illegal> {
        let Some(cancel) = self.snapshot.deployment.cancel else { return Ok(()) };
        for index in 0..self.drafts.len() {
            self.cancel_instance(index, cancel)?;
        }
        Ok(())
    }

    fn cancel_instance(&mut self, index: usize, cancel: Cancel) -> Result<(), Illegal> {
        let now = self.now;
        let launch = self.is_launch();
        let draft = &mut self.drafts[index];
        if launch
            && draft.sight.lifecycle == Lifecycle::Coming(HELD.into())
            && !draft.record.state().is_final()
        {
            let cause = Cause::Deadline("cancelled before it went into service".into());
            let fault = Fault { event: LifecycleEvent::ApplicationStop, hook: None, cause, tail: Vec::new() };
            let failure = Box::new(Failure { fault, quarantined: false });
            return draft.step(Step::Fail(failure), now, "cancelled: its launch is given up");
        }
        // What waits for a retry is where the retry would go on.
        if let Some(Back::Blocking { .. } | Back::Deploying { .. }) =
            draft.record.wait().map(|wait| wait.back)
        {
            draft.step(Step::Resume, now, "cancelled: not tried again")?;
        }
        let untouched = !draft.record.touched;
        let waits_for = draft.record.wait().map(|wait| wait.back);
        let serves_ill = !draft.is_in_standby() && draft.sight.health != Health::Healthy;
        let begun = draft.record.batch.is_some() && draft.record.good.is_some();
        match (draft.record.state(), draft.attempt) {
            // It has the new release and is not healthy with it.
            (S::Staged, _) if draft.record.touched && serves_ill && begun => {
                draft.record.goal = Goal::Old;
                draft.step(Step::Block, now, "cancelled; taking it out to put the former release back")
            }
            (S::Pending | S::Staging | S::Staged, _) => draft.end_work(now, "cancelled before its turn"),
            (S::PreBlocking, None) => draft.end_work(now, "cancelled before it was taken out"),
            (S::Waiting, _) if matches!(waits_for, Some(Back::Staging | Back::PreBlocking)) => {
                draft.end_work(now, "cancelled before its turn")
            }
            // Nothing was run, and what is on it is not known to be sound.
            (S::Blocking, _) | (S::Deploying, None)
                if untouched && draft.record.was_quarantined && draft.is_in_standby() =>
            {
                draft.end_work(now, "cancelled before it was tried again")
            }
            (S::Blocking, _) | (S::Deploying, None) if untouched => {
                draft.record.goal = Goal::Old;
                draft.step(
                    Step::Allow,
                    now,
                    "cancelled before its release was touched; back into the balancer",
                )
            }
            // Only once it is out: until then requests come.
            (S::Blocking, _) => {
                draft.record.goal = Goal::Old;
                Ok(())
            }
            (S::Deploying, None) => {
                draft.record.goal = Goal::Old;
                draft.step(Step::Restore, now, "cancelled; putting the former release back")
            }
            (S::Restoring, None) if draft.record.good.is_none() => {
                let fault = Fault {
                    event: LifecycleEvent::ApplicationStop,
                    hook: None,
                    cause: Cause::Deadline(
                        "cancelled, and no last good release is known on this instance".into(),
                    ),
                    tail: Vec::new(),
                };
                let failure = Box::new(Failure { fault, quarantined: true });
                let note = "cancelled, and no last good release is known on it: quarantined";
                draft.step(Step::Fail(failure), now, note)
            }
            // Hooks after the traffic is back harm nobody: they are stopped only where that is wanted at once.
            (S::PostAllowing, Some(_)) if cancel == Cancel::After => Ok(()),
            (S::Deploying | S::PreBlocking | S::PostAllowing, Some(attempt)) if attempt.outcome.is_none() => {
                let (number, at_once) = (attempt.number, cancel == Cancel::Now);
                // A wish that got lost is repeated: it does no harm twice.
                let asked = draft.record.running().and_then(|running| running.stop);
                let asked = asked.filter(|stop| stop.at_once == at_once).map(|stop| stop.sent + ASK_AGAIN);
                if let Some(due) = asked.filter(|due| now < *due) {
                    self.wake(due);
                } else {
                    let instance = draft.record.id.clone();
                    self.plan.effects.push(Effect::Stop { instance, attempt: number, now: at_once });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
