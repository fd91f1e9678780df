//! Puts Auto Scaling groups back as they were before the deployment.

use super::{census::served_at_start, effect::Effect, planner::Planner, service::leaves_by_standby};
use crate::rollout::{
    snapshot::{Group, Hold},
    state::{Instance, Phase},
};

impl Planner<'_> {
    /// Counts the instances whose desired capacity standby took and doesn't return by itself: those that left from
    /// standby and, at the end, of quarantined ones. While it waits for a person, and where a rollback follows, those
    /// are about to be tried again, and bring theirs along.
    fn lost_capacity(&self, group: &str, seen: &Group, ends: bool) -> u32 {
        let lost = self.count(|record| self.is_lost(record, group, ends));
        // Never to more than there was: MinSize may have brought some back already.
        let at_start = self.count(|record| {
            let replaced = record.is_replaced() && record.is_quarantined();
            record.group == group && served_at_start(record) && !replaced
        }) + self.resting_of(group, |sums| sums.served_at_start);
        let returned = seen.hold.as_ref().map_or(0, |hold| hold.returned);
        lost.min(returned + at_start.saturating_sub(seen.desired))
    }

    /// Records that this group's desired capacity has been returned, as far as that was possible.
    fn note_given_back(&mut self, group: &str, ends: bool) {
        for index in 0..self.drafts.len() {
            if self.is_lost(&self.drafts[index].record, group, ends) {
                self.drafts[index].record.is_capacity_returned = true;
            }
        }
    }

    /// Whether it left this group from standby, or stays there for good, and what that took of the desired capacity is
    /// owed.
    fn is_lost(&self, record: &Instance, group: &str, ends: bool) -> bool {
        let ends = ends && !self.snapshot.deployment.rolled_back;
        let left =
            matches!(record.phase, Phase::Gone { left_standby: true }) && self.counts_since_resume(record);
        let stays = record.is_quarantined() && !record.is_replaced() && leaves_by_standby(record);
        record.group == group && !record.is_capacity_returned && (left || ends && stays)
    }

    /// Orders the next step that puts each Auto Scaling group back in order, and returns whether nothing is left to put
    /// back. `ends` says whether the deployment ends too.
    pub(super) fn release_groups(&mut self, ends: bool) -> bool {
        let mut done = true;
        for (name, group) in &self.snapshot.groups {
            let lost = self.lost_capacity(name, group, ends);
            let effect = match &group.hold {
                Some(hold) => next_to_put_back(name, group, hold, lost),
                // It was put in order while the deployment waited for a person, who might have had them tried again.
                None if ends && lost > 0 && self.outage().is_none() && !self.is_launch() => {
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

/// Returns the next step that puts back what `hold` says drover changed. What is seen may be out of date: each step is
/// done once whatever is seen, and again until its effect is seen.
fn next_to_put_back(name: &str, seen: &Group, hold: &Hold, lost: u32) -> Effect {
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
