//! What a plan says: the changes, the effects, when to look again, and why things wait.

use super::effect::Effect;
use crate::rollout::state::{DeploymentState, Instance};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// What the engine is to do now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Changes to the record, all of which are written before any effect is performed.
    pub changes: Vec<Change>,
    /// Effects to be performed in this order, each recorded before it is performed.
    pub effects: Vec<Effect>,
    /// The time at which to plan again at the latest.
    pub wake_at: Option<Timestamp>,
    /// Why each waiting thing waits.
    pub explain: Explain,
}

impl Plan {
    /// Returns the records of the instances that it changes.
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
    /// Replaces an instance's record; the note says what happened, in words, for the timeline.
    Instance(Box<Instance>, Option<String>),
    /// Sets the deployment's state.
    Deployment {
        /// The state.
        state: DeploymentState,
        /// Why, in words.
        reason: Option<String>,
    },
    /// Begins a batch.
    Batch(u32),
    /// Ends the batch in work: all its instances have finished.
    BatchDone,
    /// Marks a halted or paused deployment as in order, so that a person may look.
    Settled,
    /// Reports at the end of a cancelled deployment which release each instance has, in words.
    Report(Vec<(String, String)>),
    /// Ends it, and queues a deployment of the last good revision.
    RollBack {
        /// Why, in words.
        reason: String,
    },
    /// Makes the revision the last good one of this instance, which has it, validated and healthy.
    Good(String),
}

/// Why things wait, in words: what CLI, page and API show.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Explain {
    /// Why the deployment waits.
    pub deployment: Vec<String>,
    /// Why each instance waits, but for those whose turn has not come.
    pub instances: BTreeMap<String, String>,
    /// Why all those wait whose turn has not come.
    pub waiting: Option<String>,
}

impl Explain {
    /// Returns why this instance waits, if it does.
    pub fn of(&self, record: &Instance) -> Option<&str> {
        let own = self.instances.get(&record.id);
        own.or(self.waiting.as_ref().filter(|_| record.awaits_turn())).map(String::as_str)
    }
}
