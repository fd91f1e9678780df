//! Deployment groups and what is done to them.

use crate::rollout::policy::{Mode, Size};
use jiff::{SignedDuration, Timestamp};
use serde::{Deserialize, Serialize};

/// A deployment group.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Group {
    /// `application/environment`.
    pub name: String,
    /// The repository, `owner/name`.
    pub repository: String,
    /// The branch whose commits may be deployed.
    pub branch: String,
    /// Whether a push to the branch deploys by itself.
    pub auto_deploy: bool,
    /// The names of its Auto Scaling groups.
    pub auto_scaling_groups: Vec<String>,
    /// The last good revision's SHA.
    pub revision: Option<String>,
    /// By whom, since when and why it is locked, if it is.
    pub locked: Option<String>,
    /// Why its launches wait for a person, if they do.
    pub alarm: Option<String>,
    /// The last few things that people did to it, newest first.
    pub acts: Vec<Act>,
    /// How many instances it has, where that is known.
    pub instances: Option<usize>,
    /// The rollout policy.
    pub policy: GroupPolicy,
    /// The deployment that is under way, if one is.
    pub running: Option<i64>,
}

/// The parts of a group's rollout policy that a submission may replace.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct GroupPolicy {
    /// Instances at a time, in words.
    pub batch: String,
    /// How one instance or batch follows another.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Healthy instances that must stay in service; null: healthy at the start, less a batch.
    pub min_in_service: Option<Size>,
    /// Instances that may end failed.
    pub max_failed: Option<Size>,
}

/// Something that a person did to a deployment group itself.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Act {
    /// When.
    pub at: Timestamp,
    /// Who did it.
    pub by: String,
    /// What was done, in words.
    pub what: String,
}

/// The deployment groups.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct GroupList {
    /// The groups by name.
    pub groups: Vec<Group>,
}

/// How a group is locked.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LockRequest {
    /// Why, for those who meet the lock.
    pub reason: String,
    /// For how long; until it is unlocked if absent.
    #[serde(default, rename = "for", skip_serializing_if = "Option::is_none")]
    pub lasts: Option<SignedDuration>,
}

/// A group's lock after it was changed.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct LockAnswer {
    /// The group, `application/environment`.
    pub group: String,
    /// By whom, since when and why it is locked; null: it is not.
    pub locked: Option<String>,
}

/// What a group runs that something else has deployed to.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct AdoptRequest {
    /// The commit: a full or abbreviated SHA, a branch or a tag.
    pub revision: String,
}

/// What was done.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct DoneAnswer {
    /// A line of words for each thing.
    pub done: Vec<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_locks_time_is_read_as_people_and_as_programs_write_it() {
        for lasts in ["2h", "PT2H", "120m"] {
            let text = format!(r#"{{"reason":"x","for":"{lasts}"}}"#);
            let read: LockRequest = serde_json::from_str(&text).unwrap();
            assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"reason":"x","for":"PT2H"}"#);
        }
        let read: LockRequest = serde_json::from_str(r#"{"reason":"x","for":null}"#).unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), r#"{"reason":"x"}"#);
    }
}
