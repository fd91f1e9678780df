//! What a plan is made from: what the store remembers beside what the fleet shows at this moment.

mod attempt;
mod deployment;
mod group;
mod member;

pub use attempt::{Attempt, Outcome};
pub use deployment::{Cancel, Deployment};
pub use group::{Group, Hold};
pub use member::{Health, Lifecycle, Member, Sight};

use super::policy::Policy;
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;

/// Everything that a plan is made from.
#[derive(Clone, Debug)]
pub struct Snapshot {
    /// The deployment.
    pub deployment: Deployment,
    /// Its group's policy, with the submission's overrides.
    pub policy: Policy,
    /// What the revision asks for.
    pub revision: Revision,
    /// Its instances: their records, what the fleet shows of them, and their attempts.
    pub members: Vec<Member>,
    /// The Auto Scaling groups, by name.
    pub groups: BTreeMap<String, Group>,
    /// Waits that follow from the target groups' settings.
    pub timing: Timing,
    /// Effects that were refused lately, by [`super::plan::Effect::key`].
    pub refused: BTreeMap<String, Refused>,
    /// Set while the fleet can't be observed: the members then show what was last seen of them.
    pub outage: Option<Outage>,
    /// Whether this is the first look after such an outage.
    pub outage_ended: bool,
}

/// A time in which the fleet can't be observed: since when, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// When it began.
    pub since: Timestamp,
    /// The call that fails, and its error.
    pub why: String,
}

/// What the revision's `appspec.yml` asks for, as far as planning goes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Revision {
    /// Whether it has BeforeBlockTraffic hooks.
    pub pre_block: bool,
    /// What the releases that run before ask for, by SHA.
    #[serde(default)]
    pub former: BTreeMap<String, Former>,
    /// Whether it has AfterAllowTraffic hooks.
    pub post_allow: bool,
    /// The longest that one dispatch may take: the sum of its hooks' time-outs, seconds.
    pub run_seconds: i64,
}

/// What a release that runs before asks for: its own hooks are run until it has stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Former {
    /// Whether it has BeforeBlockTraffic hooks.
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

/// An effect that was refused, and when to try it again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refused {
    /// How often it was refused in a row.
    pub times: u32,
    /// When to try it again.
    pub until: Timestamp,
    /// When it was first refused.
    pub since: Timestamp,
    /// Whether AWS refuses drover as a whole (credentials, permissions, throttling, an outage) and not this effect.
    pub of_the_account: bool,
    /// AWS's message.
    pub message: String,
}

impl Refused {
    /// Whether the effect is still being tried. One that was not tried again within a minute after its pause is no longer
    /// needed.
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.until + SignedDuration::from_mins(1)
    }
}
