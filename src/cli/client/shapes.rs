//! What the API shows and takes, as far as the command line reads it.

use serde::{Deserialize, Serialize};

/// A deployment as the API shows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Deployment {
    /// Its number.
    pub id: u64,
    /// The deployment group, `application/environment`.
    pub group: String,
    /// What is deployed.
    pub revision: Revision,
    /// `Queued`, `Rolling`, `Succeeded` …
    pub state: String,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// Who asked for it.
    #[serde(deserialize_with = "null_is_empty")]
    pub by: String,
    /// When it was submitted (RFC 3339).
    pub created_at: Option<String>,
    /// When it left the queue.
    pub started_at: Option<String>,
    /// When it ended.
    pub finished_at: Option<String>,
    /// The exit code for a command line; null while it runs.
    pub exit_code: Option<i32>,
    /// Why each waiting thing waits.
    pub explain: Vec<String>,
    /// Seconds until it is through, if all goes well.
    pub seconds_left: Option<i64>,
    /// How ready the way back is.
    pub way_back: Option<String>,
    /// How many instances are where.
    pub counts: Counts,
    /// Attempts over all instances.
    pub attempts: u64,
    /// The instances; empty in a listing of deployments.
    pub instances: Vec<Instance>,
    /// The last log line's sequence number.
    pub last_seq: u64,
}

/// A deployment's revision.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Revision {
    /// The full SHA; empty until it is resolved.
    #[serde(deserialize_with = "null_is_empty")]
    pub sha: String,
    /// What was asked for: a SHA, a branch or a tag.
    pub requested: String,
    /// `owner/name`.
    #[serde(deserialize_with = "null_is_empty")]
    pub repository: String,
    /// The commit's message.
    pub message: Option<String>,
}

fn null_is_empty<'de, D: serde::Deserializer<'de>>(from: D) -> Result<String, D::Error> {
    Ok(Option::<String>::deserialize(from)?.unwrap_or_default())
}

/// Numbers of instances.
#[derive(Debug, Clone, Copy, Default, Deserialize)]
#[serde(default)]
pub struct Counts {
    /// On the new revision and healthy.
    pub succeeded: u64,
    /// Ended failed.
    pub failed: u64,
    /// Being worked on.
    pub in_work: u64,
    /// Still to come.
    pub pending: u64,
    /// Passed over, since they had the revision.
    pub skipped: u64,
    /// Back on their former release.
    pub restored: u64,
    /// Left the group meanwhile.
    pub gone: u64,
    /// All of them.
    pub total: u64,
}

/// An instance within a deployment.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Instance {
    /// Its EC2 instance id.
    pub id: String,
    /// Its availability zone.
    pub zone: Option<String>,
    /// `Pending`, `Blocking`, `Succeeded` …
    pub state: String,
    /// The batch it belongs to, counted from 1.
    pub batch: Option<u64>,
    /// How many attempts were made on it.
    pub attempts: u64,
    /// The lifecycle event at which it is or at which it ended.
    pub event: Option<String>,
    /// Why it is in this state.
    pub reason: Option<String>,
    /// What it waits for.
    pub explain: Option<String>,
    /// Since when it is in this state (RFC 3339).
    pub since: Option<String>,
}

/// A deployment group as the API shows it.
#[derive(Debug, Clone, Default, Deserialize)]
#[serde(default)]
pub struct Group {
    /// `application/environment`.
    pub name: String,
    /// `owner/name`.
    pub repository: String,
    /// The branch whose commits may be deployed.
    pub branch: Option<String>,
    /// Whether a push to the branch deploys by itself.
    pub auto_deploy: bool,
    /// The last good revision.
    pub revision: Option<String>,
    /// How many instances it has, where that is known.
    pub instances: Option<u64>,
    /// The deployment that runs, if one does.
    pub running: Option<u64>,
    /// By whom, since when and why it is locked, if it is.
    pub locked: Option<String>,
    /// Why its launches wait for a person, if they do.
    pub alarm: Option<String>,
    /// The rollout policy, as the daemon words it.
    pub policy: serde_json::Value,
}

#[derive(Deserialize)]
pub(crate) struct Groups {
    pub groups: Vec<Group>,
}

#[derive(Deserialize)]
pub(crate) struct Deployments {
    pub deployments: Vec<Deployment>,
}

/// What to submit. What is left out comes from the group's policy.
#[derive(Debug, Clone, Default, Serialize, clap::Args)]
pub struct Submission {
    /// A full or abbreviated SHA, a branch or a tag.
    pub revision: String,
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(long, short, value_name = "APP/ENV", value_parser = super::group_name)]
    pub group: String,
    /// Instances at a time: a count, a percentage, or steps separated by commas ("1,10%,50%").
    #[arg(long, value_name = "BATCH")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub batch: Option<String>,
    /// Wait for the whole batch, or start the next instance as one finishes.
    #[arg(long, value_enum)]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub mode: Option<Mode>,
    /// Healthy instances that must stay in service: a count or a percentage.
    #[arg(long, value_name = "X")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub min_in_service: Option<String>,
    /// Instances that may end failed: a count or a percentage.
    #[arg(long, value_name = "X")]
    #[serde(skip_serializing_if = "Option::is_none")]
    pub max_failed: Option<String>,
}

/// How the instances of a batch follow each other.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, clap::ValueEnum)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// A batch begins when the one before it is done.
    Batch,
    /// A batch's number of instances is in work at any time.
    Window,
}

/// Which of a deployment's log lines are asked for.
#[derive(Debug, Clone, Default, Serialize)]
pub struct LogQuery {
    /// Only lines after this sequence number.
    pub after: u64,
    /// Whether the answer goes on until the deployment has ended or halted.
    pub follow: bool,
    /// Only this instance's lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instance: Option<String>,
    /// Only this lifecycle event's lines.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub event: Option<String>,
}
