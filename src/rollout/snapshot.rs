//! What a plan is made from: what the store remembers beside what the fleet shows at this moment.

use super::{
    event::LifecycleEvent,
    policy::Policy,
    state::{DeploymentState, Fault, Instance},
};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// All that a plan may know.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The deployment.
    pub deployment: Deployment,
    /// Its group's policy, with the submission's overrides.
    pub policy: Policy,
    /// What the revision asks for.
    pub revision: Revision,
    /// Its instances: record, sight and attempt.
    pub members: Vec<Member>,
    /// The Auto Scaling groups, by name.
    pub groups: BTreeMap<String, Group>,
    /// Waits that follow from the target groups' settings.
    pub timing: Timing,
    /// Effects that were refused lately, by [`super::plan::Effect::key`].
    pub refused: BTreeMap<String, Refused>,
    /// The fleet can't be seen: what the members show is what was last seen of them.
    pub blind: Option<Blind>,
    /// It can be seen again, for the first time since.
    pub regained: bool,
}

/// Why the fleet can't be seen, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Blind {
    /// Since when.
    pub since: Timestamp,
    /// The call that fails, and how.
    pub why: String,
}

/// The deployment's own record.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its number.
    pub id: i64,
    /// Its deployment group.
    pub group: String,
    /// The revision that it brings.
    pub sha: String,
    /// Where it stands …
    pub state: DeploymentState,
    /// … and why, in words, if there is something to say.
    pub reason: Option<String>,
    /// When it left the queue.
    pub started_at: Timestamp,
    /// When its state last changed.
    pub since: Timestamp,
    /// The batch in work; 0 before the first.
    pub batch: u32,
    /// When the last instance of that batch was through; the bake counts from here.
    pub batch_done_at: Option<Timestamp>,
    /// Healthy behind the balancer when it began.
    pub healthy_at_start: u32,
    /// Members when it began.
    pub total_at_start: u32,
    /// A person asked to cancel it …
    pub cancel: Option<Cancel>,
    /// … first at this time.
    pub cancelled_at: Option<Timestamp>,
    /// Halted or paused, and the group is in order again: nothing in work, everything put back.
    pub settled: bool,
    /// When a person last let it go on; failures before that no longer count.
    pub resumed_at: Option<Timestamp>,
    /// A person approved what `approve_after` waits for.
    pub approved: bool,
    /// When; the deployment's own deadline counts from then.
    pub approved_at: Option<Timestamp>,
    /// The group's last good revision, if it has one and that is another than this deployment's.
    pub fallback: Option<String>,
    /// Another deployment brings back what this one changed.
    pub rolled_back: bool,
    /// The lifecycle hook that holds its one instance in Pending:Wait, where it is for an instance that launches.
    pub launch: Option<String>,
}

impl Deployment {
    /// One that begins to roll now, with so many members and so many of them healthy.
    pub fn beginning(id: i64, total: u32, healthy: u32, now: Timestamp) -> Deployment {
        Deployment {
            id,
            group: String::new(),
            sha: String::new(),
            state: DeploymentState::Rolling,
            reason: None,
            started_at: now,
            since: now,
            batch: 0,
            batch_done_at: None,
            healthy_at_start: healthy,
            total_at_start: total,
            cancel: None,
            cancelled_at: None,
            settled: false,
            resumed_at: None,
            approved: false,
            approved_at: None,
            fallback: None,
            rolled_back: false,
            launch: None,
        }
    }
}

/// How a person cancelled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Cancel {
    /// Let the running lifecycle event end first.
    After,
    /// Stop the running hook.
    Now,
}

/// What the revision's `appspec.yml` asks for, as far as planning goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// It has BeforeBlockTraffic hooks.
    pub pre_block: bool,
    /// Of the releases that run before, by SHA.
    #[serde(default)]
    pub former: BTreeMap<String, Former>,
    /// It has AfterAllowTraffic hooks.
    pub post_allow: bool,
    /// The longest that one dispatch may take: the sum of its hooks' time-outs, seconds.
    pub run_seconds: i64,
}

/// What a release that runs before asks for: its own hooks are run until it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// It has BeforeBlockTraffic hooks.
    pub pre_block: bool,
}

/// Waits that follow from the target groups' settings; the longest of several.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Timing {
    /// `deregistration_delay.timeout_seconds`.
    pub deregistration_delay: SignedDuration,
    /// Health-check interval × healthy threshold.
    pub becoming_healthy: SignedDuration,
}

/// One instance.
#[derive(Clone, Debug)]
pub struct Member {
    /// What the store remembers.
    pub record: Instance,
    /// What the fleet shows.
    pub sight: Sight,
    /// The attempt that `record.attempt` names.
    pub attempt: Option<Attempt>,
}

/// What the fleet shows of an instance.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Sight {
    /// Its state in the Auto Scaling group.
    pub lifecycle: Lifecycle,
    /// Its state behind the balancer, over all its target groups.
    pub health: Health,
    /// The target groups it is in, and on which port, of those that we register and deregister.
    pub registered: Vec<(String, u16)>,
    /// It leaves because it failed a health check: which, in words.
    pub condemned: Option<String>,
    /// It leaves because somebody wanted the group smaller by it.
    pub given_up: bool,
}

impl Sight {
    /// Of one that was never seen.
    pub fn unseen() -> Sight {
        let lifecycle = Lifecycle::Unknown("not seen yet".into());
        Sight { lifecycle, health: Health::Initial("not seen yet".into()), ..Sight::gone() }
    }

    /// Of one that serves.
    pub fn serving() -> Sight {
        Sight { lifecycle: Lifecycle::InService, health: Health::Healthy, ..Sight::gone() }
    }

    /// In service, and healthy behind the balancer.
    pub fn serves(&self) -> bool {
        self.lifecycle == Lifecycle::InService && self.health == Health::Healthy
    }

    /// Of one that left.
    pub fn gone() -> Sight {
        Sight {
            lifecycle: Lifecycle::Leaving,
            health: Health::Out,
            registered: Vec::new(),
            condemned: None,
            given_up: false,
        }
    }
}

/// A lifecycle state of Auto Scaling, as far as it matters here.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Lifecycle {
    /// In service.
    InService,
    /// On its way to standby.
    EnteringStandby,
    /// In standby.
    Standby,
    /// On its way in (Pending and its kin).
    Coming(String),
    /// Terminating, detached or no longer listed.
    Leaving,
    /// A state that this version doesn't know: left alone.
    Unknown(String),
}

/// Health behind the balancer; the worst of several target groups.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Health {
    /// Healthy in every target group.
    Healthy,
    /// Registered, not yet checked often enough.
    Initial(String),
    /// Registered and failing: the balancer's reason code and words.
    Unhealthy(String),
    /// Being drained somewhere.
    Draining,
    /// In no target group any more (`unused` or absent).
    Out,
}

/// An attempt on one instance: one row of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number; see the store.
    pub number: i64,
    /// When its dispatch was recorded.
    pub created_at: Timestamp,
    /// How it ended, once known.
    pub outcome: Option<Outcome>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every event it was to run succeeded.
    Succeeded {
        /// The release that is current on the host, as the host says.
        current: Option<String>,
    },
    /// It was asked to stop, and did, after the event named.
    Stopped(Option<LifecycleEvent>),
    /// It failed.
    Failed(Fault),
    /// Its dispatch was refused as a whole; nothing was sent for this instance. Doesn't count.
    NotSent {
        /// To be sent alone next time: an id among those of the dispatch was the reason.
        alone: bool,
    },
}

impl Outcome {
    /// In words, one line.
    pub fn words(&self) -> String {
        match self {
            Outcome::Succeeded { .. } => "succeeded".into(),
            Outcome::Stopped(Some(event)) => format!("stopped after {event}"),
            Outcome::Stopped(None) => "stopped before the first event".into(),
            Outcome::Failed(fault) => fault.words(),
            Outcome::NotSent { .. } => "not sent".into(),
        }
    }
}

/// An Auto Scaling group.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Group {
    /// Its sizes now.
    pub min: u32,
    /// Its sizes now.
    pub desired: u32,
    /// Its sizes now.
    pub max: u32,
    /// Suspended processes.
    pub suspended: Vec<String>,
    /// What we changed on it and must put back.
    pub hold: Option<Hold>,
}

/// The journal of what we changed on an Auto Scaling group, kept in the store and in the group's tag
/// `drover:restore`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Hold {
    /// The deployment that holds it.
    pub deployment: i64,
    /// MinSize before.
    pub former_min: u32,
    /// Each MinSize that we set, or meant to.
    #[serde(default)]
    pub our_mins: Vec<u32>,
    /// Processes that we suspended.
    pub suspended: Vec<String>,
    /// They were resumed, as AWS has answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub resumed: bool,
    /// MinSize was set back, as AWS has answered.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub min_restored: bool,
    /// Desired capacity was given back for so many instances that don't come back, as AWS has answered …
    #[serde(default, skip_serializing_if = "is_none")]
    pub returned: u32,
    /// … or is about to be, to this number.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub returning: Option<u32>,
    /// The tag is on the group.
    pub tagged: bool,
    /// In standby before we began, by an operator's hand: not ours to put back.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub theirs: Vec<String>,
}

#[allow(clippy::trivially_copy_pass_by_ref)]
fn is_none(count: &u32) -> bool {
    *count == 0
}

impl Hold {
    /// Desired capacity is about to be given back for so many. What is meant stays what it was until AWS has answered.
    pub fn note_return(&mut self, desired: u32) {
        self.returning.get_or_insert(desired);
    }

    /// AWS has answered.
    pub fn note_returned(&mut self, count: u32) {
        (self.returned, self.returning) = (count, None);
    }

    /// Processes are about to be suspended by us.
    pub fn note_suspended(&mut self, processes: &[String]) {
        let new: Vec<String> = processes.iter().filter(|p| !self.suspended.contains(p)).cloned().collect();
        self.suspended.extend(new);
        self.resumed = false;
    }

    /// MinSize is about to be set by us. What is neither the former one nor ours was set by somebody else since: that is
    /// the one to go back to.
    pub fn note_min(&mut self, seen: u32, min: u32) {
        if seen != self.former_min && !self.our_mins.contains(&seen) {
            self.former_min = seen;
        }
        if min != self.former_min && !self.our_mins.contains(&min) {
            self.our_mins.push(min);
        }
        self.min_restored = false;
    }
}

impl Refused {
    /// Whether it is still being tried. What was not tried again for a minute after its pause is no longer wanted: it says
    /// nothing about now.
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.until + SignedDuration::from_mins(1)
    }
}

/// An effect that was refused, and when to try it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How often in a row.
    pub times: u32,
    /// Not before.
    pub until: Timestamp,
    /// Since when it is refused.
    pub since: Timestamp,
    /// AWS refuses drover as such (credentials, permissions, throttling, an outage), not this effect.
    pub of_the_account: bool,
    /// What AWS said.
    pub message: String,
}
