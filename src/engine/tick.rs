//! One deployment's task: ticks until it has ended.

use super::{Engine, record};
use crate::{
    logs::{lines_of, note_chunk},
    rollout::{
        plan::{Change, Plan, plan},
        state::{DeploymentState, InstanceState},
    },
    store::{DeploymentRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::{sync::PoisonError, time::Duration};
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// When nothing is in work (halted, baking), AWS is asked this often.
const IDLE: SignedDuration = SignedDuration::from_secs(10);
/// Pause after a tick that failed; AWS or the store is in trouble.
const TROUBLE: Duration = Duration::from_secs(3);

/// What a tick leads to.
enum Next {
    /// The deployment has ended.
    Ended,
    /// Tick again at once: something changed.
    Now,
    /// Tick again then, or when woken.
    At(Timestamp),
}

impl Engine {
    pub(super) async fn drive(&self, id: i64, notify: &Notify) {
        // What was wrong, and whether the log says so: it can't while the store is away.
        let mut trouble: Option<(String, bool)> = None;
        while !self.stop.is_cancelled() {
            let pause = match self.tick(id).await {
                Ok(Next::Ended) => return,
                Ok(next) => {
                    if let Some((words, noted)) = trouble.take() {
                        let text =
                            if noted { "going on".into() } else { format!("waited: {words}; going on") };
                        let _ = self.logs.note(id, None, &text).await;
                    }
                    match next {
                        Next::At(at) => {
                            Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
                        }
                        _ => continue,
                    }
                }
                Err(error) => {
                    if matches!(error.downcast_ref(), Some(StoreError::Stale { .. })) {
                        error!("{error}");
                        self.stop.cancel();
                        return;
                    }
                    let words = format!("{error:#}");
                    warn!("waiting: {words}");
                    if trouble.as_ref().is_none_or(|(before, _)| *before != words) {
                        let note = format!("waiting: {words}; trying again");
                        let noted = self.logs.note(id, None, &note).await.is_ok();
                        trouble = Some((words, noted));
                    }
                    TROUBLE
                }
            };
            tokio::select! {
                () = notify.notified() => {}
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    async fn tick(&self, id: i64) -> anyhow::Result<Next> {
        let Some(row) = self.store.deployment(id).await? else { return Ok(Next::Ended) };
        match row.state.parse::<DeploymentState>().map_err(anyhow::Error::msg)? {
            state if state.is_final() => Ok(Next::Ended),
            DeploymentState::Queued if row.cancel.is_some() => {
                self.end(id, "Cancelled", "cancelled in the queue").await?;
                Ok(Next::Ended)
            }
            DeploymentState::Queued => {
                self.begin(&row).await?;
                Ok(Next::Now)
            }
            DeploymentState::Preparing if row.cancel.is_some() => {
                self.end(id, "Cancelled", "cancelled before any instance was touched").await?;
                Ok(Next::Ended)
            }
            DeploymentState::Preparing => {
                self.prepare(&row).await?;
                Ok(Next::Now)
            }
            _ => self.roll(&row).await,
        }
    }

    async fn begin(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        let mut tx = self.store.write().await?;
        tx.set_state(row.id, "Preparing", None, Timestamp::now().as_millisecond(), false).await?;
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    async fn roll(&self, row: &DeploymentRow) -> anyhow::Result<Next> {
        if self.settle_dispatches(row).await? {
            return Ok(Next::At(Timestamp::now() + SignedDuration::from_secs(1)));
        }
        self.read_uploads(row).await?;
        self.read_invocations(row).await?;
        // Read after the invocations, which may have written outcomes.
        let snapshot = self.observe(row).await?;
        let now = Timestamp::now();
        let plan = plan(&snapshot, now)?;
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id, plan.explain.clone());
        let mut again = !plan.changes.is_empty();
        let ended = self.record(row, &plan, now).await?;
        if ended {
            return Ok(Next::Ended);
        }
        for effect in &plan.effects {
            again |= self.act(row, &snapshot, effect).await?;
        }
        self.estimate(row, &snapshot).await?;
        if again {
            return Ok(Next::Now);
        }
        let busy = snapshot.members.iter().any(|member| {
            member.record.in_work()
                || matches!(member.record.state, InstanceState::Staging | InstanceState::Waiting)
        });
        let poll = if busy { self.config.server.poll } else { IDLE };
        let at = now + poll;
        Ok(Next::At(plan.wake_at.map_or(at, |wake| wake.min(at)).max(now + SignedDuration::from_millis(20))))
    }

    /// Records a plan's changes, all or none; true when the deployment has ended with them.
    async fn record(&self, row: &DeploymentRow, plan: &Plan, now: Timestamp) -> anyhow::Result<bool> {
        if plan.changes.is_empty() {
            return Ok(false);
        }
        let at = now.as_millisecond();
        let (mut ended, mut rollback) = (false, None);
        let mut tx = self.store.write().await?;
        for change in &plan.changes {
            match change {
                Change::Instance(instance, note) => {
                    let record = record::json(instance);
                    tx.put_instance(row.id, &instance.id, &instance.state.to_string(), &record).await?;
                    if let Some(note) = note {
                        info!(instance = instance.id, "{}: {note}", instance.state);
                        let text = format!("{}: {note}", instance.state);
                        tx.append_log(row.id, &note_chunk(Some(&instance.id), &lines_of(&text))).await?;
                    }
                    if instance.state == InstanceState::Restored {
                        tx.end_quarantine(&instance.id).await?;
                    }
                    if let Some(failure) = instance.failure.as_ref().filter(|failure| failure.quarantined) {
                        let reason = failure.fault.words();
                        tx.put_quarantine(&instance.group, &instance.id, row.id, &reason, at).await?;
                    }
                }
                Change::Good(instance) => {
                    tx.put_good(&row.group_name, instance, &row.sha, at).await?;
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
                    match self.roll_back(&mut tx, row, reason, "on_failure").await? {
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
        self.logs.announce(row.id);
        if let Some(new) = rollback {
            self.wake(new);
        }
        Ok(ended)
    }
}
