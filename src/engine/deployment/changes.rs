//! A plan's changes, written down: all or none, before any effect.

use super::Deployment;
use crate::{
    engine::record,
    logs::{lines_of, note_chunk},
    rollout::{
        plan::{Change, Plan},
        state::{Instance, InstanceState},
    },
    store::{DeploymentRow, InstanceWrite, QuarantineWrite, StoreError, Tx},
};
use jiff::Timestamp;
use std::collections::{BTreeMap, BTreeSet};
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

/// What a plan changes of instances, gathered so that it is written in the same number of statements however many they are.
#[derive(Default)]
struct Writes {
    records: BTreeMap<String, InstanceWrite>,
    /// Lines of the deployment's log, each of an instance or of the deployment itself.
    notes: Vec<(Option<String>, Vec<u8>)>,
    /// The revision that each of these instances is known to run well.
    goods: BTreeMap<String, String>,
    /// Instances whose quarantine ends.
    freed: BTreeSet<String>,
    quarantined: BTreeMap<String, QuarantineWrite>,
}

impl Writes {
    fn note(&mut self, instance: Option<&str>, words: &str) {
        self.notes.push((instance.map(str::to_owned), lines_of(words)));
    }

    fn change_instance(&mut self, instance: &Instance, note: Option<&str>) {
        self.records.insert(instance.id.clone(), record::write_of(instance));
        if let Some(note) = note {
            info!(instance = instance.id, "{}: {note}", instance.state());
            self.note(Some(&instance.id), &format!("{}: {note}", instance.state()));
        }
        if instance.state() == InstanceState::Restored {
            self.freed.insert(instance.id.clone());
            // One that nothing was run on may have had another release than its last good one before.
            if let Some(good) = instance.good.as_ref().filter(|_| instance.touched) {
                self.goods.insert(instance.id.clone(), good.clone());
            }
        }
        // Without a note nothing has befallen it now: it is in quarantine since before.
        let fell = instance.failure().filter(|failure| failure.quarantined && note.is_some());
        if let Some(failure) = fell {
            let quarantine = QuarantineWrite {
                auto_scaling_group: instance.group.clone(),
                instance: instance.id.clone(),
                reason: failure.fault.words(),
            };
            self.quarantined.insert(instance.id.clone(), quarantine);
        }
    }

    /// Writes everything gathered.
    async fn flush(self, tx: &mut Tx<'_>, row: &DeploymentRow, at: i64) -> Result<(), StoreError> {
        let Writes { records, notes, goods, freed, quarantined } = self;
        tx.put_instances(row.id, &records.into_values().collect::<Vec<_>>()).await?;
        tx.set_good_revisions(&row.group_name, &goods.into_iter().collect::<Vec<_>>(), at).await?;
        tx.end_quarantines(&freed.into_iter().collect::<Vec<_>>()).await?;
        tx.put_quarantines(row.id, &quarantined.into_values().collect::<Vec<_>>(), at).await?;
        if !notes.is_empty() {
            let notes: Vec<_> =
                notes.iter().map(|(instance, text)| note_chunk(instance.as_deref(), text)).collect();
            tx.append_logs(row.id, &notes).await?;
        }
        Ok(())
    }
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
        let mut writes = Writes::default();
        for change in &plan.changes {
            match change {
                Change::Instance(instance, note) => writes.change_instance(instance, note.as_deref()),
                Change::Good(instance) => {
                    writes.goods.insert(instance.clone(), row.sha.clone());
                    writes.freed.insert(instance.clone());
                }
                Change::Batch(number) => {
                    tx.set_batch(row.id, i64::from(*number)).await?;
                    writes.note(None, &format!("batch {number} begins"));
                }
                Change::BatchDone => {
                    tx.set_batch_done(row.id, at).await?;
                }
                Change::Settled => {
                    tx.set_settled(row.id).await?;
                    writes.note(None, "the group is in order: it waits for a person");
                }
                Change::Report(lines) => {
                    lines.iter().for_each(|(instance, words)| writes.note(Some(instance), words));
                }
                Change::RollBack { reason } => {
                    // It goes by what the store has, and writes lines of its own.
                    std::mem::take(&mut writes).flush(&mut tx, row, at).await?;
                    match self.engine.roll_back(&mut tx, row, reason, "on_failure").await? {
                        Ok(new) => rollback = Some(new),
                        Err(why) => {
                            let reason = format!("{reason}; {why}");
                            tx.set_state(row.id, "Halted", Some(&reason), at, false).await?;
                            writes.note(None, &format!("Halted: {reason}"));
                        }
                    }
                }
                Change::Deployment { state, reason } => {
                    ended = state.is_final();
                    tx.set_state(row.id, &state.to_string(), reason.as_deref(), at, ended).await?;
                    let text =
                        reason.as_ref().map_or(state.to_string(), |reason| format!("{state}: {reason}"));
                    info!("{text}");
                    writes.note(None, &text);
                }
            }
        }
        writes.flush(&mut tx, row, at).await?;
        tx.commit().await?;
        self.engine.logs.announce(row.id);
        if let Some(new) = rollback {
            self.engine.wake(new);
        }
        Ok(if ended { Recorded::Ended } else { Recorded::GoesOn })
    }
}
