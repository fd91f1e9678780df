//! The planner: one pass over the snapshot, in a fixed order, each step in a file of its own.

mod admit;
mod attempts;
mod cancel;
mod capacity;
mod census;
mod change;
mod departures;
mod draft;
mod effect;
mod effects;
mod explain;
mod finish;
mod launch;
mod patience;
mod planner;
mod pool;
mod progress;
mod put_back;
mod retry;
mod service;
mod systemic;
#[cfg(test)]
mod tests;
mod verdict;

pub use census::Census;
pub use change::{Change, Explain, Plan};
pub use effect::{DispatchKind, Effect, MOST_PER_DISPATCH, MOST_PER_STANDBY, Order, SUSPENDED};
pub use launch::{HEARTBEAT, HELD};
pub use patience::{LAST_TRIES, PATIENCE};
pub use pool::check_pools;

use super::{snapshot::Snapshot, state::transition::Illegal};
use jiff::Timestamp;
use planner::Planner;

/// Makes the plan for this moment.
pub fn plan(snapshot: &Snapshot, now: Timestamp) -> Result<Plan, Illegal> {
    let census = Census::of(snapshot);
    let mut planner = Planner::new(snapshot, &census, now);
    planner.decide()?;
    planner.explain();
    Ok(planner.into_plan())
}

/// Makes the same plan without explanations, from a census that was kept up to date.
pub fn plan_by(census: &Census, snapshot: &Snapshot, now: Timestamp) -> Result<Plan, Illegal> {
    let mut planner = Planner::new(snapshot, census, now);
    planner.decide()?;
    Ok(planner.into_plan())
}

impl Planner<'_> {
    fn decide(&mut self) -> Result<(), Illegal> {
        self.restart_waits_after_outage();
        self.read_departures()?;
        self.read_outcomes()?;
        self.read_fleet()?;
        self.end_unsent_dispatches()?;
        self.apply_cancel()?;
        self.end_overdue_work()?;
        self.resume_due_retries()?;
        if self.is_launch() {
            self.admit_launch()?;
        } else {
            self.fail_unhealthy_in_bake()?;
            self.halt_if_needed()?;
            self.admit_instances()?;
        }
        self.order_effects();
        self.end_if_over();
        Ok(())
    }
}
