//! The fleet: what the planner sees of it, and what happens as time goes on.

use super::behaviour::{Behaviour, Pace};
use crate::rollout::{
    plan::{Census, Change, DispatchKind, Order, Plan, plan, plan_by},
    snapshot::{Cancel, Health, Lifecycle, Member, Outcome, Snapshot},
    state::{InstanceState as S, transition::Illegal},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// A simulated fleet, with its own time.
#[derive(Clone, Debug)]
pub struct PaperFleet {
    /// What the planner sees.
    pub snapshot: Snapshot,
    /// The present time.
    pub now: Timestamp,
    /// How long each step takes.
    pub pace: Pace,
    /// When an instance's lifecycle or health changes next, and to what.
    pub coming: Vec<(Timestamp, String, Lifecycle, Health)>,
    /// When an attempt ends, whose and which, and how.
    pub results: Vec<(Timestamp, String, i64, Outcome)>,
    /// The fewest that were in service and healthy at once.
    pub lowest_in_service: usize,
    /// The dispatches so far, each with the number of its instances.
    pub dispatches: Vec<(DispatchKind, usize)>,
    pub(super) next_attempt: i64,
    /// The indexes of the members by id, as they were at the start.
    places: HashMap<String, usize>,
    /// The members to examine, kept up to date where nobody else changes the snapshot.
    census: Option<Census>,
    /// Members that the census may be wrong about.
    changed: Vec<usize>,
}

impl PaperFleet {
    /// Makes a fleet from a snapshot. What is under way ends when it should, or at once where that time has passed.
    pub fn new(snapshot: Snapshot, pace: Pace, now: Timestamp, behaviour: &mut dyn Behaviour) -> PaperFleet {
        let last = snapshot.members.iter().filter_map(|m| m.attempt.as_ref().map(|a| a.number)).max();
        let mut fleet = PaperFleet {
            snapshot,
            now,
            pace,
            coming: Vec::new(),
            results: Vec::new(),
            lowest_in_service: 0,
            dispatches: Vec::new(),
            next_attempt: last.unwrap_or(0) + 1,
            places: HashMap::new(),
            census: None,
            changed: Vec::new(),
        };
        let ids = fleet.snapshot.members.iter().map(|member| member.record.id.clone());
        fleet.places = ids.zip(0..).collect();
        fleet.lowest_in_service = fleet.in_service();
        for member in &fleet.snapshot.members {
            let (record, id) = (&member.record, member.record.id.clone());
            if let Some(attempt) = member.attempt.as_ref().filter(|attempt| attempt.outcome.is_none()) {
                let kind = dispatched_in(record.state());
                let (good, zone) = (record.good.clone(), record.zone.clone());
                let order = Order { instance: id.clone(), first: kind.first_event(), good, zone };
                let end = (attempt.created_at + fleet.duration_of(kind)).max(now);
                fleet.results.push((end, id.clone(), attempt.number, behaviour.outcome(kind, &order)));
            }
            let goes_out = member.sight.lifecycle == Lifecycle::EnteringStandby
                || record.state() == S::Blocking && member.sight.health == Health::Draining;
            let goes_in = record.state() == S::Allowing
                && !matches!(member.sight.lifecycle, Lifecycle::Standby | Lifecycle::Leaving);
            if goes_out {
                let to = match member.sight.lifecycle {
                    Lifecycle::InService => Lifecycle::InService,
                    _ => Lifecycle::Standby,
                };
                fleet.coming.push(((record.since + pace.drain).max(now), id, to, Health::Out));
            } else if goes_in {
                let at = (record.since + pace.health).max(now);
                fleet.coming.push((at, id, Lifecycle::InService, Health::Healthy));
            }
        }
        fleet
    }

    /// Returns the member with this id.
    pub fn find(&mut self, id: &str) -> Option<&mut Member> {
        let members = &mut self.snapshot.members;
        let known = self.places.get(id).copied();
        let known = known.filter(|&at| members.get(at).is_some_and(|member| member.record.id == id));
        let at = known.or_else(|| members.iter().position(|member| member.record.id == id))?;
        if self.census.is_some() {
            self.changed.push(at);
        }
        members.get_mut(at)
    }

    /// Lets the planner skip members at rest. From then on only the fleet itself may change its snapshot.
    pub fn skip_resting(&mut self) {
        self.census = Some(Census::of(&self.snapshot));
    }

    /// Returns the members that are or may be in work: all of them where others may change the snapshot.
    pub fn moving(&mut self) -> Vec<usize> {
        self.take_census();
        self.members_to_examine()
    }

    fn members_to_examine(&self) -> Vec<usize> {
        let all = || (0..self.snapshot.members.len()).collect();
        self.census.as_ref().map_or_else(all, |census| census.moving().collect())
    }

    fn take_census(&mut self) {
        let Some(census) = &mut self.census else { return };
        if !census.fits(&self.snapshot) {
            *census = Census::of(&self.snapshot);
            self.changed.clear();
        }
        for at in self.changed.drain(..) {
            census.update(at, &self.snapshot.members[at]);
        }
    }

    /// Counts the members that serve now.
    pub fn in_service(&self) -> usize {
        let serves = |&at: &usize| {
            let sight = &self.snapshot.members[at].sight;
            sight.serves()
        };
        let resting = self.census.as_ref().map_or(0, Census::resting);
        resting + self.members_to_examine().iter().filter(|at| serves(at)).count()
    }

    pub(super) fn note_service(&mut self) {
        self.take_census();
        self.lowest_in_service = self.lowest_in_service.min(self.in_service());
    }

    /// Makes one plan, records it and performs it, or else advances to the time of the next change. Returns false at the
    /// end, or where nothing will change any more.
    pub fn tick(&mut self, behaviour: &mut dyn Behaviour) -> Result<bool, Illegal> {
        self.take_census();
        let plan = match &self.census {
            Some(census) => plan_by(census, &self.snapshot, self.now)?,
            None => plan(&self.snapshot, self.now)?,
        };
        self.record(&plan);
        for effect in &plan.effects {
            self.act(effect, behaviour);
        }
        if !plan.changes.is_empty() || !plan.effects.is_empty() {
            return Ok(!self.snapshot.deployment.state.is_final());
        }
        let Some(next) = self.next_time(&plan) else { return Ok(false) };
        self.advance_to(next.max(self.now + SignedDuration::from_millis(1)));
        Ok(true)
    }

    /// Returns when something changes next, or the planner wants to plan again.
    pub fn next_time(&self, plan: &Plan) -> Option<Timestamp> {
        let times = self.coming.iter().map(|c| c.0).chain(self.results.iter().map(|r| r.0));
        times.chain(plan.wake_at).min()
    }

    /// Records a plan's changes, as the engine does.
    pub fn record(&mut self, plan: &Plan) {
        let now = self.now;
        for change in &plan.changes {
            let deployment = &mut self.snapshot.deployment;
            match change {
                Change::Instance(record, _) => {
                    let Some(member) = self.find(&record.id) else { continue };
                    if member.record.attempt() != record.attempt() {
                        member.attempt = None;
                    }
                    member.record = (**record).clone();
                }
                Change::Deployment { state, reason } => {
                    (deployment.state, deployment.reason, deployment.since) = (*state, reason.clone(), now);
                    deployment.settled = false;
                }
                Change::Batch(number) => (deployment.batch, deployment.batch_done_at) = (*number, None),
                Change::BatchDone => deployment.batch_done_at = Some(now),
                Change::Settled => deployment.settled = true,
                Change::RollBack { reason } => {
                    (deployment.rolled_back, deployment.cancel) = (true, Some(Cancel::After));
                    deployment.cancelled_at = deployment.cancelled_at.or(Some(now));
                    deployment.reason = Some(reason.clone());
                }
                Change::Good(_) | Change::Report(_) => {}
            }
        }
    }

    /// Advances to a later time, with everything that happens until then.
    pub fn advance_to(&mut self, to: Timestamp) {
        self.now = to;
        let (due, later) = std::mem::take(&mut self.coming).into_iter().partition(|c| c.0 <= to);
        self.coming = later;
        let due: Vec<_> = due;
        for (_, id, lifecycle, health) in due {
            if let Some(member) = self.find(&id) {
                (member.sight.lifecycle, member.sight.health) = (lifecycle, health);
            }
        }
        let (due, later): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.results).into_iter().partition(|r| r.0 <= to);
        self.results = later;
        for (_, id, number, outcome) in due {
            let attempt = self.find(&id).and_then(|member| member.attempt.as_mut());
            if let Some(attempt) = attempt.filter(|attempt| attempt.number == number) {
                attempt.outcome = Some(outcome);
            }
        }
        self.note_service();
    }

    pub(super) fn duration_of(&self, kind: DispatchKind) -> SignedDuration {
        if kind == DispatchKind::Stage { self.pace.staging } else { self.pace.hooks }
    }
}

/// Returns what kind of dispatch an instance in this state waits for.
fn dispatched_in(state: S) -> DispatchKind {
    match state {
        S::Pending | S::Staging => DispatchKind::Stage,
        S::PreBlocking => DispatchKind::PreBlock,
        S::PostAllowing => DispatchKind::PostAllow,
        S::Restoring => DispatchKind::Restore,
        _ => DispatchKind::Run,
    }
}
