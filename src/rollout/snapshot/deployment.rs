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
