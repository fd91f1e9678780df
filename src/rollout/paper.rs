//! A fleet on paper: it does what the planner tells it, after as long as such things take. Rehearsals run on it, and so
//! do the planner's tests.

use super::{
    plan::{Census, Change, DispatchKind, Effect, Order, Plan, plan, plan_by},
    snapshot::{Attempt, Cancel, Health, Hold, Lifecycle, Member, Outcome, Snapshot},
    state::{InstanceState as S, Stop},
    transition::Illegal,
};
use jiff::{SignedDuration, Timestamp};
use std::collections::HashMap;

/// How long things take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Pace {
    /// Download and unpack.
    pub staging: SignedDuration,
    /// One dispatch of hooks.
    pub hooks: SignedDuration,
    /// Out of the balancer, until drained.
    pub drain: SignedDuration,
    /// Back in, until healthy.
    pub health: SignedDuration,
}

/// What becomes of what the fleet is told.
pub trait Fate {
    /// How an attempt ends.
    fn outcome(&mut self, kind: DispatchKind, order: &Order) -> Outcome;

    /// Sees each effect before it is had.
    fn meet(&mut self, _effect: &Effect, _fleet: &Snapshot) {}
}

/// Everything succeeds.
pub struct Fortune;

impl Fate for Fortune {
    fn outcome(&mut self, _: DispatchKind, _: &Order) -> Outcome {
        Outcome::Succeeded { current: None }
    }
}

/// The fleet.
#[derive(Clone, Debug)]
pub struct PaperFleet {
    /// What the planner sees.
    pub snapshot: Snapshot,
    /// The time.
    pub now: Timestamp,
    /// How long things take.
    pub pace: Pace,
    /// When an instance's lifecycle or health changes next, and to what.
    pub coming: Vec<(Timestamp, String, Lifecycle, Health)>,
    /// When an attempt ends, whose and which, and how.
    pub results: Vec<(Timestamp, String, i64, Outcome)>,
    /// Fewest that were in service and healthy at once.
    pub lowest_in_service: usize,
    /// The dispatches so far, and to how many.
    pub dispatches: Vec<(DispatchKind, usize)>,
    next_attempt: i64,
    /// Members by id, as they were at the start.
    places: HashMap<String, usize>,
    /// Where nobody else changes the snapshot: who is looked at.
    census: Option<Census>,
    /// Members that the census may be wrong about.
    changed: Vec<usize>,
}

impl PaperFleet {
    /// A fleet as it is now. What is under way ends when it should, or at once where that has passed.
    pub fn new(snapshot: Snapshot, pace: Pace, now: Timestamp, fate: &mut dyn Fate) -> PaperFleet {
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
                let kind = kind_of(record.state());
                let (good, zone) = (record.good.clone(), record.zone.clone());
                let order = Order { instance: id.clone(), first: kind.first_event(), good, zone };
                let end = (attempt.created_at + fleet.lasts(kind)).max(now);
                fleet.results.push((end, id.clone(), attempt.number, fate.outcome(kind, &order)));
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

    /// One of the members.
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

    /// From now on only the fleet itself changes its snapshot: what rests needs no look then.
    pub fn close(&mut self) {
        self.census = Some(Census::of(&self.snapshot));
    }

    /// Members that are in work, or may be: all of them where others may change the snapshot.
    pub fn moving(&mut self) -> Vec<usize> {
        self.take_census();
        self.those_moving()
    }

    fn those_moving(&self) -> Vec<usize> {
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

    /// How many serve now.
    pub fn in_service(&self) -> usize {
        let serves = |&at: &usize| {
            let sight = &self.snapshot.members[at].sight;
            sight.serves()
        };
        let resting = self.census.as_ref().map_or(0, Census::resting);
        resting + self.those_moving().iter().filter(|at| serves(at)).count()
    }

    fn note_service(&mut self) {
        self.take_census();
        self.lowest_in_service = self.lowest_in_service.min(self.in_service());
    }

    /// One look of the planner: what it says is recorded and had, or else time jumps to the next thing that happens.
    /// False at the end, or where nothing will happen any more.
    pub fn tick(&mut self, fate: &mut dyn Fate) -> Result<bool, Illegal> {
        self.take_census();
        let plan = match &self.census {
            Some(census) => plan_by(census, &self.snapshot, self.now)?,
            None => plan(&self.snapshot, self.now)?,
        };
        self.record(&plan);
        for effect in &plan.effects {
            self.act(effect, fate);
        }
        if !plan.changes.is_empty() || !plan.effects.is_empty() {
            return Ok(!self.snapshot.deployment.state.is_final());
        }
        let Some(next) = self.next_time(&plan) else { return Ok(false) };
        self.jump(next.max(self.now + SignedDuration::from_millis(1)));
        Ok(true)
    }

    /// When something happens next, or the planner wants to look again.
    pub fn next_time(&self, plan: &Plan) -> Option<Timestamp> {
        let times = self.coming.iter().map(|c| c.0).chain(self.results.iter().map(|r| r.0));
        times.chain(plan.wake_at).min()
    }

    /// Writes a plan's changes down, as the engine does.
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

    /// On to a later time, and what happens until then.
    pub fn jump(&mut self, to: Timestamp) {
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

    fn lasts(&self, kind: DispatchKind) -> SignedDuration {
        if kind == DispatchKind::Stage { self.pace.staging } else { self.pace.hooks }
    }

    /// What the engine writes into a group's journal before the call itself, which may be refused or never made.
    pub fn begin(&mut self, effect: &Effect) {
        let deployment = self.snapshot.deployment.id;
        let (Effect::Journal { group }
        | Effect::Suspend { group, .. }
        | Effect::SetMin { group, .. }
        | Effect::SetDesired { group, .. }) = effect
        else {
            return;
        };
        let Some(group) = self.snapshot.groups.get_mut(group) else { return };
        let (min, fresh) = (group.min, Hold { deployment, former_min: group.min, ..Hold::default() });
        match (effect, &mut group.hold) {
            (Effect::Journal { .. }, hold) => drop(hold.get_or_insert(fresh)),
            (Effect::Suspend { processes, .. }, Some(hold)) => hold.note_suspended(processes),
            (Effect::SetDesired { desired, .. }, Some(hold)) => hold.note_return(*desired),
            (Effect::SetMin { min: wanted, .. }, Some(hold)) => hold.note_min(min, *wanted),
            _ => {}
        }
    }

    /// Has an effect.
    pub fn act(&mut self, effect: &Effect, fate: &mut dyn Fate) {
        fate.meet(effect, &self.snapshot);
        self.begin(effect);
        let now = self.now;
        match effect {
            Effect::Dispatch { kind, orders } => self.dispatch(*kind, orders, fate),
            Effect::Stop { instance, attempt, now: at_once } => {
                if let Some(member) = self.find(instance) {
                    member.record.note_stop(*attempt, Stop { at_once: *at_once, sent: now });
                }
                self.results.retain(|(_, _, number, _)| number != attempt);
                let end = now + self.pace.hooks;
                self.results.push((end, instance.clone(), *attempt, Outcome::Stopped(None)));
            }
            Effect::Journal { group } => {
                let hold = self.snapshot.groups.get_mut(group).and_then(|group| group.hold.as_mut());
                if let Some(hold) = hold {
                    hold.tagged = true;
                }
            }
            Effect::Suspend { group, processes } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.suspended.extend(processes.clone());
                }
            }
            Effect::SetMin { group, min } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.min = *min;
                    group.desired = group.desired.max(*min);
                    if let Some(hold) = &mut group.hold {
                        hold.min_restored = *min == hold.former_min;
                    }
                }
            }
            Effect::SetDesired { group, desired, returns } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.desired = *desired;
                    if let Some(hold) = &mut group.hold {
                        hold.note_returned(*returns);
                    }
                }
            }
            Effect::Resume { group, processes } => {
                let Some(group) = self.snapshot.groups.get_mut(group) else { return };
                group.suspended.retain(|process| !processes.contains(process));
                if let Some(hold) = &mut group.hold {
                    hold.resumed = true;
                }
            }
            Effect::Release { group } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.hold = None;
                }
            }
            Effect::EnterStandby { group, instances } => self.enter_standby(group, instances),
            Effect::ExitStandby { group, instances } => {
                if let Some(group) = self.snapshot.groups.get_mut(group) {
                    group.desired += u32::try_from(instances.len()).unwrap_or(0);
                }
                instances.iter().for_each(|id| self.goes_in(id));
            }
            Effect::Deregister { target_group, targets } => {
                for (id, port) in targets {
                    let Some(member) = self.find(id) else { continue };
                    let target = (target_group.clone(), *port);
                    member.sight.registered.retain(|there| *there != target);
                    member.sight.health = Health::Draining;
                    let lifecycle = member.sight.lifecycle.clone();
                    self.coming.push((now + self.pace.drain, id.clone(), lifecycle, Health::Out));
                }
            }
            Effect::Register { target_group, targets } => {
                for (id, port) in targets {
                    let Some(member) = self.find(id) else { continue };
                    member.sight.registered.push((target_group.clone(), *port));
                    self.goes_in(id);
                }
            }
            Effect::CompleteLaunch { instance, proceed: true, .. } => self.goes_in(instance),
            Effect::CompleteLaunch { instance, .. } => {
                if let Some(member) = self.find(instance) {
                    member.sight.lifecycle = Lifecycle::Leaving;
                }
            }
            Effect::Terminate { instance, .. } => {
                if let Some(member) = self.find(instance) {
                    member.sight.lifecycle = Lifecycle::Leaving;
                }
            }
            Effect::Heartbeat { .. } | Effect::PutHook { .. } | Effect::DeleteHook { .. } => {}
        }
        self.note_service();
    }

    fn dispatch(&mut self, kind: DispatchKind, orders: &[Order], fate: &mut dyn Fate) {
        self.dispatches.push((kind, orders.len()));
        for order in orders {
            let number = self.next_attempt;
            self.next_attempt += 1;
            let end = self.now + self.lasts(kind);
            self.results.push((end, order.instance.clone(), number, fate.outcome(kind, order)));
            let created_at = self.now;
            let Some(member) = self.find(&order.instance) else { continue };
            member.record.begin(number, None);
            member.record.attempts += u32::from(kind != DispatchKind::Stage);
            member.record.touched |= matches!(kind, DispatchKind::Run | DispatchKind::Restore);
            member.attempt = Some(Attempt { number, created_at, outcome: None });
        }
    }

    fn enter_standby(&mut self, group: &str, instances: &[String]) {
        if let Some(group) = self.snapshot.groups.get_mut(group) {
            group.desired = group.desired.saturating_sub(u32::try_from(instances.len()).unwrap_or(0));
        }
        let drained = self.now + self.pace.drain;
        for id in instances {
            let Some(member) = self.find(id) else { continue };
            (member.sight.lifecycle, member.sight.health) = (Lifecycle::EnteringStandby, Health::Draining);
            self.coming.push((drained, id.clone(), Lifecycle::Standby, Health::Out));
        }
    }

    fn goes_in(&mut self, id: &str) {
        let healthy = self.now + self.pace.health;
        let Some(member) = self.find(id) else { return };
        (member.sight.lifecycle, member.sight.health) =
            (Lifecycle::InService, Health::Initial("Elb.InitialHealthChecking".into()));
        self.coming.push((healthy, id.to_owned(), Lifecycle::InService, Health::Healthy));
    }
}

/// What is dispatched in a state.
fn kind_of(state: S) -> DispatchKind {
    match state {
        S::Pending | S::Staging => DispatchKind::Stage,
        S::PreBlocking => DispatchKind::PreBlock,
        S::PostAllowing => DispatchKind::PostAllow,
        S::Restoring => DispatchKind::Restore,
        _ => DispatchKind::Run,
    }
}
