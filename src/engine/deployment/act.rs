//! Performing a plan's effects, and the pace of those that AWS refuses.

use super::Deployment;
use crate::{
    fleet::FleetError,
    rollout::{plan::Effect, snapshot::Snapshot},
    store::DeploymentRow,
};

impl Deployment<'_> {
    /// Performs an effect; false if it was refused and waits for its next try.
    pub(super) async fn act(
        &mut self,
        row: &DeploymentRow,
        snapshot: &Snapshot,
        effect: &Effect,
    ) -> anyhow::Result<bool> {
        let done = match effect {
            Effect::Dispatch { kind, orders } => return self.dispatch(row, *kind, orders).await,
            Effect::Stop { instance, attempt, now } => {
                self.stop_attempt(row, instance, *attempt, *now).await?
            }
            other => {
                self.looks.expire();
                self.engine.change_group(row.id, Some(snapshot), other).await?
            }
        };
        Ok(self.remember(effect, done))
    }

    /// Keeps count of refusals; true if there was none.
    pub(super) fn remember(&mut self, effect: &Effect, done: Result<(), FleetError>) -> bool {
        self.refusals.note(self.id, effect, done)
    }
}
