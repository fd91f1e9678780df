//! The end of a deployment: when it has come, in which state, and why.

use super::{change::Change, draft::Draft, planner::Planner, progress::CLOSE_LOOK};
use crate::rollout::{
    snapshot::Lifecycle,
    state::{DeploymentState as D, InstanceState as S},
};

impl Planner<'_> {
    fn halt_expired(&self) -> bool {
        self.is_unapproved()
            || self.snapshot.deployment.state.waits_for_a_person()
                && self.now >= self.snapshot.deployment.since + self.snapshot.policy.deadlines.halted
    }

    /// Whether anything is still under way that is finished even in a halt.
    pub(super) fn has_work_under_way(&self) -> bool {
        self.count(|record| record.in_work()) > 0
            || self.drafts.iter().any(|draft| draft.record.state() == S::Staging && draft.attempt.is_some())
    }

    /// Ends the deployment, or settles a halted one, once everything is put back.
    pub(super) fn end_if_over(&mut self) {
        if self.rolling_back {
            return;
        }
        let over = self.count(|record| !record.state().is_final()) + self.resting(|sums| sums.waiting) == 0;
        let halted = self.state.waits_for_a_person();
        if !(over || halted && !self.has_work_under_way()) {
            return;
        }
        let on_its_way = |draft: &Draft| {
            draft.sight.lifecycle == Lifecycle::EnteringStandby && !draft.record.is_quarantined()
        };
        let over_now = over && self.are_last_tries_over();
        let time_is_up = self.last_deadline().is_some_and(|until| self.now >= until);
        if self.outage().is_some() && !time_is_up {
            // What is in order can't be seen.
            return;
        }
        if self.drafts.iter().any(on_its_way) && !over_now {
            // It is let back in once it is there.
            return self.wake(self.now + CLOSE_LOOK);
        }
        let goes_on = self.state == D::Rolling && self.snapshot.deployment.cancel.is_none();
        if over && goes_on && !self.is_launch() && !self.is_bake_over() {
            return;
        }
        // A halt waits for a person even when nothing is left to deploy; nobody coming ends it too.
        let ends = over && (!halted || self.halt_expired() || self.snapshot.deployment.cancel.is_some());
        let in_order = !self.held_back && self.plan.effects.is_empty() && self.release_groups(ends);
        if (!in_order || self.outage().is_some()) && !over_now {
            return;
        }
        if ends {
            let (state, mut reason) = self.final_state();
            if let Some(left) = self.describe_unrestored_groups() {
                reason = Some(reason.map_or(left.clone(), |reason| format!("{reason}; {left}")));
            }
            if self.snapshot.deployment.cancel.is_some() {
                self.plan.changes.push(Change::Report(self.describe_ends()));
            }
            self.plan.changes.push(Change::Deployment { state, reason });
        } else if !self.snapshot.deployment.settled {
            self.plan.changes.push(Change::Settled);
        }
    }

    /// Describes which release each instance has at the end.
    fn describe_ends(&self) -> Vec<(String, String)> {
        self.drafts.iter().map(|draft| (draft.record.id.clone(), draft.record.describe_end())).collect()
    }

    fn final_state(&self) -> (D, Option<String>) {
        let failed = self.count(|record| record.state() == S::Failed);
        let succeeded =
            self.count(|record| record.state() == S::Succeeded) + self.resting(|sums| sums.succeeded);
        if self.is_launch() && self.snapshot.deployment.cancel.is_none() && failed > 0 {
            let words = self.drafts.iter().find_map(|draft| draft.record.failure());
            return (D::Failed, words.map(|failure| failure.fault.words()));
        }
        if self.snapshot.deployment.cancel.is_some() {
            let restored = self.count(|record| record.state() == S::Restored);
            let untouched = self.count(|record| record.state() == S::Skipped);
            let words = format!(
                "{succeeded} on the new revision, {restored} restored, {untouched} untouched, {failed} quarantined or failed"
            );
            if self.snapshot.deployment.rolled_back {
                let why = self.reason.as_deref().unwrap_or("rolled back");
                return (D::Failed, Some(format!("{why}; at its end {words}; rolled back")));
            }
            return (D::Cancelled, Some(format!("cancelled: {words}")));
        }
        if self.state.waits_for_a_person() {
            let why = self.reason.as_deref().unwrap_or("paused");
            if self.is_unapproved() {
                return (D::Failed, Some(why.into()));
            }
            let limit = self.snapshot.policy.deadlines.halted;
            return (D::Failed, Some(format!("{why}; nobody came within {limit:#}")));
        }
        let gone = self.count(|record| record.state() == S::Gone);
        let skipped = self.count(|record| record.state() == S::Skipped) + self.resting(|sums| sums.skipped);
        if gone > 0 && failed + succeeded + skipped == 0 {
            if self.is_launch() {
                // It says nothing about the revision.
                return (D::Cancelled, Some("it left the Auto Scaling group".into()));
            }
            return (D::Failed, Some(format!("all {gone} instances left the group: none has the revision")));
        }
        if let [only] = self.drafts.iter().filter(|d| d.record.state() == S::Failed).collect::<Vec<_>>()[..]
            && succeeded == 0
            && let Some(failure) = only.record.failure()
        {
            return (D::Failed, Some(format!("{}: {}", only.record.id, failure.fault.words())));
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
}
