//! What a cancel means for each instance. Nothing new is started; what was touched gets its former release back.

use super::{Effect, HELD, Planner};
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::{Cancel, Lifecycle},
    state::Cause,
    state::{Failure, Fault, Goal, InstanceState as S},
    transition::{Illegal, Step},
};

impl Planner<'_> {
    pub(super) fn obey_cancel(&mut self) -> Result<(), Illegal> {
        let Some(cancel) = self.snapshot.deployment.cancel else { return Ok(()) };
        for index in 0..self.drafts.len() {
            self.cancel_one(index, cancel)?;
        }
        Ok(())
    }

    fn cancel_one(&mut self, index: usize, cancel: Cancel) -> Result<(), Illegal> {
        let now = self.now;
        let launch = self.is_launch();
        let draft = &mut self.drafts[index];
        if launch && draft.sight.lifecycle == Lifecycle::Coming(HELD.into()) && !draft.record.state.is_final()
        {
            let cause = Cause::Deadline("cancelled before it went into service".into());
            let fault = Fault { event: LifecycleEvent::ApplicationStop, hook: None, cause, tail: Vec::new() };
            draft.record.failure = Some(Failure { fault, quarantined: false });
            return draft.step(Step::Fail, now, "cancelled: its launch is given up");
        }
        let untouched = !draft.record.touched;
        match (draft.record.state, draft.attempt) {
            (S::Pending | S::Staging | S::Staged, _) => {
                draft.step(Step::Skip, now, "cancelled before its turn")
            }
            (S::Waiting, _) if untouched && !draft.record.in_work() => {
                draft.step(Step::Skip, now, "cancelled before its turn")
            }
            (S::PreBlocking, None) => draft.step(Step::Skip, now, "cancelled before it was taken out"),
            (S::Waiting, _) if untouched && draft.record.wait.is_some_and(|w| w.back == S::PreBlocking) => {
                draft.step(Step::Skip, now, "cancelled before it was taken out")
            }
            (S::Blocking, _) | (S::Deploying, None) if untouched => {
                draft.record.goal = Goal::Old;
                draft.step(
                    Step::Allow,
                    now,
                    "cancelled before its release was touched; back into the balancer",
                )
            }
            (S::Waiting, _)
                if draft.record.wait.is_some_and(|w| matches!(w.back, S::PostAllowing | S::Restoring)) =>
            {
                Ok(())
            }
            (S::Blocking | S::Waiting, _) | (S::Deploying, None) => {
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
                draft.record.failure = Some(Failure { fault, quarantined: true });
                draft.step(Step::Fail, now, "cancelled, and no last good release is known on it: quarantined")
            }
            (S::Deploying | S::PreBlocking, Some(attempt)) if attempt.outcome.is_none() => {
                let (number, at_once) = (attempt.number, cancel == Cancel::Now);
                if draft.record.stopping != Some((number, at_once)) {
                    let instance = draft.record.id.clone();
                    self.plan.effects.push(Effect::Stop { instance, attempt: number, now: at_once });
                }
                Ok(())
            }
            _ => Ok(()),
        }
    }
}
