//! Deployments and what may be asked of them.

use crate::rollout::verb::Verb;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A deployment. A reader takes what a daemon of another version leaves out as empty.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Its number.
    pub id: i64,
    /// The deployment group, `application/environment`.
    pub group: String,
    /// What is deployed.
    pub revision: Revision,
    /// `Queued`, `Rolling`, `Succeeded` …
    pub state: String,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Who or what asked for it.
    pub by: String,
    /// The deployment that this one rolls back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<i64>,
    /// The deployment that rolls this one back.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_by: Option<i64>,
    /// What may be asked of it now, besides cancelling.
    pub verbs: Vec<Verb>,
    /// When it was submitted.
    pub created_at: Timestamp,
    /// When it left the queue.
    pub started_at: Option<Timestamp>,
    /// When it ended.
    pub finished_at: Option<Timestamp>,
    /// What a command that waits for it ends with; null while it goes on.
    pub exit_code: Option<i32>,
    /// Why it waits, a line for each reason.
    pub explain: Vec<String>,
    /// Seconds until it is through, if all goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<i64>,
    /// How ready the way back is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_back: Option<String>,
    /// The instance that it is for alone: a retry of it, or its launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_instance: Option<String>,
    /// Instances by where they stand.
    pub counts: Counts,
    /// Attempts over all instances; absent in a list of deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    /// The instances; absent in a list of deployments.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<Vec<Instance>>,
    /// Its failed instances by what failed on them, the largest number first; absent in a list of deployments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub failures: Vec<Failures>,
    /// What its hooks printed as `::error::`, `::warning::` and `::notice::`, the first 50; absent in a list of deployments.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub annotations: Vec<Note>,
    /// The number of the last line of its log.
    pub last_seq: i64,
}

/// What a hook printed for people to see without reading the log.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Note {
    /// The number of its line in the log.
    pub seq: i64,
    /// `error`, `warning` or `notice`.
    pub level: String,
    /// The instance that it comes from.
    pub instance: String,
    /// The lifecycle event.
    pub event: String,
    /// The message, one line.
    pub text: String,
}

/// Instances of a deployment that failed in the same way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Failures {
    /// What failed, how and on how many, in one line.
    pub words: String,
    /// The last line of the hook's output on the first of them.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub line: Option<String>,
    /// The instances' ids.
    pub instances: Vec<String>,
}

impl Deployment {
    /// The instances; none in a list of deployments.
    pub fn instances(&self) -> &[Instance] {
        self.instances.as_deref().unwrap_or_default()
    }
}

/// A deployment's revision.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Revision {
    /// The full SHA.
    pub sha: String,
    /// What was asked for: a SHA, a branch or a tag.
    pub requested: String,
    /// The repository, `owner/name`.
    pub repository: String,
    /// The first line of the commit's message.
    pub message: String,
}

/// Numbers of instances by where they stand.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// On the new revision and healthy.
    pub succeeded: i64,
    /// Ended failed.
    pub failed: i64,
    /// Being worked on.
    pub in_work: i64,
    /// Still to come.
    pub pending: i64,
    /// Passed over, since they had the revision.
    pub skipped: i64,
    /// Left the group meanwhile.
    pub gone: i64,
    /// Back on their former release.
    pub restored: i64,
    /// All of them.
    pub total: i64,
}

/// An instance within a deployment.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its EC2 instance id.
    pub id: String,
    /// Its availability zone.
    pub zone: String,
    /// `Pending`, `Blocking`, `Succeeded` …
    pub state: String,
    /// The batch it belongs to, counted from 1.
    pub batch: Option<u32>,
    /// How many attempts were made on it.
    pub attempts: u32,
    /// The lifecycle event at which it failed.
    pub event: Option<String>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Last lines of the hook that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    /// What it waits for.
    pub explain: Option<String>,
    /// Since when it is in this state.
    pub since: Option<Timestamp>,
    /// Whether it is kept out of the balancer.
    pub quarantined: bool,
}

/// A list of deployments, newest first.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeploymentList {
    /// The deployments, without their instances.
    pub deployments: Vec<Deployment>,
}

/// Which deployments are listed.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
pub struct DeploymentQuery {
    /// Only those of this group.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub group: Option<String>,
    /// At most so many; 50 if absent, 500 at most.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub limit: Option<i64>,
}

/// How a deployment is cancelled.
#[derive(Clone, Copy, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CancelRequest {
    /// Stops the hooks that run, rather than let the running lifecycle events end.
    #[serde(default)]
    pub now: bool,
}

/// What goes with a verb.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct VerbRequest {
    /// For `retry`: this instance alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_deployment_may_lack_what_it_does_not_know_yet() {
        let deployment: Deployment = serde_json::from_str(r#"{"id":7,"state":"Queued","new":1}"#).unwrap();
        assert_eq!((deployment.id, deployment.state.as_str()), (7, "Queued"));
        assert!(deployment.instances().is_empty());
    }
}
