//! Whether the deployment goes on, halts for a person, or is over.

use super::{Change, DispatchKind, Effect, Planner};
use crate::rollout::{
    class::normalise,
    event::LifecycleEvent,
    snapshot::Hold,
    state::{DeploymentState as D, InstanceState as S},
    transition::{Illegal, Step},
};
use std::collections::BTreeMap;

impl Planner<'_> {
    /// Halts on systemic failure, on a failed canary, past the budget, past the deadline.
    pub(super) fn judge(&mut self) -> Result<(), Illegal> {
        if self.state != D::Rolling || self.snapshot.deployment.cancel.is_some() {
            return self.expire_halt();
        }
        if let Some((event, reason)) = self.systemic() {
            self.halt(reason);
            return self.give_up_waiting_on(event);
        }
        let failed = self.count(|record| record.state == S::Failed);
        let allowed = self.snapshot.policy.max_failed.of(self.total());
        let canary_failed = self.count(|record| record.state == S::Failed && record.batch == Some(1)) > 0;
        let limit = self.snapshot.deployment.started_at + self.snapshot.policy.deadlines.deployment;
        if canary_failed && self.snapshot.policy.batch.has_canary() {
            self.halt("an instance of the first step failed: the steps after it were not started".into());
        } else if failed > allowed {
            self.halt(format!(
                "{failed} of {} instances failed; max_failed \"{}\" allows {allowed}",
                self.total(),
                self.snapshot.policy.max_failed,
            ));
        } else if self.now >= limit {
            let hours = self.snapshot.policy.deadlines.deployment;
            self.halt(format!("not done within the deployment's deadline of {hours:#}"));
        } else if let Some(reason) = self.stuck() {
            self.halt(reason);
        } else {
            self.wake(limit);
        }
        Ok(())
    }

    fn halt(&mut self, reason: String) {
        self.state = D::Halted;
        self.reason = Some(reason.clone());
        self.plan.changes.push(Change::Deployment { state: D::Halted, reason: Some(reason) });
    }

    /// Two instances or more failed in the same event with the same last line, and none got through that event.
    fn systemic(&self) -> Option<(LifecycleEvent, String)> {
        let mut alike: BTreeMap<(LifecycleEvent, String), u32> = BTreeMap::new();
        for draft in &self.drafts {
            let failing = matches!(draft.record.state, S::Failed | S::Waiting);
            let Some(fault) = draft.record.fault.as_ref().filter(|_| failing) else { continue };
            if let Some(line) = fault.tail.last() {
                *alike.entry((fault.event, normalise(line))).or_default() += 1;
            }
        }
        alike.into_iter().find(|((event, _), count)| *count >= 2 && !self.anyone_passed(*event)).map(
            |((event, line), count)| {
                let total = self.total();
                (event, format!("systemic: {count} of {total} instances fail in {event} on the same line, none got past it: {line}"))
            },
        )
    }

    fn anyone_passed(&self, event: LifecycleEvent) -> bool {
        self.drafts.iter().any(|draft| match draft.record.state {
            S::Succeeded | S::Allowing | S::PostAllowing => {
                draft.record.touched && event < LifecycleEvent::AllowTraffic
                    || draft.record.state == S::Succeeded
            }
            S::Staged | S::PreBlocking | S::Blocking | S::Deploying => {
                event == LifecycleEvent::DownloadBundle
            }
            _ => false,
        })
    }

    fn give_up_waiting_on(&mut self, event: LifecycleEvent) -> Result<(), Illegal> {
        for draft in &mut self.drafts {
            let Some(fault) = draft.record.fault.clone().filter(|fault| fault.event == event) else {
                continue;
            };
            if draft.record.state == S::Waiting {
                let quarantined = draft.record.touched;
                draft.record.failure = Some(crate::rollout::state::Failure { fault, quarantined });
                draft.step(Step::Fail, self.now, "the failure is systemic: not tried again")?;
            }
        }
        Ok(())
    }

    /// Nothing is in work and nothing can be taken out: the arithmetic will not change by itself.
    fn stuck(&self) -> Option<String> {
        let waiting = self.count(|record| record.state == S::Staged);
        let others = self.count(|record| record.in_staging() || record.in_work());
        let quarantined = self.count(|record| record.quarantined());
        let capacity = self.capacity();
        (waiting > 0 && others == 0 && quarantined > 0 && capacity.healthy <= capacity.keep).then(|| {
            format!("{waiting} instances wait, but {}; {quarantined} are quarantined", capacity.words())
        })
    }

    /// A halt that nobody came for ends as Failed.
    fn expire_halt(&mut self) -> Result<(), Illegal> {
        if self.state != D::Halted || self.snapshot.deployment.cancel.is_some() {
            return Ok(());
        }
        if !self.halt_expired() {
            self.wake(self.snapshot.deployment.since + self.snapshot.policy.deadlines.halted);
            return Ok(());
        }
        for draft in &mut self.drafts {
            let untouched = matches!(draft.record.state, S::Pending | S::Staging | S::Staged);
            if untouched || draft.record.state == S::Waiting && !draft.record.in_work() {
                draft.step(Step::Skip, self.now, "halted, and nobody came")?;
            }
        }
        Ok(())
    }

    fn halt_expired(&self) -> bool {
        self.snapshot.deployment.state == D::Halted
            && self.now >= self.snapshot.deployment.since + self.snapshot.policy.deadlines.halted
    }

    /// Whether anything is still under way that a halt, too, sees through.
    pub(super) fn busy(&self) -> bool {
        self.count(|record| record.in_work()) > 0
            || self.drafts.iter().any(|draft| draft.record.state == S::Staging && draft.attempt.is_some())
    }

    /// Everything put back: the end, or the rest of a halt.
    pub(super) fn finish(&mut self) {
        let over = self.count(|record| !record.state.is_final()) == 0;
        let halted = self.state == D::Halted;
        if !(over || halted && !self.busy()) {
            return;
        }
        if self.held_back || !self.plan.effects.is_empty() || !self.release_groups() {
            return;
        }
        // A halt waits for a person even when nothing is left to deploy; nobody coming ends it too.
        if over && (!halted || self.halt_expired() || self.snapshot.deployment.cancel.is_some()) {
            let (state, reason) = self.final_state();
            self.plan.changes.push(Change::Deployment { state, reason });
        } else if !self.snapshot.deployment.settled {
            self.plan.changes.push(Change::Settled);
        }
    }

    fn final_state(&self) -> (D, Option<String>) {
        let failed = self.count(|record| record.state == S::Failed);
        let succeeded = self.count(|record| record.state == S::Succeeded);
        if self.snapshot.deployment.cancel.is_some() {
            let restored = self.count(|record| record.state == S::Restored);
            let words = format!(
                "cancelled: {succeeded} on the new revision, {restored} restored, {failed} quarantined or failed"
            );
            return (D::Cancelled, Some(words));
        }
        if self.state == D::Halted {
            return (D::Failed, self.reason.clone());
        }
        if failed == 0 {
            return (
                D::Succeeded,
                (succeeded == 0).then(|| "nothing to do: every instance has the revision already".into()),
            );
        }
        let words = format!(
            "{failed} of {} instances failed, within max_failed \"{}\"",
            self.total(),
            self.snapshot.policy.max_failed
        );
        (if succeeded > 0 { D::Partial } else { D::Failed }, Some(words))
    }

    /// Puts the Auto Scaling groups back in order; true when nothing is left to put back.
    fn release_groups(&mut self) -> bool {
        let mut done = true;
        for (name, group) in &self.snapshot.groups {
            let Some(hold) = &group.hold else { continue };
            done = false;
            self.plan.effects.push(put_back(name, group.min, &group.suspended, hold));
        }
        done
    }
}

/// The next thing to put back of what `hold` says we changed.
fn put_back(group: &str, min: u32, suspended: &[String], hold: &Hold) -> Effect {
    let group = group.to_owned();
    let ours: Vec<String> =
        hold.suspended.iter().filter(|process| suspended.contains(process)).cloned().collect();
    if !ours.is_empty() {
        Effect::Resume { group, processes: ours }
    } else if hold.our_min == Some(min) && min != hold.former_min {
        Effect::SetMin { group, min: hold.former_min }
    } else {
        Effect::Release { group }
    }
}

/// The state in which a dispatch of this kind is waited for.
pub(super) fn state_of(kind: DispatchKind) -> S {
    match kind {
        DispatchKind::Stage => S::Staging,
        DispatchKind::PreBlock => S::PreBlocking,
        DispatchKind::Run => S::Deploying,
        DispatchKind::PostAllow => S::PostAllowing,
        DispatchKind::Restore => S::Restoring,
    }
}
