//! A deployment's own record.

use crate::rollout::state::DeploymentState;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// The deployment's own record.
#[derive(Clone, Debug)]
pub struct Deployment {
    /// Its number.
    pub id: i64,
    /// Its deployment group.
    pub group: String,
    /// The revision that it brings.
    pub sha: String,
    /// Its state.
    pub state: DeploymentState,
    /// Why it is in that state, in words, if there is something to say.
    pub reason: Option<String>,
    /// When it left the queue.
    pub started_at: Timestamp,
    /// When its state last changed.
    pub since: Timestamp,
    /// The batch in work; 0 before the first.
    pub batch: u32,
    /// When the last instance of that batch had finished; the bake counts from then.
    pub batch_done_at: Option<Timestamp>,
    /// Healthy behind the balancer when it began.
    pub healthy_at_start: u32,
    /// Members when it began.
    pub total_at_start: u32,
    /// How a person asked to cancel it, if one did.
    pub cancel: Option<Cancel>,
    /// When it was first asked to cancel.
    pub cancelled_at: Option<Timestamp>,
    /// Whether it is halted or paused with nothing in work and everything put back.
    pub settled: bool,
    /// When a person last resumed it; failures before that no longer count.
    pub resumed_at: Option<Timestamp>,
    /// Whether a person approved what `approve_after` waits for.
    pub approved: bool,
    /// When it was approved; the deployment's own deadline counts from then.
    pub approved_at: Option<Timestamp>,
    /// The group's last good revision, if it has one and that is another than this deployment's.
    pub fallback: Option<String>,
    /// Whether another deployment brings back what this one changed.
    pub rolled_back: bool,
    /// The lifecycle hook that holds its one instance in Pending:Wait, where it is for an instance that launches.
    pub launch: Option<String>,
}

impl Deployment {
    /// Makes the record of one that begins to roll now, with `total` members of which `healthy` are healthy.
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
