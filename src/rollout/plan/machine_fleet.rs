//! The toy fleet with what the engine keeps beside the records, and what goes wrong with it. Each look of the planner is
//! held against the safety rules (`machine_rules`).

use super::*;
use crate::rollout::{
    plan::verdict::state_of,
    snapshot::Refused,
    verb::{Ruling, Standing, rule},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, fmt::Debug};

#[path = "machine_rules.rs"]
mod rules;

/// Nothing but a person, or the deadline of waiting for one, takes longer.
const PATIENCE: SignedDuration = SignedDuration::from_hours(1);
/// No deadline is longer.
const FOREVER: SignedDuration = SignedDuration::from_hours(48);

pub(super) struct Fleet {
    toy: Toy,
    armed: BTreeMap<(String, DispatchKind), Armed>,
    /// By the call's name.
    refusals: BTreeMap<&'static str, Refusal>,
    /// By the call's name: until then.
    denied: BTreeMap<&'static str, Timestamp>,
    /// Since when the fleet can't be seen, and until when; what was seen last.
    blind: Option<(Timestamp, Timestamp)>,
    /// Until when what is seen is out of date.
    stale: Option<Timestamp>,
    last_seen: BTreeMap<String, Sight>,
    regained: bool,
    /// A person wanted them tried again.
    retried: BTreeSet<String>,
    /// Runs that reached an instance since it was last begun.
    sent: BTreeMap<String, u32>,
    /// Runs began on them and none has succeeded since: nobody knows what is on them.
    unproven: BTreeSet<String>,
    /// MinSize as the last one set it who isn't drover, and all that drover ever set.
    min: u32,
    ours: BTreeSet<u32>,
    /// The group stands for something else in the configuration of the daemon that runs now.
    moved: bool,
    /// So much of the desired capacity did drover take away and not give back.
    owed: u32,
}

impl Fleet {
    pub(super) fn new(story: &Story) -> Fleet {
        let mut toy = Toy::new(story.count, story.policy.clone());
        let total = toy.snapshot.deployment.total_at_start;
        assert_eq!((story.policy.check(), story.policy.check_fleet(total)), (Ok(()), Ok(())));
        toy.snapshot.revision.pre_block = story.pre_block;
        toy.snapshot.revision.post_allow = story.post_allow;
        toy.snapshot.deployment.fallback = story.fallback.then(|| "old".to_owned());
        Fleet {
            toy,
            armed: BTreeMap::new(),
            refusals: BTreeMap::new(),
            denied: BTreeMap::new(),
            blind: None,
            stale: None,
            last_seen: BTreeMap::new(),
            regained: false,
            retried: BTreeSet::new(),
            sent: BTreeMap::new(),
            unproven: BTreeSet::new(),
            min: total,
            ours: BTreeSet::new(),
            moved: false,
            owed: 0,
        }
    }

    pub(super) fn live(&mut self, event: Event) {
        if self.has_ended() {
            return;
        }
        match event {
            Event::Advance(looks) => {
                for _ in 0..looks {
                    if !self.look(PATIENCE) {
                        break;
                    }
                }
            }
            Event::Arm(who, kind, armed) => {
                let id = self.at(who).record.id.clone();
                self.armed.insert((id, kind), armed);
            }
            Event::Lose(who) => self.lose(who),
            Event::Refuse(call, refusal) => {
                self.refusals.insert(call, refusal);
            }
            Event::Deny(call, seconds) => {
                self.denied.insert(call, self.toy.now + SignedDuration::from_secs(seconds));
            }
            Event::Blind(seconds) => {
                self.freeze();
                let now = self.toy.now;
                self.blind = Some((now, now + SignedDuration::from_secs(seconds)));
            }
            Event::Stale(seconds) if self.blind.is_none() => {
                self.freeze();
                self.stale = Some(self.toy.now + SignedDuration::from_secs(seconds));
            }
            Event::Stale(_) => {}
            Event::Sicken(who, seconds) => self.sicken(who, seconds),
            Event::Terminate(who) => self.terminate(who),
            Event::Shrink(who) => self.shrink(who),
            // One that is planned with another configuration takes in nobody.
            Event::Join if self.moved => {}
            Event::Join => self.join(),
            Event::Desire(more) => self.desire(self.in_lifecycle_service() + more),
            Event::SetMin(min) => self.set_min(min),
            Event::Verb(verb, only) => self.obey(verb, only),
            Event::Cancel(how) => {
                let cancel = &mut self.toy.snapshot.deployment.cancel;
                if *cancel != Some(Cancel::Now) {
                    *cancel = Some(how);
                }
            }
            Event::Restart(moved) => {
                self.moved = moved;
                self.restart();
            }
            Event::Crash(had, begun) => self.crash(had, begun),
        }
    }

    /// Left alone it ends; or it settles, and ends when nobody comes. Either way the group is in order.
    pub(super) fn end(&mut self) {
        for _ in 0..10_000 {
            if self.look(PATIENCE) {
                continue;
            }
            if !self.has_ended() && self.blind.is_some() {
                // Nothing settles unseen.
                self.look(FOREVER);
                continue;
            }
            self.check_order();
            if self.has_ended() {
                return;
            }
            assert!(self.look(FOREVER), "it waits for nothing: {:?}", self.toy.snapshot.deployment);
        }
        panic!("no end: {:#?}", self.toy.snapshot);
    }

    // What happens to it.

    fn has_ended(&self) -> bool {
        self.toy.snapshot.deployment.state.is_final()
    }

    fn at(&mut self, who: usize) -> &mut Member {
        let members = &mut self.toy.snapshot.members;
        let at = who % members.len();
        &mut members[at]
    }

    fn group(&mut self) -> &mut Group {
        self.toy.snapshot.groups.get_mut("asg").unwrap()
    }

    fn in_lifecycle_service(&self) -> u32 {
        let members = self.toy.snapshot.members.iter();
        let serving = members.filter(|member| member.sight.lifecycle == Lifecycle::InService).count();
        u32::try_from(serving).unwrap()
    }

    /// What was to become of an instance no longer does.
    fn forget(&mut self, instance: &str) {
        self.toy.coming.retain(|(_, id, ..)| id != instance);
    }

    fn lose(&mut self, who: usize) {
        let member = self.at(who);
        let state = member.record.state();
        let running = member.attempt.as_ref().filter(|attempt| attempt.outcome.is_none());
        let running = running.map(|attempt| attempt.number);
        let kind = KINDS.into_iter().find(|kind| state_of(*kind) == state).unwrap_or(DispatchKind::Run);
        let Some(result) = self.toy.results.iter_mut().find(|result| Some(result.2) == running) else {
            return;
        };
        let cause = Cause::AgentLost("no word of the runner".into());
        let fault = Fault { event: kind.first_event(), hook: None, cause, tail: Vec::new() };
        result.3 = Outcome::Failed(fault);
    }

    fn sicken(&mut self, who: usize, seconds: i64) {
        let well_again = self.toy.now + SignedDuration::from_secs(seconds);
        let member = self.at(who);
        if member.sight.lifecycle != Lifecycle::InService {
            return;
        }
        member.sight.health = Health::Unhealthy("Target.Timeout".into());
        let id = member.record.id.clone();
        self.forget(&id);
        self.toy.coming.push((well_again, id, Lifecycle::InService, Health::Healthy));
    }

    fn terminate(&mut self, who: usize) {
        let member = self.at(who);
        member.sight = Sight::gone();
        let id = member.record.id.clone();
        self.forget(&id);
    }

    /// Auto Scaling ends one of those in service.
    fn shrink(&mut self, who: usize) {
        let (group, serving) = (&self.toy.snapshot.groups["asg"], self.in_lifecycle_service());
        let serves = self.toy.snapshot.members[who % self.toy.snapshot.members.len()].sight.lifecycle
            == Lifecycle::InService;
        if !serves || group.desired <= group.min || group.desired > serving {
            return;
        }
        self.group().desired -= 1;
        let member = self.at(who);
        member.sight = Sight { given_up: true, ..Sight::gone() };
        let id = member.record.id.clone();
        self.forget(&id);
    }

    /// As the engine's `observe::join` does.
    fn join(&mut self) {
        let now = self.toy.now;
        let members = &mut self.toy.snapshot.members;
        let number = members.len();
        let mut record = Instance::new(&format!("i-{number:02}"), ["a", "b", "c"][number % 3], "asg", now);
        record.memberships = members[0].record.memberships.clone();
        let sight = Sight::serving();
        members.push(Member { record, sight, attempt: None });
        let desired = self.group().desired;
        self.desire(desired);
    }

    /// Never less than are in service (that would end some), nor than MinSize.
    fn desire(&mut self, desired: u32) {
        let serving = self.in_lifecycle_service();
        let group = self.group();
        group.desired = desired.max(serving).max(group.min);
    }

    fn set_min(&mut self, min: u32) {
        // One that drover set too couldn't be told from it.
        if min == self.group().min || self.ours.contains(&min) {
            return;
        }
        let group = self.group();
        group.min = min;
        group.desired = group.desired.max(min);
        self.min = min;
    }

    /// As the engine's `verbs` does.
    fn obey(&mut self, verb: Verb, only: Option<usize>) {
        let deployment = &mut self.toy.snapshot.deployment;
        match (rule(verb, Standing::newest(deployment.state, deployment.cancel.is_some())), verb) {
            (Ruling::Do, Verb::Pause) => self.toy.pause(),
            (Ruling::Do, Verb::Resume) => self.toy.resume(),
            (Ruling::Do, Verb::Approve) => deployment.approved = true,
            (Ruling::Do, Verb::Retry) => self.retry(only),
            (Ruling::Anew, Verb::Rollback) if deployment.fallback.is_some() && !deployment.rolled_back => {
                (deployment.rolled_back, deployment.cancel) = (true, Some(Cancel::After));
            }
            _ => {}
        }
    }

    fn retry(&mut self, only: Option<usize>) {
        let now = self.toy.now;
        let only = only.map(|who| self.at(who).record.id.clone());
        let mut again = Vec::new();
        for member in &mut self.toy.snapshot.members {
            let wanted = only.as_ref().is_none_or(|only| *only == member.record.id);
            if wanted && member.record.try_again(now).is_ok() {
                member.attempt = None;
                again.push(member.record.id.clone());
            }
        }
        if again.is_empty() {
            return;
        }
        self.sent.retain(|id, _| !again.contains(id));
        self.retried.extend(again);
        self.toy.resume();
    }

    /// The next daemon knows what is in the store, and nothing else.
    fn restart(&mut self) {
        let snapshot = &mut self.toy.snapshot;
        snapshot.refused.clear();
        snapshot.policy = stored(&snapshot.policy);
        for group in snapshot.groups.values_mut() {
            group.hold = stored(&group.hold);
        }
        for member in &mut snapshot.members {
            member.record = stored(&member.record);
            if let Some(attempt) = &mut member.attempt {
                attempt.outcome = stored(&attempt.outcome);
            }
        }
    }

    fn crash(&mut self, had: usize, begun: bool) {
        for _ in 0..20 {
            if self.has_ended() {
                return;
            }
            let coming = plan(&self.shown(), self.toy.now).expect("no illegal step").effects.len();
            if coming > 0 {
                self.tick(Some((had % coming, begun)));
                break;
            }
            if !self.look(PATIENCE) {
                break;
            }
        }
        self.restart();
    }

    /// What is seen from now on is what is seen now.
    fn freeze(&mut self) {
        if self.blind.is_none() && self.stale.is_none() {
            let members = self.toy.snapshot.members.iter();
            self.last_seen = members.map(|member| (member.record.id.clone(), member.sight.clone())).collect();
        }
    }

    /// What the planner is shown: as the engine's `sight` does.
    fn shown(&mut self) -> Snapshot {
        let mut shown = self.toy.snapshot.clone();
        let now = self.toy.now;
        if self.stale.is_some_and(|until| now >= until) {
            self.stale = None;
        }
        if self.blind.is_some_and(|(_, until)| now >= until) {
            (self.blind, self.regained) = (None, true);
        }
        if self.blind.is_some() || self.stale.is_some() {
            for member in &mut shown.members {
                if let Some(sight) = self.last_seen.get(&member.record.id) {
                    member.sight = sight.clone();
                }
            }
        }
        shown.refused.retain(|_, refused| refused.is_current(now));
        let why = "DescribeTargetHealth was refused".to_owned();
        shown.blind = self.blind.map(|(since, _)| crate::rollout::snapshot::Blind { since, why });
        shown.regained = std::mem::take(&mut self.regained);
        shown
    }

    // The engine's part.

    /// One look of the planner, and on to the next thing that happens; false if it has ended, or nothing happens so soon.
    fn look(&mut self, patience: SignedDuration) -> bool {
        if self.has_ended() {
            return false;
        }
        let plan = self.tick(None);
        if !plan.changes.is_empty() || !plan.effects.is_empty() {
            return true;
        }
        // When what is wrong is over, the engine's next look shows it.
        let over = self.blind.map(|(_, until)| until).into_iter().chain(self.stale).min();
        match self.toy.next_time(&plan).into_iter().chain(over).min() {
            Some(at) if at <= self.toy.now + patience => {
                let now = self.toy.now;
                self.toy.jump(at.max(now + SignedDuration::from_millis(1)));
                true
            }
            _ => false,
        }
    }

    /// Plan, record, act. `cut`: the daemon dies after that many effects, perhaps with the next one in the journal.
    fn tick(&mut self, cut: Option<(usize, bool)>) -> Plan {
        for member in &self.toy.snapshot.members {
            let outcome = member.attempt.as_ref().and_then(|attempt| attempt.outcome.as_ref());
            let ran = matches!(member.record.state(), S::Deploying | S::Restoring);
            if ran && matches!(outcome, Some(Outcome::Succeeded { .. })) {
                self.unproven.remove(&member.record.id);
            }
        }
        self.halt_if_moved();
        let before = self.shown();
        let plan = plan(&before, self.toy.now).expect("no illegal step");
        // Whoever rests would have been left alone, too.
        let mut thorough = plan_by(&Census::of_all(&before), &before, self.toy.now).expect("no illegal step");
        thorough.explain.clone_from(&plan.explain);
        assert_eq!(plan, thorough);
        self.toy.record(&plan);
        self.check_step(&before, &plan);
        self.rules();
        let (had, begun) = cut.unwrap_or((plan.effects.len(), false));
        for effect in plan.effects.iter().take(had) {
            self.act(effect.clone());
        }
        if let Some(effect) = plan.effects.get(had).filter(|_| begun) {
            self.begin(effect);
        }
        plan
    }

    /// As the engine's `roll` does.
    fn halt_if_moved(&mut self) {
        let now = self.toy.now;
        let deployment = &mut self.toy.snapshot.deployment;
        if self.moved && deployment.state == D::Rolling && deployment.cancel.is_none() {
            (deployment.state, deployment.since, deployment.settled) = (D::Halted, now, false);
            deployment.reason = Some("the group stands for something else now".into());
        }
    }

    fn begin(&mut self, effect: &Effect) {
        if let Effect::SetMin { min, .. } = effect {
            self.ours.insert(*min);
        }
        self.toy.begin(effect);
    }

    fn act(&mut self, effect: Effect) {
        let key = effect.key();
        let call = key.split(':').next().unwrap_or_default();
        let denied = self.denied.get(call).is_some_and(|until| self.toy.now < *until);
        let refusal = match denied {
            true => Some(Refusal { pause: 20, for_an_id: false }),
            false if !self.can(&effect) => Some(Refusal { pause: 5, for_an_id: true }),
            false => self.refusals.remove(call),
        };
        match (effect, refusal) {
            (Effect::Dispatch { kind, orders }, refusal) => {
                match refusal.filter(|refusal| !refusal.for_an_id) {
                    Some(refusal) => self.refuse(key, refusal),
                    None => drop(self.toy.snapshot.refused.remove(&key)),
                }
                self.dispatch(kind, orders, refusal);
            }
            (effect, Some(refusal)) => {
                self.begin(&effect);
                self.refuse(key, refusal);
            }
            (effect, None) => {
                self.toy.snapshot.refused.remove(&key);
                match &effect {
                    Effect::SetMin { min, .. } => {
                        self.ours.insert(*min);
                    }
                    Effect::EnterStandby { instances, .. } => instances.iter().for_each(|id| self.forget(id)),
                    Effect::ExitStandby { instances, .. } => {
                        let unproven = instances.iter().find(|id| self.unproven.contains(*id));
                        assert_eq!(unproven, None, "a broken one is put back into service");
                    }
                    _ => {}
                }
                let before = self.group().desired;
                self.toy.act(&effect);
                let after = self.group().desired;
                self.owed =
                    (self.owed + before.saturating_sub(after)).saturating_sub(after.saturating_sub(before));
            }
        }
    }

    /// Whether AWS could do that: what was planned from an old look may be over.
    fn can(&self, effect: &Effect) -> bool {
        let Snapshot { members, groups, .. } = &self.toy.snapshot;
        let are = |ids: &[String], lifecycle: &Lifecycle| {
            let is =
                |id: &String| members.iter().any(|m| m.record.id == *id && m.sight.lifecycle == *lifecycle);
            ids.iter().all(is)
        };
        match effect {
            Effect::EnterStandby { group, instances } => {
                let (group, out) = (&groups[group], u32::try_from(instances.len()).unwrap());
                are(instances, &Lifecycle::InService) && group.desired >= group.min + out
            }
            Effect::ExitStandby { instances, .. } => are(instances, &Lifecycle::Standby),
            _ => true,
        }
    }

    /// As the engine's `remember` does.
    fn refuse(&mut self, key: String, refusal: Refusal) {
        let now = self.toy.now;
        let (until, message) = (now + SignedDuration::from_secs(refusal.pause), format!("{key} was refused"));
        let refused = &mut self.toy.snapshot.refused;
        refused.retain(|_, refused| refused.is_current(now));
        let since = refused.get(&key).map_or(now, |before| before.since);
        let times = refused.get(&key).map_or(0, |before| before.times) + 1;
        let of_the_account = !refusal.for_an_id;
        refused.insert(key, Refused { times, until, since, of_the_account, message });
    }

    /// As the engine's `dispatch` does: the attempts are written down even where the call is then refused.
    fn dispatch(&mut self, kind: DispatchKind, orders: Vec<Order>, refusal: Option<Refusal>) {
        let together = orders.len();
        self.toy.act(&Effect::Dispatch { kind, orders: orders.clone() });
        for order in &orders {
            let outcome = match refusal {
                Some(Refusal { for_an_id: false, .. }) => Some(Outcome::NotSent { alone: false }),
                Some(_) if together > 1 => Some(Outcome::NotSent { alone: true }),
                Some(_) => {
                    let cause = Cause::Undelivered("InvalidInstanceId".into());
                    Some(Outcome::Failed(Fault { event: order.first, hook: None, cause, tail: Vec::new() }))
                }
                None => self.failure(kind, order),
            };
            let newest = self.toy.results.iter_mut().rev().find(|(_, id, ..)| *id == order.instance);
            if let (Some(result), Some(outcome)) = (newest, outcome) {
                result.3 = outcome;
            }
        }
    }

    /// The dispatch reached the instance; how it is to fail there, if it is.
    fn failure(&mut self, kind: DispatchKind, order: &Order) -> Option<Outcome> {
        let id = &order.instance;
        if kind == DispatchKind::Run {
            *self.sent.entry(id.clone()).or_default() += 1;
        }
        let runs = matches!(kind, DispatchKind::Run | DispatchKind::Restore);
        if runs {
            self.unproven.insert(id.clone());
        }
        let armed = self.armed.get_mut(&(id.clone(), kind)).filter(|armed| armed.times > 0)?;
        armed.times -= 1;
        let event = if runs { LifecycleEvent::ApplicationStart } else { kind.first_event() };
        let cause = match kind {
            DispatchKind::Stage => Cause::Download,
            _ => Cause::Exit(armed.code),
        };
        let tail = vec![armed.line.to_owned()];
        Some(Outcome::Failed(Fault { event, hook: Some("hooks/one".into()), cause, tail }))
    }
}

/// Written to the store and read from it again.
fn stored<T: Serialize + DeserializeOwned + PartialEq + Debug>(value: &T) -> T {
    let read: T = serde_json::from_str(&serde_json::to_string(value).unwrap()).unwrap();
    assert_eq!(read, *value);
    read
}
