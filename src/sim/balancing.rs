//! Joins the balancers to the state, which chooses the target of each request and records how it ended.

use std::sync::{Arc, Weak};

use serde_json::json;

use super::balancer::{Ended, Outcome, Picked, Targets};
use super::cloud::Cloud;
use super::state::State;

/// The targets of one target group.
pub(super) struct Pool {
    cloud: Weak<Cloud>,
    target_group: String,
}

impl Pool {
    /// Makes the pool of this target group.
    pub(super) fn new(cloud: &Arc<Cloud>, target_group: &str) -> Self {
        Self { cloud: Arc::downgrade(cloud), target_group: target_group.to_owned() }
    }
}

impl Targets for Pool {
    fn pick(&self) -> Option<Picked> {
        self.cloud.upgrade()?.with(|state| {
            let (instance_id, port) = state.pick_target(&self.target_group)?;
            let host = state.instances.get(&instance_id)?.host.clone();
            Some(Picked { instance_id, host, port })
        })
    }

    fn record(&self, outcome: Outcome) {
        if let Some(cloud) = self.cloud.upgrade() {
            cloud.with(|state| state.record_request(&self.target_group, &outcome));
        }
    }
}

impl State {
    /// Counts a request that has ended, and writes an event where it failed.
    fn record_request(&mut self, arn: &str, outcome: &Outcome) {
        let Some(group) = self.elb.target_groups.get_mut(arn) else { return };
        group.requests += 1;
        let kind = match (&outcome.balancer_error, outcome.ended) {
            (_, Ended::Deregistered) => "request-cut",
            (Some(_), _) | (None, Ended::TargetBroke) => {
                group.failures += 1;
                "balancer-failure"
            }
            _ => return,
        };
        let instance = outcome.instance_id.as_deref().unwrap_or_default();
        let detail = json!({
            "target_group": group.name,
            "status": outcome.status,
            "method": outcome.method,
            "path": outcome.path,
            "upgraded": outcome.upgraded,
            "why": outcome.balancer_error,
        });
        self.events.push(instance, kind, detail);
    }
}
