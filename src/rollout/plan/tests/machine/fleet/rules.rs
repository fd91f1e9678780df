//! The safety rules: what one plan may do, what is always so, and what is left at the end.

use super::*;

impl Fleet {
    /// What one plan may do.
    pub(super) fn check_step(&self, before: &Snapshot, plan: &Plan) {
        // By what was shown: of what could not be seen nobody can be blamed.
        let mut after = self.toy.snapshot.clone();
        for (member, seen) in after.members.iter_mut().zip(&before.members) {
            member.sight = seen.sight.clone();
        }
        let after = &after;
        let pairs = || before.members.iter().zip(&after.members);
        let rolls_back = plan.changes.iter().any(|change| matches!(change, Change::RollBack { .. }));
        assert!(!(rolls_back && self.has_ended()), "it ended before it was rolled back: {plan:?}");
        // Halted, paused, cancelled or failed: nothing new is started.
        let stopped = rolls_back
            || before.deployment.cancel.is_some()
            || before.deployment.state.waits_for_a_person()
            || after.deployment.state.waits_for_a_person();
        let begun = pairs().find(|(was, is)| {
            untaken(&was.record) && is.record.in_work() && is.record.goal == crate::rollout::state::Goal::New
        });
        assert!(!stopped || begun.is_none(), "stopped, and new work is started: {begun:?}");
        // Never a command to one that isn't the group's, or is no more.
        for effect in &plan.effects {
            let Effect::Dispatch { orders, .. } = effect else { continue };
            for order in orders {
                let member = before.members.iter().find(|member| member.record.id == order.instance);
                let ours = member.is_some_and(|member| member.sight.lifecycle != Lifecycle::Leaving);
                assert!(ours, "a command to one that is not in the group: {order:?} {member:?}");
            }
        }
        // Whoever serves is taken out only if enough stay in service then; those that left on their own don't count.
        let has_left = |member: &&Member| {
            member.record.state() == S::Gone || member.sight.lifecycle == Lifecycle::Leaving
        };
        let gone = after.members.iter().filter(has_left).count();
        let deployment = &after.deployment;
        let at_start = deployment.healthy_at_start.saturating_sub(u32::try_from(gone).unwrap());
        let keep = after.policy.keep_in_service(deployment.total_at_start.max(1), at_start) as usize;
        let gates: [fn(&Instance) -> bool; 2] = [is_blocked, is_promised];
        for shut in gates {
            let taken = pairs().find(|(was, is)| is_serving(is) && !shut(&was.record) && shut(&is.record));
            let left =
                after.members.iter().filter(|member| is_serving(member) && !shut(&member.record)).count();
            assert!(taken.is_none() || left >= keep, "{left} stay in service of {keep} after {taken:?}");
        }
    }

    /// What is always so.
    pub(in super::super) fn rules(&self) {
        let Snapshot { policy, deployment, members, .. } = &self.toy.snapshot;
        let retry = &policy.retry;
        for member in members {
            let record = &member.record;
            let again = self.retried.contains(&record.id);
            // Whoever was never started is whole.
            let untouched = !record.in_work() && (again || !record.touched);
            assert!(record.batch.is_some() || untouched, "never started, and touched: {member:?}");
            let within = record.transient <= retry.attempts && record.unknown <= retry.attempts_unknown;
            let sent = self.sent.get(&record.id).copied().unwrap_or_default();
            assert!(
                within && sent < retry.attempts + retry.attempts_unknown,
                "tried too often, {sent} times: {member:?}"
            );
            // One whose AfterAllowTraffic failed serves already.
            let failed_last = record
                .failure()
                .is_some_and(|failure| failure.fault.event == LifecycleEvent::AfterAllowTraffic);
            assert!(!failed_last || !record.is_quarantined(), "taken out after it was let in: {member:?}");
            // Out of service: in work, quarantined by name, on its way back, or about to be tried again.
            let back = record.state() == S::Failed && record.batch.is_some();
            let named = record.in_work() || record.is_quarantined() || back || again && untaken(record);
            assert!(!is_standing_by(member) || named, "out of service and forgotten: {member:?}");
        }
        if let Some(after) = policy.approve_after.filter(|_| !deployment.approved) {
            let total = deployment.total_at_start.max(1);
            let most: u32 = (1..=after).map(|number| policy.batch.size(number, total)).sum();
            let started = members.iter().filter(|member| member.record.batch.is_some()).count();
            assert!(started <= most as usize, "{started} were started, {most} before the approval");
        }
    }

    /// Nothing is in work, and everything that was changed is put back.
    pub(super) fn check_order(&mut self) {
        if self.has_ended() {
            // What is on its way into standby gets there.
            let later = self.toy.now + PATIENCE;
            self.toy.advance_to(later);
        }
        let Snapshot { deployment, members, groups, .. } = &self.toy.snapshot;
        let ended = self.has_ended();
        if !ended && !deployment.settled {
            // Rolling: it waits for approval or for capacity.
            assert_eq!(deployment.state, D::Rolling, "{deployment:?}");
            return;
        }
        assert!(ended || deployment.state.waits_for_a_person(), "{deployment:?}");
        if ended && deployment.rolled_back {
            assert_eq!(deployment.state, D::Failed, "{deployment:?}");
        }
        let group = &groups["asg"];
        assert!(group.hold.is_none() && group.suspended.is_empty(), "{group:?} {deployment:?} {members:?}");
        assert_eq!(group.min, self.min, "MinSize is not what it was: {group:?}");
        // One that ended unseen knows only what was last seen.
        let unseen = ended && self.outage.is_some();
        // What standby took of the desired capacity is there again, as far as it went at the start.
        let whole = group.desired >= deployment.total_at_start.min(group.max);
        let followed = deployment.rolled_back;
        assert!(
            !ended || unseen || followed || self.owed == 0 || whole,
            "{} are owed: {group:?} {members:?}",
            self.owed
        );
        let there = |member: &&Member| member.sight.lifecycle != Lifecycle::Leaving && !unseen;
        for member in members.iter().filter(there) {
            let record = &member.record;
            assert!(!record.in_work(), "{member:?}");
            let waits = !ended && self.retried.contains(&record.id) && untaken(record);
            assert!(waits || is_standing_by(member) == record.is_quarantined(), "{member:?}");
        }
    }
}

/// Its turn hasn't come.
fn untaken(record: &Instance) -> bool {
    record.state() == S::Staged || record.in_staging()
}

fn is_blocked(record: &Instance) -> bool {
    record.state() == S::Blocking || record.is_quarantined()
}

/// BeforeBlockTraffic hooks run so that it can be taken out.
fn is_promised(record: &Instance) -> bool {
    is_blocked(record) || record.state() == S::PreBlocking
}

fn is_serving(member: &Member) -> bool {
    member.sight.serves()
}

fn is_standing_by(member: &Member) -> bool {
    matches!(member.sight.lifecycle, Lifecycle::EnteringStandby | Lifecycle::Standby)
}
