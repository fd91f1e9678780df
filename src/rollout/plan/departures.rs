//! Instances that leave the Auto Scaling group during a rollout, and what that means.

use super::{planner::Planner, service::leaves_by_standby};
use crate::rollout::{
    event::LifecycleEvent,
    snapshot::Lifecycle,
    state::{
        Cause, DeploymentState, Fault, Goal, InstanceState as S,
        transition::{Illegal, Step},
    },
};

impl Planner<'_> {
    /// Marks instances that left the group as gone, whatever their state. One that a health check removed after it had
    /// received the revision has failed instead: Auto Scaling was faster than drover's own deadline.
    pub(super) fn read_departures(&mut self) -> Result<(), Illegal> {
        if self.outage().is_some() {
            return Ok(());
        }
        let over = self.state != DeploymentState::Rolling;
        for draft in &mut self.drafts {
            if draft.sight.lifecycle != Lifecycle::Leaving {
                continue;
            }
            let state = draft.record.state();
            let serves = matches!(state, S::Allowing | S::PostAllowing) || state == S::Succeeded && !over;
            match draft.sight.failed_health_check.clone() {
                Some(why) if serves && draft.record.touched && draft.record.goal == Goal::New => {
                    let cause = Cause::Unhealthy(why);
                    let fault =
                        Fault { event: LifecycleEvent::AllowTraffic, hook: None, cause, tail: Vec::new() };
                    let note = format!("{}; Auto Scaling has taken it away", fault.words());
                    let step = if state == S::Succeeded { Step::Relapse } else { Step::Fail };
                    draft.end_by(step, fault, false, self.now, note)?;
                }
                _ if !draft.record.state().is_final() => {
                    let out = draft.record.left_desired_capacity
                        || matches!(draft.record.state_after_wait(), S::Deploying | S::Restoring);
                    let from_standby = out && leaves_by_standby(&draft.record) && !draft.sight.scaled_in;
                    draft.step(Step::Leave { from_standby }, self.now, "left the Auto Scaling group")?;
                }
                _ => {}
            }
        }
        Ok(())
    }
}
