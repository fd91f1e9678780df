//! What a plan says: the changes, the effects, when to look again, and why things wait.

use super::effect::Effect;
use crate::rollout::state::{DeploymentState, Instance};
use jiff::Timestamp;
use std::collections::BTreeMap;

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
