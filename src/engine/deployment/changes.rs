//! A plan's changes, written down: all or none, before any effect.

use super::Deployment;
use crate::{
    engine::record,
    logs::{lines_of, note_chunk},
    rollout::{
        plan::{Change, Plan},
        state::InstanceState,
    },
    store::DeploymentRow,
};
use jiff::Timestamp;
use tracing::info;

/// What became of a plan's changes.
pub(super) enum Recorded {
    /// They are written down, and the deployment has ended with them.
    Ended,
    /// They are written down.
    GoesOn,
    /// A person has asked something meanwhile: a plan must be made afresh.
    Outdated,
}

impl Deployment<'_> {
    /// Records a plan's changes, all or none.
    pub(super) async fn record(
        &self,
        row: &DeploymentRow,
        plan: &Plan,
        now: Timestamp,
    ) -> anyhow::Result<Recorded> {
        if plan.changes.is_empty() {
            return Ok(Recorded::GoesOn);
        }
        let at = now.as_millisecond();
        let (mut ended, mut rollback) = (false, None);
        let mut tx = self.engine.store.write().await?;
        // A person has asked something since: the row's version has gone up.
        if tx.deployment(row.id).await?.is_none_or(|fresh| fresh.version != row.version) {
            return Ok(Recorded::Outdated);
        }
        for change in &plan.changes {
            match change {
                Change::Instance(instance, note) => {
                    let record = record::json(instance);
                    tx.put_instance(row.id, &instance.id, &instance.state().to_string(), &record).await?;
                    if let Some(note) = note {
                        info!(instance = instance.id, "{}: {note}", instance.state());
                        let text = format!("{}: {note}", instance.state());
                        tx.append_log(row.id, &note_chunk(Some(&instance.id), &lines_of(&text))).await?;
                    }
                    if instance.state() == InstanceState::Restored {
                        tx.end_quarantine(&instance.id).await?;
                        // One that nothing was run on may have had another release than its last good one before.
                        if let Some(good) = instance.good.as_ref().filter(|_| instance.touched) {
                            tx.set_good_revision(&row.group_name, &instance.id, good, at).await?;
                        }
                    }
                    // Without a note nothing has befallen it now: it is in quarantine since before.
                    let fell = instance.failure().filter(|failure| failure.quarantined && note.is_some());
                    if let Some(failure) = fell {
                        let reason = failure.fault.words();
                        tx.put_quarantine(&instance.group, &instance.id, row.id, &reason, at).await?;
                    }
                }
                Change::Good(instance) => {
                    tx.set_good_revision(&row.group_name, instance, &row.sha, at).await?;
                    tx.end_quarantine(instance).await?;
                }
                Change::Batch(number) => {
                    tx.set_batch(row.id, i64::from(*number)).await?;
                    tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("batch {number} begins"))))
                        .await?;
                }
                Change::BatchDone => {
                    tx.set_batch_done(row.id, at).await?;
                }
                Change::Settled => {
                    tx.set_settled(row.id).await?;
                    let text = "the group is in order: it waits for a person";
                    tx.append_log(row.id, &note_chunk(None, &lines_of(text))).await?;
                }
                Change::Report(lines) => {
                    for (instance, words) in lines {
                        tx.append_log(row.id, &note_chunk(Some(instance), &lines_of(words))).await?;
                    }
                }
                Change::RollBack { reason } => {
                    match self.engine.roll_back(&mut tx, row, reason, "on_failure").await? {
                        Ok(new) => rollback = Some(new),
                        Err(why) => {
                            let reason = format!("{reason}; {why}");
                            tx.set_state(row.id, "Halted", Some(&reason), at, false).await?;
                            tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("Halted: {reason}"))))
                                .await?;
                        }
                    }
                }
                Change::Deployment { state, reason } => {
                    ended = state.is_final();
                    tx.set_state(row.id, &state.to_string(), reason.as_deref(), at, ended).await?;
                    let text =
                        reason.as_ref().map_or(state.to_string(), |reason| format!("{state}: {reason}"));
                    info!("{text}");
                    tx.append_log(row.id, &note_chunk(None, &lines_of(&text))).await?;
                }
            }
        }
        tx.commit().await?;
        self.engine.logs.announce(row.id);
        if let Some(new) = rollback {
            self.engine.wake(new);
        }
        Ok(if ended { Recorded::Ended } else { Recorded::GoesOn })
    }
}
