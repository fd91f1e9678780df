//! The planner: one pass over the snapshot, in a fixed order, each step in a file of its own.

mod admit;
mod cancel;
mod capacity;
mod census;
mod departures;
mod effect;
mod effects;
mod explain;
mod launch;
mod patience;
mod progress;
mod verdict;

use super::{
    class::{Class, backoff, classify},
    event::{LifecycleEvent, RUN},
    snapshot::{Attempt, Lifecycle, Member, Sight, Snapshot},
    state::{Back, Cause, DeploymentState, Failure, Fault, Instance, Phase, Wait},
    transition::{Illegal, Step, next},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    borrow::Cow,
    collections::BTreeMap,
    ops::{Deref, DerefMut},
};

pub use capacity::check_pools;
pub use census::Census;
use census::Sums;
pub use effect::{DispatchKind, Effect, MOST_PER_DISPATCH, MOST_PER_STANDBY, Order, SUSPENDED};
pub use launch::{HEARTBEAT, HELD};
pub use patience::{LAST_TRIES, PATIENCE};

/// Between two tries while an attempt that was given up for lost keeps the next one out.
const PAUSE_WHILE_BUSY: SignedDuration = SignedDuration::from_secs(30);

/// What to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// To be recorded, all of them, before any effect.
    pub changes: Vec<Change>,
    /// To be had, in this order, each recorded before it is done.
    pub effects: Vec<Effect>,
    /// Look again at this time at the latest, whatever happens.
    pub wake_at: Option<Timestamp>,
    /// Why each waiting thing waits.
    pub explain: Explain,
}

impl Plan {
    /// The records of instances that it changes.
    pub fn records(&self) -> impl Iterator<Item = &Instance> {
        self.changes.iter().filter_map(|change| match change {
            Change::Instance(record, _) => Some(&**record),
            _ => None,
        })
    }
}

/// A change to the record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// An instance's record is now this; the note says what happened, in words, for the timeline.
    Instance(Box<Instance>, Option<String>),
    /// The deployment's state is now this.
    Deployment {
        /// The state.
        state: DeploymentState,
        /// Why, in words.
        reason: Option<String>,
    },
    /// This batch is in work now.
    Batch(u32),
    /// The batch in work is through.
    BatchDone,
    /// Halted or paused, and in order: a person may look.
    Settled,
    /// At the end of a cancelled deployment: which instance is on what, in words.
    Report(Vec<(String, String)>),
    /// End it, and queue a deployment of the last good revision.
    RollBack {
        /// Why, in words.
        reason: String,
    },
    /// The instance has the revision, validated and healthy: it is the last good one there.
    Good(String),
}

/// Why things wait, in words: what CLI, page and API show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// Of the deployment.
    pub deployment: Vec<String>,
    /// By instance, but for those whose turn has not come …
    pub instances: BTreeMap<String, String>,
    /// … of whom the same is true.
    pub waiting: Option<String>,
}

impl Explain {
    /// Why this instance waits, if it does.
    pub fn of(&self, record: &Instance) -> Option<&str> {
        let own = self.instances.get(&record.id);
        own.or(self.waiting.as_ref().filter(|_| record.awaits_turn())).map(String::as_str)
    }
}

/// Makes the plan for this moment.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Result<Plan, Illegal> {
    let census = Census::of(snapshot);
    let mut planner = Planner::new(snapshot, &census, now);
    planner.decide()?;
    planner.explain();
    Ok(planner.into_plan())
}

/// The same without a word of explanation, by a census that was kept up to date.
pub fn plan_by(census: &Census, snapshot: &Snapshot, now: Timestamp) -> Result<Plan, Illegal> {
    let mut planner = Planner::new(snapshot, census, now);
    planner.decide()?;
    Ok(planner.into_plan())
}

impl Planner<'_> {
    fn decide(&mut self) -> Result<(), Illegal> {
        self.regain_sight();
        self.see_departures()?;
        self.read_outcomes()?;
        self.read_fleet()?;
        self.give_up_unsent()?;
        self.obey_cancel()?;
        self.end_what_is_left()?;
        self.resume_due()?;
        if self.is_launch() {
            self.admit_launch()?;
        } else {
            self.watch_bake()?;
            self.judge()?;
            self.admit()?;
        }
        self.order_effects();
        self.finish();
        Ok(())
    }
}

/// A member as the plan goes on changing it.
struct Draft<'a> {
    /// Its number in the snapshot.
    at: usize,
    record: Record<'a>,
    sight: &'a Sight,
    attempt: Option<&'a Attempt>,
    before: &'a Instance,
    notes: Vec<String>,
}

/// A record that is copied once it is changed.
struct Record<'a>(Cow<'a, Instance>);

impl Deref for Record<'_> {
    type Target = Instance;

    fn deref(&self) -> &Instance {
        &self.0
    }
}

impl DerefMut for Record<'_> {
    fn deref_mut(&mut self) -> &mut Instance {
        self.0.to_mut()
    }
}

impl<'a> Draft<'a> {
    fn new(at: usize, member: &'a Member) -> Draft<'a> {
        Draft {
            at,
            record: Record(Cow::Borrowed(&member.record)),
            sight: &member.sight,
            attempt: member.attempt.as_ref(),
            before: &member.record,
            notes: Vec::new(),
        }
    }
}

impl Draft<'_> {
    fn step(&mut self, step: Step, now: Timestamp, note: impl Into<String>) -> Result<(), Illegal> {
        if step == Step::Restore {
            // Another release: with retries of its own.
            (self.record.transient, self.record.unknown) = (0, 0);
        }
        self.record.phase = next(&self.record.phase, step)?;
        self.record.since = now;
        self.attempt = None;
        self.notes.push(note.into());
        Ok(())
    }

    /// It is over, by this fault: `step` is [`Step::Fail`], or [`Step::Relapse`] for one that had succeeded.
    fn end_by(
        &mut self,
        step: fn(Box<Failure>) -> Step,
        fault: Fault,
        quarantined: bool,
        now: Timestamp,
        note: impl Into<String>,
    ) -> Result<(), Illegal> {
        self.record.fault = Some(fault.clone());
        self.step(step(Box::new(Failure { fault, quarantined })), now, note)
    }
}

impl Draft<'_> {
    /// In standby or on its way there, by our doing: an operator's own is none of the drafts that anything is done to.
    fn stands_by(&self) -> bool {
        matches!(self.sight.lifecycle, Lifecycle::Standby | Lifecycle::EnteringStandby)
    }

    /// Nothing more is done to it. Whole and in service it is passed over; out of service it stays quarantined by name,
    /// and what was half done to it is said.
    fn let_be(&mut self, now: Timestamp, note: &str) -> Result<(), Illegal> {
        let quarantined = self.stands_by();
        let skips = next(&self.record.phase, Step::Skip).is_ok();
        if !quarantined && !self.record.touched && skips {
            return self.step(Step::Skip, now, note);
        }
        let cause = Cause::Deadline(note.to_owned());
        let event = LifecycleEvent::ApplicationStop;
        let fault = self.record.fault.clone().unwrap_or(Fault { event, hook: None, cause, tail: Vec::new() });
        let fate = if quarantined { "kept in quarantine" } else { "left in service as it is" };
        self.step(Step::Fail(Box::new(Failure { fault, quarantined })), now, format!("{note}; {fate}"))
    }
}

struct Planner<'a> {
    snapshot: &'a Snapshot,
    census: &'a Census,
    now: Timestamp,
    /// Those that are looked at one by one.
    drafts: Vec<Draft<'a>>,
    /// The others, by the census's classes.
    sums: Vec<Sums>,
    state: DeploymentState,
    reason: Option<String>,
    batch: u32,
    /// The deployment is rolled back as of this plan.
    rolling_back: bool,
    /// An effect is needed that AWS refused a moment ago.
    held_back: bool,
    plan: Plan,
}

impl<'a> Planner<'a> {
    fn new(snapshot: &'a Snapshot, census: &'a Census, now: Timestamp) -> Self {
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

    fn wake(&mut self, at: Timestamp) {
        self.plan.wake_at = Some(self.plan.wake_at.map_or(at, |earlier| earlier.min(at)));
    }

    fn total(&self) -> u32 {
        self.snapshot.deployment.total_at_start.max(1)
    }

    /// How many there are of those that are looked at one by one.
    fn count(&self, which: impl Fn(&Instance) -> bool) -> u32 {
        u32::try_from(self.drafts.iter().filter(|draft| which(&draft.record)).count()).unwrap_or(u32::MAX)
    }

    /// How many there are of those that rest.
    fn resting(&self, of: impl Fn(&Sums) -> u32) -> u32 {
        self.sums.iter().map(of).sum()
    }

    /// One that rested is looked at from now on.
    fn take_up(&mut self, at: usize) {
        let Some((class, share)) = self.census.share(at) else { return };
        self.sums[class] = self.sums[class].less(share);
        let place = self.drafts.partition_point(|draft| draft.at < at);
        self.drafts.insert(place, Draft::new(at, &self.snapshot.members[at]));
    }

    /// A fault on draft `index`: waits for a retry that goes on at `back`, or ends Failed, by class and what is left. Where
    /// the retry begins follows from the fault, not from `back`.
    fn fault(&mut self, index: usize, fault: Fault, back: Back, quarantine: bool) -> Result<(), Illegal> {
        let (now, retry) = (self.now, &self.snapshot.policy.retry);
        let cancelled = self.snapshot.deployment.cancel.is_some();
        let launch = self.is_launch();
        self.note_loss(index, &fault);
        let draft = &mut self.drafts[index];
        let busy = fault.cause == Cause::Busy && draft.record.busy_until.is_some_and(|until| now < until);
        if busy && !cancelled {
            // An attempt that was given up for lost is at work still: that uses up nothing.
            let until = now + retry.cap.min(PAUSE_WHILE_BUSY);
            let words = fault.words();
            draft.record.fault = Some(fault);
            // It begins where it was to begin.
            let back = back.at(draft.record.phase.resume());
            let note = format!("{words}; waiting until that one has ended");
            return draft.step(Step::Wait(Wait { until, back }), now, note);
        }
        let class = classify(&fault, retry);
        let (used, allowed) = match class {
            Class::Transient => (&mut draft.record.transient, retry.attempts),
            Class::Unknown => (&mut draft.record.unknown, retry.attempts_unknown),
            Class::Permanent => (&mut draft.record.unknown, 1),
        };
        *used += 1;
        let (used, words) = (*used, fault.words());
        draft.record.fault = Some(fault.clone());
        if used < allowed && (!cancelled || back == Back::Restoring) {
            let seed = draft.record.attempt().unwrap_or_default().unsigned_abs();
            let pause = backoff(retry, used, seed);
            let until = now.checked_add(pause).unwrap_or(Timestamp::MAX);
            let resume = match (back, &fault.cause) {
                (Back::Deploying { .. }, Cause::AgentLost(_)) => Some(LifecycleEvent::ApplicationStop),
                _ => match fault.event.retry_from() {
                    // Not drained in time: the run begins where it was to begin.
                    LifecycleEvent::BlockTraffic => draft.record.phase.resume(),
                    event => Some(event).filter(|event| RUN.contains(event)),
                },
            };
            let back = back.at(resume);
            let note = format!(
                "{words}; {}, retry {used} of {} in {:.1} s",
                class.word(),
                allowed - 1,
                pause.as_secs_f64()
            );
            draft.step(Step::Wait(Wait { until, back }), now, note)
        } else {
            let why = match class {
                Class::Permanent => "permanent: not tried again".to_owned(),
                _ => format!("{}, {used} of {allowed} attempts used", class.word()),
            };
            let quarantine = quarantine && !launch;
            let fate = match (launch, quarantine) {
                (true, _) => "its launch is given up",
                (_, true) => "quarantined out of the balancer",
                (_, false) => "left in service",
            };
            draft.end_by(Step::Fail, fault, quarantine, now, format!("{words}; {why}; {fate}"))
        }
    }

    /// An attempt that is given up for lost may be at work still, and keep the next one out for as long as it may take.
    fn note_loss(&mut self, index: usize, fault: &Fault) {
        let limit = self.attempt_deadline(index);
        let draft = &mut self.drafts[index];
        if let (Cause::AgentLost(_), Some(attempt)) = (&fault.cause, draft.attempt) {
            draft.record.busy_until = Some(attempt.created_at + limit);
        }
    }

    fn into_plan(self) -> Plan {
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

#[cfg(test)]
#[path = "tests.rs"]
mod tests;
