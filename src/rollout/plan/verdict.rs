//! Whether the deployment goes on, halts for a person, or is over.

use super::{
    Change, DispatchKind, Draft, Effect, Planner,
    admit::{is_held, serves},
    census::{Sums, served_at_start},
    progress::{CLOSE_LOOK, by_standby},
};
use crate::rollout::{
    class::{Class, classify, normalise},
    event::LifecycleEvent,
    policy::OnFailure,
    snapshot::{Group, Health, Hold, Lifecycle},
    state::{Cause, DeploymentState as D, Fault, Instance, InstanceState as S, Phase},
    transition::{Illegal, Step},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Failures at one event on the same line.
#[derive(Default)]
struct Alike {
    all: u32,
    /// Of them those that are not tried again.
    exhausted: u32,
    /// One at least is of the class that passes by itself.
    passing: bool,
}

impl Planner<'_> {
    /// Halts on systemic failure, on a failed canary, past the budget, past the deadline.
    pub(super) fn judge(&mut self) -> Result<(), Illegal> {
        if self.halts_for_want_of_sight()
            || self.state != D::Rolling
            || self.snapshot.deployment.cancel.is_some()
            || self.blind().is_some()
        {
            return Ok(());
        }
        if let Some((event, reason)) = self.systemic() {
            self.halt(reason);
            return self.give_up_waiting_on(event);
        }
        let failed = self.count(|record| record.state() == S::Failed && self.counts(record));
        let allowed = self.snapshot.policy.max_failed.of(self.total());
        let first = |record: &Instance| record.state() == S::Failed && record.batch == Some(1);
        let canary_failed = self.count(|record| first(record) && self.counts(record)) > 0;
        let until_approved = self.approval_due().filter(|_| self.awaits_approval());
        // While it waits for a person, its own time doesn't run.
        let limit = until_approved.unwrap_or(self.began() + self.snapshot.policy.deadlines.deployment);
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
        } else if let Some(reason) = self.stuck() {
            self.halt(reason);
        } else {
            self.wake(limit);
        }
        Ok(())
    }

    /// When its time began to run, or began anew.
    fn began(&self) -> Timestamp {
        let deployment = &self.snapshot.deployment;
        let began = deployment.resumed_at.unwrap_or(deployment.started_at);
        deployment.approved_at.map_or(began, |approved| began.max(approved))
    }

    /// Until when the rest may be approved; none where that isn't asked for, or not yet.
    fn approval_due(&self) -> Option<Timestamp> {
        let deployment = &self.snapshot.deployment;
        let asked = self.snapshot.policy.approve_after.is_some_and(|after| self.batch >= after);
        let since = deployment.batch_done_at.filter(|_| asked && !deployment.approved)?;
        Some(since.max(self.began()) + self.snapshot.policy.deadlines.halted)
    }

    /// It halted because nobody approved the rest: that deadline was its last.
    pub(super) fn is_unapproved(&self) -> bool {
        let deployment = &self.snapshot.deployment;
        deployment.state == D::Halted && self.approval_due().is_some_and(|due| deployment.since >= due)
    }

    /// Whether what happened to this one counts: not if a person has let the deployment go on since.
    fn counts(&self, record: &Instance) -> bool {
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

    /// The revision's failure, not the instances': none got through an event, and on the same last line there failed, with
    /// their retries used up, two or more and at least half of those that tried; or else each of the first few, in a
    /// way that is no passing trouble.
    fn systemic(&self) -> Option<(LifecycleEvent, String)> {
        let mut tried: BTreeMap<LifecycleEvent, u32> = BTreeMap::new();
        let mut alike: BTreeMap<(LifecycleEvent, String), Alike> = BTreeMap::new();
        for draft in &self.drafts {
            let failing =
                matches!(draft.record.state(), S::Failed | S::Waiting) && self.counts(&draft.record);
            let Some(fault) = draft.record.fault.as_ref().filter(|_| failing) else { continue };
            *tried.entry(fault.event).or_default() += 1;
            let Some(line) = fault.tail.last() else { continue };
            let seen = alike.entry((fault.event, normalise(line))).or_default();
            seen.all += 1;
            seen.exhausted += u32::from(draft.record.state() == S::Failed);
            seen.passing |= classify(fault, &self.snapshot.policy.retry) == Class::Transient;
        }
        // Two of two say enough; of two hundred in hand it takes twenty.
        let few =
            self.count(|record| record.batch.is_some() && !record.state().is_final()).div_ceil(10).max(2);
        let is_systemic = |event: LifecycleEvent, seen: &Alike| {
            let tried = tried.get(&event).copied().unwrap_or_default();
            let by_share = seen.exhausted >= 2 && seen.exhausted * 2 >= tried;
            // While staging nothing is at stake: retries come first.
            let first = event != LifecycleEvent::DownloadBundle && !seen.passing;
            (by_share || first && seen.all >= few && seen.all == tried) && !self.anyone_passed(event)
        };
        let ((event, line), seen) = alike.into_iter().find(|((event, _), seen)| is_systemic(*event, seen))?;
        let (tried, total) = (tried.get(&event).copied().unwrap_or_default(), self.total());
        let words = format!(
            "systemic: {} of the {tried} that tried {event} failed on the same line ({} with their retries used up), and none \
             of {total} instances got past it: {line}",
            seen.all, seen.exhausted
        );
        Some((event, words))
    }

    fn anyone_passed(&self, event: LifecycleEvent) -> bool {
        let of_those_at_rest = self.resting(|sums| match event {
            LifecycleEvent::DownloadBundle => sums.waiting + sums.succeeded,
            _ => sums.succeeded,
        });
        of_those_at_rest > 0
            || self.drafts.iter().any(|draft| match draft.record.state() {
                S::Succeeded | S::Allowing | S::PostAllowing => {
                    draft.record.touched && event < LifecycleEvent::AllowTraffic
                        || draft.record.state() == S::Succeeded
                }
                S::Staged | S::PreBlocking | S::Blocking | S::Deploying => {
                    event == LifecycleEvent::DownloadBundle
                }
                _ => false,
            })
    }

    /// While a batch bakes, a deployed target that turns unhealthy is a failure: it stays in service, for the balancer
    /// to judge, and counts.
    pub(super) fn watch_bake(&mut self) -> Result<(), Illegal> {
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

    fn give_up_waiting_on(&mut self, event: LifecycleEvent) -> Result<(), Illegal> {
        for draft in &mut self.drafts {
            let Some(fault) = draft.record.fault.clone().filter(|fault| fault.event == event) else {
                continue;
            };
            if draft.record.state() == S::Waiting {
                let quarantined = draft.stands_by();
                let note = "the failure is systemic: not tried again";
                draft.end_by(Step::Fail, fault, quarantined, self.now, note)?;
            }
        }
        Ok(())
    }

    /// Nothing is in work and nothing can be taken out. With some in quarantine, or with all that are there in service, the
    /// arithmetic will not change by itself; else it gets as long as an instance gets to become healthy: targets come back,
    /// and Auto Scaling brings others.
    fn stuck(&mut self) -> Option<String> {
        let others = self.count(|record| record.in_staging() || record.in_work());
        let held: Vec<&Draft> = self.drafts.iter().filter(|draft| is_held(draft)).collect();
        if others > 0 || held.is_empty() {
            return None;
        }
        let mut capacity = self.capacity();
        if held.iter().any(|draft| !serves(draft) || capacity.take(draft.before)) {
            return None;
        }
        let waiting = self.count(|record| record.state() == S::Staged) + self.resting(|sums| sums.waiting);
        let words = format!("{waiting} instances wait, but {}", capacity.words());
        let quarantined = self.count(|record| record.quarantined());
        if quarantined > 0 {
            return Some(format!("{words}; {quarantined} are quarantined"));
        }
        if !self.more_may_serve() {
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

    /// Whether there may soon be more in service than there are: one that doesn't serve comes back, or Auto Scaling launches
    /// another, since it has fewer than it wants.
    fn more_may_serve(&self) -> bool {
        let there = |draft: &&Draft| draft.record.state() != S::Gone;
        let comes_back = self.drafts.iter().filter(there).any(|draft| !serves(draft));
        comes_back
            || self.snapshot.groups.iter().any(|(name, group)| {
                let members = self.drafts.iter().filter(there).filter(|draft| draft.record.group == *name);
                let resting = self.resting_of(name, |sums| sums.all);
                u32::try_from(members.count()).unwrap_or(u32::MAX).saturating_add(resting) < group.desired
            })
    }

    /// How many there are of those of an Auto Scaling group that rest.
    fn resting_of(&self, group: &str, of: impl Fn(&Sums) -> u32) -> u32 {
        let classes = self.census.classes.iter().zip(&self.sums).filter(|(class, _)| class.group == group);
        classes.map(|(_, sums)| of(sums)).sum()
    }

    fn halt_expired(&self) -> bool {
        self.is_unapproved()
            || self.snapshot.deployment.state.waits_for_a_person()
                && self.now >= self.snapshot.deployment.since + self.snapshot.policy.deadlines.halted
    }

    /// Whether anything is still under way that a halt, too, sees through.
    pub(super) fn busy(&self) -> bool {
        self.count(|record| record.in_work()) > 0
            || self.drafts.iter().any(|draft| draft.record.state() == S::Staging && draft.attempt.is_some())
    }

    /// Everything put back: the end, or the rest of a halt.
    pub(super) fn finish(&mut self) {
        if self.rolling_back {
            return;
        }
        let over = self.count(|record| !record.state().is_final()) + self.resting(|sums| sums.waiting) == 0;
        let halted = self.state.waits_for_a_person();
        if !(over || halted && !self.busy()) {
            return;
        }
        let on_its_way = |draft: &Draft| {
            draft.sight.lifecycle == Lifecycle::EnteringStandby && !draft.record.quarantined()
        };
        let over_now = over && self.last_tries_are_over();
        let time_is_up = self.time_is_up_at().is_some_and(|until| self.now >= until);
        if self.blind().is_some() && !time_is_up {
            // What is in order can't be seen.
            return;
        }
        if self.drafts.iter().any(on_its_way) && !over_now {
            // It is let back in once it is there.
            return self.wake(self.now + CLOSE_LOOK);
        }
        let goes_on = self.state == D::Rolling && self.snapshot.deployment.cancel.is_none();
        if over && goes_on && !self.is_launch() && !self.baked() {
            return;
        }
        // A halt waits for a person even when nothing is left to deploy; nobody coming ends it too.
        let ends = over && (!halted || self.halt_expired() || self.snapshot.deployment.cancel.is_some());
        let in_order = !self.held_back && self.plan.effects.is_empty() && self.release_groups(ends);
        if (!in_order || self.blind().is_some()) && !over_now {
            return;
        }
        if ends {
            let (state, mut reason) = self.final_state();
            if let Some(left) = self.left_changed() {
                reason = Some(reason.map_or(left.clone(), |reason| format!("{reason}; {left}")));
            }
            if self.snapshot.deployment.cancel.is_some() {
                self.plan.changes.push(Change::Report(self.report()));
            }
            self.plan.changes.push(Change::Deployment { state, reason });
        } else if !self.snapshot.deployment.settled {
            self.plan.changes.push(Change::Settled);
        }
    }

    /// Which instance is on what, in words.
    fn report(&self) -> Vec<(String, String)> {
        self.drafts.iter().map(|draft| (draft.record.id.clone(), draft.record.fate())).collect()
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

    /// What standby took of this group's desired capacity and doesn't give back by itself: that of instances which left from
    /// it and, at the end, of quarantined ones. While it waits for a person, and where a rollback follows, those are about
    /// to be tried again, and bring theirs along.
    fn lost_capacity(&self, group: &str, seen: &Group, ends: bool) -> u32 {
        let lost = self.count(|record| self.is_lost(record, group, ends));
        // Never to more than there was: MinSize may have brought some back already.
        let at_start = self.count(|record| {
            let replaced = record.is_replaced() && record.quarantined();
            record.group == group && served_at_start(record) && !replaced
        }) + self.resting_of(group, |sums| sums.served_at_start);
        let returned = seen.hold.as_ref().map_or(0, |hold| hold.returned);
        lost.min(returned + at_start.saturating_sub(seen.desired))
    }

    /// What this group was owed has been given back, as far as it could be.
    fn note_given_back(&mut self, group: &str, ends: bool) {
        for index in 0..self.drafts.len() {
            if self.is_lost(&self.drafts[index].record, group, ends) {
                self.drafts[index].record.given_back = true;
            }
        }
    }

    /// Whether it left this group from standby, or stays there for good, and what that took of the desired capacity is owed.
    fn is_lost(&self, record: &Instance, group: &str, ends: bool) -> bool {
        let ends = ends && !self.snapshot.deployment.rolled_back;
        let left = matches!(record.phase, Phase::Gone { left_standby: true }) && self.counts(record);
        let stays = record.quarantined() && !record.is_replaced() && by_standby(record);
        record.group == group && !record.given_back && (left || ends && stays)
    }

    /// Puts the Auto Scaling groups back in order; true when nothing is left to put back. `ends`: the deployment does too.
    fn release_groups(&mut self, ends: bool) -> bool {
        let mut done = true;
        for (name, group) in &self.snapshot.groups {
            let lost = self.lost_capacity(name, group, ends);
            let effect = match &group.hold {
                Some(hold) => put_back(name, group, hold, lost),
                // It was put in order while the deployment waited for a person, who might have had them tried again.
                None if ends && lost > 0 && self.blind().is_none() && !self.is_launch() => {
                    Effect::Journal { group: name.clone() }
                }
                None => continue,
            };
            done = false;
            if matches!(effect, Effect::Release { .. }) {
                self.note_given_back(name, ends);
            }
            self.plan.effects.push(effect);
        }
        // What AWS refused a moment ago waits here too.
        self.hold_back_refused();
        done
    }
}

/// The next thing to put back of what `hold` says we changed. What is seen may be out of date: each is done once whatever
/// is seen, and again until it is seen.
fn put_back(name: &str, seen: &Group, hold: &Hold, lost: u32) -> Effect {
    let (min, suspended, group) = (seen.min, &seen.suspended, name.to_owned());
    let missing = lost.saturating_sub(hold.returned);
    let desired = hold.returning.unwrap_or(seen.desired + missing).min(seen.max);
    let still = hold.suspended.iter().any(|process| suspended.contains(process));
    let ours = hold.our_mins.contains(&min) && min != hold.former_min;
    // Somebody else has set it since: theirs stands.
    let theirs = min != hold.former_min && !hold.our_mins.contains(&min);
    if !hold.suspended.is_empty() && (still || !hold.resumed) {
        Effect::Resume { group, processes: hold.suspended.clone() }
    } else if missing > 0 && (desired > seen.desired || hold.returning.is_some()) {
        // Before MinSize, which would raise it by itself.
        Effect::SetDesired { group, desired, returns: lost }
    } else if ours || !hold.our_mins.is_empty() && !hold.min_restored && !theirs {
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
