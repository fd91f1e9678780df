//! Dispatches of which it isn't known whether they were sent.

use super::Deployment;
use crate::{
    engine::record::time,
    rollout::adopt::{Adopt, UnconfirmedDispatch, adopt},
    store::DeploymentRow,
};
use jiff::{SignedDuration, Timestamp};
use tracing::info;

/// Nobody asks any more when a dispatch was sent again so long ago.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

impl Deployment<'_> {
    fn note_sent(&mut self, dispatch: &str) {
        let now = Timestamp::now();
        self.sent_again.retain(|_, at| now < *at + FORGOTTEN);
        self.sent_again.insert(dispatch.to_owned(), now);
    }

    /// Adopts or sends again what was left open; true while one has to be looked for once more.
    pub(super) async fn settle_dispatches(&mut self, row: &DeploymentRow) -> anyhow::Result<bool> {
        let unsure = self.engine.store.dispatches(row.id, "intended").await?;
        let Some(oldest) = unsure.first() else { return Ok(false) };
        let listed = self.engine.fleet.commands_since(time(oldest.created_at)).await?;
        let mut look_again = false;
        for dispatch in unsure {
            let since =
                self.sent_again.get(&dispatch.id).copied().unwrap_or_else(|| time(dispatch.created_at));
            let question = UnconfirmedDispatch { id: &dispatch.id, since };
            match adopt(&question, &listed, Timestamp::now()) {
                Adopt::Found(command) => {
                    info!(dispatch = dispatch.id, command, "adopted");
                    let mut tx = self.engine.store.write().await?;
                    tx.set_dispatch(&dispatch.id, "sent", Some(&command)).await?;
                    tx.commit().await?;
                    self.engine
                        .logs
                        .note(row.id, None, &format!("found command {command} again; it goes on"))
                        .await?;
                }
                Adopt::LookAgain => look_again = true,
                Adopt::SendAgain => {
                    info!(dispatch = dispatch.id, "not found: sending the same again");
                    self.note_sent(&dispatch.id);
                    self.send_again(row, &dispatch).await?;
                }
            }
        }
        Ok(look_again)
    }
}
