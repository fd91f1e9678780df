//! One deployment's task: ticks until it has ended.

use super::{Engine, record, sight::only_unseen};
use crate::{
    logs::{lines_of, note_chunk},
    rollout::{
        plan::{Change, Plan, plan},
        snapshot::Snapshot,
        state::{DeploymentState, Instance, InstanceState},
    },
    store::{DeploymentRow, StoreError, Tx},
};
use jiff::{SignedDuration, Timestamp};
use std::{sync::PoisonError, time::Duration};
use tokio::sync::Notify;
use tracing::{error, info, warn};

/// When nothing is in work (halted, baking), AWS is asked this often.
const IDLE: SignedDuration = SignedDuration::from_secs(10);
/// Pause after a tick that failed; AWS or the store is in trouble.
const TROUBLE: Duration = Duration::from_secs(3);

/// Preparing for longer than this fails: GitHub or AWS was away all the while, or an instance's launch came to nothing.
const PREPARING: SignedDuration = SignedDuration::from_hours(1);

/// What became of a plan's changes.
enum Recorded {
    /// They are written down, and the deployment has ended with them.
    Ended,
    /// They are written down.
    GoesOn,
    /// A person has asked something meanwhile: a plan must be made afresh.
    Outdated,
}

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
            DeploymentState::Preparing => match self.prepare_or_go_back(&row).await {
                Ok(next) => Ok(next),
                Err(error) if Timestamp::now() >= record::time(row.since) + PREPARING => {
                    self.end(id, "Failed", &format!("not prepared within {PREPARING:#}: {error:#}")).await?;
                    Ok(Next::Ended)
                }
                Err(error) => Err(error),
            },
            _ => self.roll(&row).await,
        }
    }

    async fn prepare_or_go_back(&self, row: &DeploymentRow) -> anyhow::Result<Next> {
        if self.goes_back(row).await? {
            return Ok(Next::Ended);
        }
        self.prepare(row).await?;
        Ok(Next::Now)
    }

    async fn begin(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        let mut tx = self.store.write().await?;
        let queued =
            tx.deployment(row.id).await?.is_some_and(|row| row.state == "Queued" && row.cancel.is_none());
        if !queued {
            // Superseded or cancelled a moment ago.
            return Ok(());
        }
        tx.set_state(row.id, "Preparing", None, Timestamp::now().as_millisecond(), false).await?;
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    /// What is stored can't be gone by: nothing more is done, and it is said.
    async fn stop_for(&self, row: &DeploymentRow, why: &str) -> anyhow::Result<Next> {
        let way_out = format!(
            "{why}: nothing more is done to its instances. Start the version of drover that wrote it, or cancel the \
             deployment and put the group back: drover group restore {}",
            row.group_name
        );
        if row.cancel.is_some() {
            self.end(row.id, "Failed", &way_out).await?;
            return Ok(Next::Ended);
        }
        if row.state != DeploymentState::Halted.to_string() {
            self.halt(row, &way_out).await?;
        }
        Ok(Next::At(Timestamp::now() + IDLE))
    }

    /// It waits for a person from now on.
    pub(super) async fn halt(&self, row: &DeploymentRow, why: &str) -> anyhow::Result<()> {
        let mut tx = self.store.write().await?;
        let now = Timestamp::now().as_millisecond();
        tx.set_state(row.id, &DeploymentState::Halted.to_string(), Some(why), now, false).await?;
        tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("Halted: {why}")))).await?;
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    async fn roll(&self, row: &DeploymentRow) -> anyhow::Result<Next> {
        if let Some(why) = record::unreadable(&self.store, row).await? {
            return self.stop_for(row, &why).await;
        }
        if row.state == DeploymentState::Rolling.to_string()
            && row.cancel.is_none()
            && let Some(why) = self.moved(row)
        {
            self.halt(row, &why).await?;
            return Ok(Next::Now);
        }
        // Nothing of this may keep deadlines from running, and cancels from being obeyed.
        let mut unseen = None;
        let unsure = only_unseen(self.settle_dispatches(row).await, &mut unseen)?.unwrap_or(false);
        only_unseen(self.read_invocations(row).await, &mut unseen)?;
        // Read after the invocations, which may have written outcomes.
        let Some(snapshot) = self.observe(row, unseen).await? else { return Ok(Next::Now) };
        let now = Timestamp::now();
        let plan = plan(&snapshot, now)?;
        self.explained.lock().unwrap_or_else(PoisonError::into_inner).insert(row.id, plan.explain.clone());
        let mut again = !plan.changes.is_empty();
        match self.record(row, &snapshot, &plan, now).await? {
            Recorded::Outdated => return Ok(Next::Now),
            Recorded::Ended => return Ok(Next::Ended),
            Recorded::GoesOn => {}
        }
        // One that can't be had, because GitHub is away for example, holds up none of the others.
        let mut trouble = None;
        for effect in &plan.effects {
            match self.act(row, &snapshot, effect).await {
                Ok(had) => again |= had,
                Err(error) if matches!(error.downcast_ref(), Some(StoreError::Stale { .. })) => {
                    return Err(error);
                }
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        self.estimate(row, &snapshot).await?;
        if again {
            return Ok(Next::Now);
        }
        let busy = snapshot.members.iter().any(|member| {
            member.record.in_work()
                || matches!(member.record.state(), InstanceState::Staging | InstanceState::Waiting)
        });
        let poll = match busy {
            true if unsure => self.config.server.poll.min(SignedDuration::from_secs(1)),
            true => self.config.server.poll,
            false => IDLE,
        };
        let at = now + poll;
        Ok(Next::At(plan.wake_at.map_or(at, |wake| wake.min(at)).max(now + SignedDuration::from_millis(20))))
    }

    /// Records a plan's changes, all or none.
    async fn record(
        &self,
        row: &DeploymentRow,
        snapshot: &Snapshot,
        plan: &Plan,
        now: Timestamp,
    ) -> anyhow::Result<Recorded> {
        if plan.changes.is_empty() {
            return Ok(Recorded::GoesOn);
        }
        let at = now.as_millisecond();
        let (mut ended, mut rollback) = (false, None);
        let mut tx = self.store.write().await?;
        if is_outdated(&mut tx, row, snapshot, plan).await? {
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
                            tx.put_good(&row.group_name, &instance.id, good, at).await?;
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
        Ok(if ended { Recorded::Ended } else { Recorded::GoesOn })
    }
}

/// Whether what a plan was made from has changed since, by a person's hand.
async fn is_outdated(
    tx: &mut Tx<'_>,
    row: &DeploymentRow,
    snapshot: &Snapshot,
    plan: &Plan,
) -> anyhow::Result<bool> {
    let asked = |row: &DeploymentRow| {
        let DeploymentRow { state, cancel, resumed_at, approved, rolled_back_by, .. } = row.clone();
        (state, cancel, resumed_at, approved, rolled_back_by)
    };
    if tx.deployment(row.id).await?.is_none_or(|fresh| asked(&fresh) != asked(row)) {
        return Ok(true);
    }
    for change in &plan.changes {
        let Change::Instance(instance, _) = change else { continue };
        let stored = tx.instance(row.id, &instance.id).await?;
        let stored = stored.and_then(|text| serde_json::from_str::<Instance>(&text).ok());
        let before = snapshot.members.iter().find(|member| member.record.id == instance.id);
        if stored.is_some_and(|stored| before.is_some_and(|member| member.record != stored)) {
            return Ok(true);
        }
    }
    Ok(false)
}
