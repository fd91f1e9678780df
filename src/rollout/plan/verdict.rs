//! Whether the deployment continues or halts for a person.

use super::{
    change::Change,
    draft::Draft,
    planner::Planner,
    service::{is_serving, waits_for_capacity},
};
use crate::rollout::{
    event::LifecycleEvent,
    policy::OnFailure,
    snapshot::Health,
    state::{
        Cause, DeploymentState as D, Fault, Instance, InstanceState as S,
        transition::{Illegal, Step},
    },
};
use jiff::Timestamp;

impl Planner<'_> {
    /// Halts the deployment on systemic failure, on a failed canary, past the failure budget, or past its deadline.
    pub(super) fn halt_if_needed(&mut self) -> Result<(), Illegal> {
        if self.halt_after_long_outage()
            || self.state != D::Rolling
            || self.snapshot.deployment.cancel.is_some()
            || self.outage().is_some()
        {
            return Ok(());
        }
        if let Some((event, reason)) = self.find_systemic_failure() {
            self.halt(reason);
            return self.end_retries_of(event);
        }
        let failed = self.count(|record| record.state() == S::Failed && self.counts_since_resume(record));
        let allowed = self.snapshot.policy.max_failed.of(self.total());
        let first = |record: &Instance| record.state() == S::Failed && record.batch == Some(1);
        let canary_failed = self.count(|record| first(record) && self.counts_since_resume(record)) > 0;
        let until_approved = self.approval_due().filter(|_| self.awaits_approval());
        // While it waits for a person, its own time doesn't run.
        let limit =
            until_approved.unwrap_or(self.clock_started_at() + self.snapshot.policy.deadlines.deployment);
        if canary_failed && self.snapshot.policy.batch.has_canary() {
            self.halt("an instance of the first step failed: the steps after it were not started".into());
        } else if failed > allowed {
            self.halt(format!(
                "{failed} of {} instances failed; max_failed \"{}\" allows {allowed}",
                self.total(),
                self.snapshot.policy.max_failed,
            ));
        } else if self.now >= limit && until_approved.is_some() {
            // Nothing failed: there is nothing to roll back for. It ends with the next plan.
            let hours = self.snapshot.policy.deadlines.halted;
            self.wait_for_a_person(format!("nobody approved the rest within {hours:#}"));
        } else if self.now >= limit {
            let hours = self.snapshot.policy.deadlines.deployment;
            self.halt(format!("not done within the deployment's deadline of {hours:#}"));
        } else if let Some(reason) = self.find_standstill() {
            self.halt(reason);
        } else {
            self.wake(limit);
        }
        Ok(())
    }

    /// Returns when its time began to run, or last began again.
    fn clock_started_at(&self) -> Timestamp {
        let deployment = &self.snapshot.deployment;
        let began = deployment.resumed_at.unwrap_or(deployment.started_at);
        deployment.approved_at.map_or(began, |approved| began.max(approved))
    }

    /// Returns until when the rest may be approved; none where approval isn't asked for, or not yet.
    fn approval_due(&self) -> Option<Timestamp> {
        let deployment = &self.snapshot.deployment;
        let asked = self.snapshot.policy.approve_after.is_some_and(|after| self.batch >= after);
        let since = deployment.batch_done_at.filter(|_| asked && !deployment.approved)?;
        Some(since.max(self.clock_started_at()) + self.snapshot.policy.deadlines.halted)
    }

    /// Whether it halted because nobody approved the rest in time, so that it ends without a further wait.
    pub(super) fn is_unapproved(&self) -> bool {
        let deployment = &self.snapshot.deployment;
        deployment.state == D::Halted && self.approval_due().is_some_and(|due| deployment.since >= due)
    }

    /// Whether a failure of this instance counts: not if a person has resumed the deployment since.
    pub(super) fn counts_since_resume(&self, record: &Instance) -> bool {
        self.snapshot.deployment.resumed_at.is_none_or(|resumed| record.since > resumed)
    }

    fn halt(&mut self, reason: String) {
        if self.snapshot.policy.on_failure == OnFailure::Rollback
            && self.snapshot.deployment.fallback.is_some()
        {
            self.plan.changes.push(Change::RollBack { reason });
            self.rolling_back = true;
            return;
        }
        self.wait_for_a_person(reason);
    }

    fn wait_for_a_person(&mut self, reason: String) {
        self.state = D::Halted;
        self.reason = Some(reason.clone());
        self.plan.changes.push(Change::Deployment { state: D::Halted, reason: Some(reason) });
    }

    /// Fails deployed targets that turn unhealthy while their batch bakes. They stay in service, for the balancer to
    /// judge, and count as failures.
    pub(super) fn fail_unhealthy_in_bake(&mut self) -> Result<(), Illegal> {
        let bake = self.snapshot.policy.bake;
        let Some(done) = self.snapshot.deployment.batch_done_at else { return Ok(()) };
        if self.state != D::Rolling || self.snapshot.deployment.cancel.is_some() || self.now >= done + bake {
            return Ok(());
        }
        for draft in &mut self.drafts {
            let Health::Unhealthy(why) = &draft.sight.health else { continue };
            if draft.record.state() == S::Succeeded && draft.record.batch.is_some() {
                let cause =
                    Cause::Unhealthy(format!("in service with the new revision, it turned unhealthy: {why}"));
                let fault =
                    Fault { event: LifecycleEvent::AllowTraffic, hook: None, cause, tail: Vec::new() };
                let note = format!("{}; left in service", fault.words());
                draft.end_by(Step::Relapse, fault, false, self.now, note)?;
            }
        }
        Ok(())
    }

    /// Returns why nothing can go on: nothing is in work and nothing can be taken out. With some instances in
    /// quarantine, or all of them in service, that will not change by itself. Otherwise it is given as long as an
    /// instance may take to become healthy: targets come back, and Auto Scaling brings others.
    fn find_standstill(&mut self) -> Option<String> {
        let others = self.count(|record| record.in_staging() || record.in_work());
        let held: Vec<&Draft> = self.drafts.iter().filter(|draft| waits_for_capacity(draft)).collect();
        if others > 0 || held.is_empty() {
            return None;
        }
        let mut capacity = self.capacity();
        if held.iter().any(|draft| !is_serving(draft) || capacity.take(draft.before)) {
            return None;
        }
        let waiting = self.count(|record| record.state() == S::Staged) + self.resting(|sums| sums.waiting);
        let words = format!("{waiting} instances wait, but {}", capacity.words());
        let quarantined = self.count(|record| record.is_quarantined());
        if quarantined > 0 {
            return Some(format!("{words}; {quarantined} are quarantined"));
        }
        if !self.may_gain_instances() {
            return Some(format!("{words}, and none is on its way"));
        }
        let deployment = &self.snapshot.deployment;
        let moved = self.drafts.iter().map(|draft| draft.record.since);
        let moved =
            moved.chain(self.census.latest).chain(deployment.batch_done_at).chain(deployment.resumed_at);
        let limit = self.becoming_healthy();
        let until = moved.max().unwrap_or(deployment.since).max(deployment.since) + limit;
        if self.now < until {
            self.wake(until);
            return None;
        }
        Some(format!("{words}, for {} s", limit.as_secs()))
    }

    /// Whether more instances may soon be in service: one that doesn't serve may come back, or Auto Scaling may launch
    /// another, since it has fewer than desired.
    fn may_gain_instances(&self) -> bool {
        let there = |draft: &&Draft| draft.record.state() != S::Gone;
        let comes_back = self.drafts.iter().filter(there).any(|draft| !is_serving(draft));
        comes_back
            || self.snapshot.groups.iter().any(|(name, group)| {
                let members = self.drafts.iter().filter(there).filter(|draft| draft.record.group == *name);
                let resting = self.resting_of(name, |sums| sums.all);
                u32::try_from(members.count()).unwrap_or(u32::MAX).saturating_add(resting) < group.desired
            })
    }
}
