//! The planner's working state: the snapshot, the drafts, and the plan so far.

use super::{
    census::{Census, Sums},
    change::{Change, Plan},
    draft::{Draft, Record},
};
use crate::rollout::{
    snapshot::Snapshot,
    state::{DeploymentState, Instance, Phase},
};
use jiff::Timestamp;
use std::borrow::Cow;

/// The working state of one pass of the planner.
pub(super) struct Planner<'a> {
    pub(super) snapshot: &'a Snapshot,
    pub(super) census: &'a Census,
    pub(super) now: Timestamp,
    /// The members that are examined one by one.
    pub(super) drafts: Vec<Draft<'a>>,
    /// Counts of the other members, by the census's classes.
    pub(super) sums: Vec<Sums>,
    pub(super) state: DeploymentState,
    pub(super) reason: Option<String>,
    pub(super) batch: u32,
    /// Whether this plan rolls the deployment back.
    pub(super) rolling_back: bool,
    /// Whether an effect is needed that AWS refused a moment ago.
    pub(super) held_back: bool,
    pub(super) plan: Plan,
}

impl<'a> Planner<'a> {
    pub(super) fn new(snapshot: &'a Snapshot, census: &'a Census, now: Timestamp) -> Self {
        Planner {
            snapshot,
            census,
            now,
            drafts: census.moving().map(|at| Draft::new(at, &snapshot.members[at])).collect(),
            sums: census.classes.iter().map(|class| class.sums).collect(),
            state: snapshot.deployment.state,
            reason: snapshot.deployment.reason.clone(),
            batch: snapshot.deployment.batch,
            rolling_back: false,
            held_back: false,
            plan: Plan::default(),
        }
    }

    pub(super) fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    pub(super) fn total(&self) -> u32 {
        self.snapshot.deployment.total_at_start.max(1)
    }

    /// Counts those of the members examined one by one that fulfil a condition.
    pub(super) fn count(&self, which: impl Fn(&Instance) -> bool) -> u32 {
        u32::try_from(self.drafts.iter().filter(|draft| which(&draft.record)).count()).unwrap_or(u32::MAX)
    }

    /// Sums one of the counts over the members at rest.
    pub(super) fn resting(&self, of: impl Fn(&Sums) -> u32) -> u32 {
        self.sums.iter().map(of).sum()
    }

    /// Takes a member at rest among those that are examined one by one.
    pub(super) fn examine(&mut self, at: usize) {
        let Some((class, share)) = self.census.share(at) else { return };
        self.sums[class] = self.sums[class].less(share);
        let place = self.drafts.partition_point(|draft| draft.at < at);
        self.drafts.insert(place, Draft::new(at, &self.snapshot.members[at]));
    }

    pub(super) fn into_plan(self) -> Plan {
        let mut plan = self.plan;
        let mut changes = Vec::new();
        for draft in self.drafts {
            let Record(Cow::Owned(record)) = draft.record else { continue };
            if record != *draft.before {
                if record.phase == Phase::Succeeded && draft.before.phase != Phase::Succeeded {
                    changes.push(Change::Good(record.id.clone()));
                }
                let note = (!draft.notes.is_empty()).then(|| draft.notes.join("; "));
                changes.push(Change::Instance(Box::new(record), note));
            }
        }
        changes.append(&mut plan.changes);
        plan.changes = changes;
        plan
    }
}
