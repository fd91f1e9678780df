//! Dispatches of which it isn't known whether they were sent.

use super::{Engine, record::time};
use crate::{
    rollout::adopt::{Adopt, Unsure, adopt},
    store::DeploymentRow,
};
use jiff::{SignedDuration, Timestamp};
use tracing::info;

/// ListCommands is asked for commands since the intent, less this: clocks differ.
const CLOCKS_DIFFER: SignedDuration = SignedDuration::from_mins(5);

impl Engine {
    /// Adopts or sends again what was left open; true while one has to be looked for once more.
    pub(super) async fn settle_dispatches(&self, row: &DeploymentRow) -> anyhow::Result<bool> {
        let unsure = self.store.dispatches(row.id, "intended").await?;
        let Some(oldest) = unsure.first() else { return Ok(false) };
        let listed = self.fleet.commands_since(time(oldest.created_at) - CLOCKS_DIFFER).await?;
        let mut look_again = false;
        for dispatch in unsure {
            let question = Unsure { id: &dispatch.id, since: time(dispatch.created_at) };
            match adopt(&question, &listed, Timestamp::now()) {
                Adopt::Found(command) => {
                    info!(dispatch = dispatch.id, command, "adopted");
                    let mut tx = self.store.write().await?;
                    tx.set_dispatch(&dispatch.id, "sent", Some(&command)).await?;
                    tx.commit().await?;
                    self.logs
                        .note(row.id, None, &format!("found command {command} again; it goes on"))
                        .await?;
                }
                Adopt::Look => look_again = true,
                Adopt::Reissue => {
                    info!(dispatch = dispatch.id, "not found: sending the same again");
                    self.send_again(row, &dispatch).await?;
                }
            }
        }
        Ok(look_again)
    }
}
