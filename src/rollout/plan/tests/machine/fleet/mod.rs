//! The toy fleet with what the engine keeps beside the records, and what goes wrong with it. Each look of the planner is
//! held against the safety rules (`rules`).

mod effects;
mod happenings;
mod rules;

use super::*;
use crate::rollout::{
    snapshot::Refused,
    verb::{Ruling, Standing, rule},
};
use serde::{Serialize, de::DeserializeOwned};
use std::{collections::BTreeSet, fmt::Debug};

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
    outage: Option<(Timestamp, Timestamp)>,
    /// Until when what is seen is out of date.
    stale: Option<Timestamp>,
    last_seen: BTreeMap<String, Sight>,
    outage_ended: bool,
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
            outage: None,
            stale: None,
            last_seen: BTreeMap::new(),
            outage_ended: false,
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
            Event::Outage(seconds) => {
                self.freeze();
                let now = self.toy.now;
                self.outage = Some((now, now + SignedDuration::from_secs(seconds)));
            }
            Event::Stale(seconds) if self.outage.is_none() => {
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
            Event::Verb(verb, only) => self.apply_verb(verb, only),
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
            if !self.has_ended() && self.outage.is_some() {
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

    /// What the planner is shown: as the engine's `sight` does.
    fn shown(&mut self) -> Snapshot {
        let mut shown = self.toy.snapshot.clone();
        let now = self.toy.now;
        if self.stale.is_some_and(|until| now >= until) {
            self.stale = None;
        }
        if self.outage.is_some_and(|(_, until)| now >= until) {
            (self.outage, self.outage_ended) = (None, true);
        }
        if self.outage.is_some() || self.stale.is_some() {
            for member in &mut shown.members {
                if let Some(sight) = self.last_seen.get(&member.record.id) {
                    member.sight = sight.clone();
                }
            }
        }
        shown.refused.retain(|_, refused| refused.is_current(now));
        let why = "DescribeTargetHealth was refused".to_owned();
        shown.outage = self.outage.map(|(since, _)| crate::rollout::snapshot::Outage { since, why });
        shown.outage_ended = std::mem::take(&mut self.outage_ended);
        shown
    }

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
        let over = self.outage.map(|(_, until)| until).into_iter().chain(self.stale).min();
        match self.toy.next_time(&plan).into_iter().chain(over).min() {
            Some(at) if at <= self.toy.now + patience => {
                let now = self.toy.now;
                self.toy.advance_to(at.max(now + SignedDuration::from_millis(1)));
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
}
