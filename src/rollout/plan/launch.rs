//! An instance that launches, held in Pending:Wait by the deployment group's lifecycle hook: the revision is installed
//! before it goes into service for the first time. It is behind no balancer, so nothing is drained, and nobody's
//! capacity is touched.

use super::{effect::Effect, planner::Planner};
use crate::rollout::{
    snapshot::Lifecycle,
    state::{
        InstanceState as S,
        transition::{Illegal, Step},
    },
};
use jiff::SignedDuration;

/// How often a heartbeat keeps the launch waiting; the hook that drover installs gives up after three of them.
pub const HEARTBEAT: SignedDuration = SignedDuration::from_mins(5);
/// How long after it an answer without visible effect is repeated; while another hook holds the launch too, none is
/// visible.
const ANSWER_AGAIN: SignedDuration = SignedDuration::from_secs(30);
/// The lifecycle state of a launch that is held.
pub const HELD: &str = "Pending:Wait";

impl Planner<'_> {
    /// Whether the deployment is for an instance that launches.
    pub(super) fn is_launch(&self) -> bool {
        self.snapshot.deployment.launch.is_some()
    }

    /// Stages the instance, then lets its hooks run at once.
    pub(super) fn admit_launch(&mut self) -> Result<(), Illegal> {
        let stopped = self.snapshot.deployment.cancel.is_some() || self.state.waits_for_a_person();
        if stopped || self.outage().is_some() {
            return Ok(());
        }
        for draft in &mut self.drafts {
            match draft.record.state() {
                S::Pending => draft.step(Step::Stage, self.now, "staging")?,
                S::Staged => {
                    draft.step(Step::DeployAtLaunch, self.now, "its hooks run before it goes into service")?
                }
                _ => {}
            }
        }
        Ok(())
    }

    /// Orders that the launch proceeds, is abandoned, or is kept waiting.
    pub(super) fn launch_effects(&mut self) {
        let Some(hook) = self.snapshot.deployment.launch.clone() else { return };
        let (mut effects, mut next) = (Vec::new(), None);
        for draft in &mut self.drafts {
            if draft.sight.lifecycle != Lifecycle::Coming(HELD.into()) {
                continue;
            }
            let (group, instance) = (draft.record.group.clone(), draft.record.id.clone());
            let proceed = match draft.record.state() {
                S::Allowing | S::PostAllowing | S::Succeeded => Some(true),
                S::Failed | S::Skipped | S::Restored => Some(false),
                _ => None,
            };
            if let Some(proceed) = proceed {
                let due = draft.record.answered.map_or(self.now, |last| last + ANSWER_AGAIN);
                if self.now < due {
                    next = Some(due);
                    continue;
                }
                draft.record.answered = Some(self.now);
                effects.push(Effect::CompleteLaunch { group, instance, hook: hook.clone(), proceed });
                continue;
            }
            let due = draft.record.heartbeat.map_or(self.now, |last| last + HEARTBEAT);
            if self.now >= due {
                draft.record.heartbeat = Some(self.now);
                effects.push(Effect::Heartbeat { group, instance, hook: hook.clone() });
            } else {
                next = Some(due);
            }
        }
        self.plan.effects.extend(effects);
        if let Some(due) = next {
            self.wake(due);
        }
    }
}
