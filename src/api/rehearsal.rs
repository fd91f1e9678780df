//! Rehearsals.

use serde::{Deserialize, Serialize};

/// What a submission would do to the fleet as it is now.
#[derive(Clone, Debug, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct Rehearsal {
    /// The deployment group, `application/environment`.
    pub group: String,
    /// The full SHA.
    pub sha: String,
    /// The first line of the commit's message.
    pub message: String,
    /// Instances that would be deployed to.
    pub instances: usize,
    /// Instances that count.
    pub total: u32,
    /// Instances that are healthy behind the balancer now.
    pub healthy: u32,
    /// The batches in their order.
    pub batches: Vec<RehearsalBatch>,
    /// Instances that would not be touched.
    pub skipped: Vec<SkippedInstance>,
    /// Instances whose agent can't be reached.
    pub unreachable: Vec<String>,
    /// What may be out at once, and why, in words.
    pub capacity: String,
    /// What it would wait for before it begins, in words: a lock, deployments before it.
    pub queue: Vec<String>,
    /// The policy in words.
    pub policy: Vec<String>,
    /// What would be changed on the Auto Scaling groups while it lasts, in words.
    pub changes: Vec<String>,
    /// What it would wait for on its way, in words.
    pub waits: Vec<String>,
    /// What looks wrong in the configuration or the revision, in words.
    pub lints: Vec<String>,
    /// What would keep it from ending well, in words.
    pub obstacles: Vec<String>,
    /// How long it would take, in seconds.
    pub seconds: i64,
    /// How long it would take and why, in words.
    pub time: String,
}

/// A batch of a rehearsal.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct RehearsalBatch {
    /// Its number, counted from 1.
    pub number: u32,
    /// Its instances.
    pub instances: Vec<PlacedInstance>,
    /// When it begins, in seconds after the start.
    pub begins_seconds: i64,
    /// When it ends, in seconds after the start.
    pub ends_seconds: i64,
}

/// An instance and its zone.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct PlacedInstance {
    /// Its EC2 instance id.
    pub id: String,
    /// Its availability zone.
    pub zone: String,
}

/// An instance that would not be touched.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct SkippedInstance {
    /// Its EC2 instance id.
    pub id: String,
    /// Why not.
    pub why: String,
}
