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
    pub outage: Option<Outage>,
    /// It can be seen again, for the first time since.
    pub outage_ended: bool,
}

/// Why the fleet can't be seen, and since when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Outage {
    /// Since when.
    pub since: Timestamp,
    /// The call that fails, and how.
    pub why: String,
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

impl Refused {
    /// Whether it is still being tried. What was not tried again for a minute after its pause is no longer wanted: it says
    /// nothing about now.
    pub fn is_current(&self, now: Timestamp) -> bool {
        now < self.until + SignedDuration::from_mins(1)
    }
}
