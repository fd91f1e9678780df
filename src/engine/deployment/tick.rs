//! One deployment's task: ticks until it has ended.

use super::{
    Deployment,
    changes::Recorded,
    looks::{Occasion, only_unseen},
    members::put,
};
use crate::{
    engine::record,
    logs::{lines_of, note_chunk},
    rollout::{
        plan::{Effect, plan},
        snapshot::Snapshot,
        state::{DeploymentState, InstanceState},
    },
    store::{DeploymentRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::time::Duration;
use tracing::{error, warn};

/// When nothing is in work (halted, baking), AWS is asked this often.
const IDLE: SignedDuration = SignedDuration::from_secs(10);
/// Where nothing is due soon, so many times less often than `poll` says.
const FEWER: i32 = 5;
/// Pause after a tick that failed; AWS or the store is in trouble.
const TROUBLE: Duration = Duration::from_secs(3);

/// Preparing for longer than this fails: GitHub or AWS was away all the while, or an instance's launch came to nothing.
const PREPARING: SignedDuration = SignedDuration::from_hours(1);

/// What a tick leads to.
enum Next {
    /// The deployment has ended.
    Ended,
    /// Tick again at once: something changed.
    Now,
    /// Tick again then, or when woken.
    At(Timestamp),
}

impl Deployment<'_> {
    /// Ticks until it has ended, or the daemon stops.
    pub(in crate::engine) async fn drive(&mut self) {
        let id = self.id;
        // What was wrong, and whether the log says so: it can't while the store is away.
        let mut trouble: Option<(String, bool)> = None;
        while !self.engine.stop.is_cancelled() {
            let pause = match self.tick(id).await {
                Ok(Next::Ended) => return,
                Ok(next) => {
                    if let Some((words, noted)) = trouble.take() {
                        let text =
                            if noted { "going on".into() } else { format!("waited: {words}; going on") };
                        let _ = self.engine.logs.note(id, None, &text).await;
                    }
                    match next {
                        Next::At(at) => {
                            Duration::try_from(at.duration_since(Timestamp::now())).unwrap_or(Duration::ZERO)
                        }
                        _ => {
                            self.looks.occasion = Occasion::Changed;
                            continue;
                        }
                    }
                }
                Err(error) => {
                    // What was written and what was not is for the store to say.
                    self.members = None;
                    if matches!(error.downcast_ref(), Some(StoreError::Stale { .. })) {
                        error!("{error}");
                        self.engine.stop.cancel();
                        return;
                    }
                    let words = format!("{error:#}");
                    warn!("waiting: {words}");
                    if trouble.as_ref().is_none_or(|(before, _)| *before != words) {
                        let note = format!("waiting: {words}; trying again");
                        let noted = self.engine.logs.note(id, None, &note).await.is_ok();
                        trouble = Some((words, noted));
                    }
                    TROUBLE
                }
            };
            tokio::select! {
                () = self.notify.notified() => self.looks.occasion = Occasion::Woken,
                () = tokio::time::sleep(pause) => self.looks.occasion = Occasion::Due,
                () = self.engine.stop.cancelled() => {}
            }
        }
    }

    async fn tick(&mut self, id: i64) -> anyhow::Result<Next> {
        let Some(row) = self.engine.store.deployment(id).await? else { return Ok(Next::Ended) };
        match row.state.parse::<DeploymentState>().map_err(anyhow::Error::msg)? {
            state if state.is_final() => Ok(Next::Ended),
            DeploymentState::Queued if row.cancel.is_some() => {
                self.engine.end(id, "Cancelled", "cancelled in the queue").await?;
                Ok(Next::Ended)
            }
            DeploymentState::Queued => {
                self.begin(&row).await?;
                Ok(Next::Now)
            }
            DeploymentState::Preparing if row.cancel.is_some() => {
                self.engine.end(id, "Cancelled", "cancelled before any instance was touched").await?;
                Ok(Next::Ended)
            }
            DeploymentState::Preparing => match self.prepare_or_go_back(&row).await {
                Ok(next) => Ok(next),
                Err(error) if Timestamp::now() >= record::time(row.since) + PREPARING => {
                    self.engine
                        .end(id, "Failed", &format!("not prepared within {PREPARING:#}: {error:#}"))
                        .await?;
                    Ok(Next::Ended)
                }
                Err(error) => Err(error),
            },
            _ => self.roll(&row).await,
        }
    }

    async fn prepare_or_go_back(&self, row: &DeploymentRow) -> anyhow::Result<Next> {
        if self.engine.requeue_if_blocked(row).await? {
            return Ok(Next::Ended);
        }
        self.engine.prepare(row).await?;
        Ok(Next::Now)
    }

    async fn begin(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        let mut tx = self.engine.store.write().await?;
        let queued =
            tx.deployment(row.id).await?.is_some_and(|row| row.state == "Queued" && row.cancel.is_none());
        if !queued {
            // Superseded or cancelled a moment ago.
            return Ok(());
        }
        tx.set_state(row.id, "Preparing", None, Timestamp::now().as_millisecond(), false).await?;
        tx.commit().await?;
        self.engine.logs.announce(row.id);
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
            self.engine.end(row.id, "Failed", &way_out).await?;
            return Ok(Next::Ended);
        }
        if row.state != DeploymentState::Halted.to_string() {
            self.halt(row, &way_out).await?;
        }
        Ok(Next::At(Timestamp::now() + IDLE))
    }

    /// It waits for a person from now on.
    pub(super) async fn halt(&self, row: &DeploymentRow, why: &str) -> anyhow::Result<()> {
        let mut tx = self.engine.store.write().await?;
        let now = Timestamp::now().as_millisecond();
        tx.set_state(row.id, &DeploymentState::Halted.to_string(), Some(why), now, false).await?;
        tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("Halted: {why}")))).await?;
        tx.commit().await?;
        self.engine.logs.announce(row.id);
        Ok(())
    }

    async fn roll(&mut self, row: &DeploymentRow) -> anyhow::Result<Next> {
        if let Err(why) = self.load(row).await? {
            return self.stop_for(row, &why).await;
        }
        if row.state == DeploymentState::Rolling.to_string()
            && row.cancel.is_none()
            && let Some(why) = self.engine.moved(row)
        {
            self.halt(row, &why).await?;
            return Ok(Next::Now);
        }
        // Nothing of this may keep deadlines from running, and cancels from being obeyed.
        let mut unseen = None;
        let unsure = only_unseen(self.settle_dispatches(row).await, &mut unseen)?.unwrap_or(false);
        only_unseen(self.read_invocations(row).await, &mut unseen)?;
        let Some(mut snapshot) = self.observe(row, unseen).await? else { return Ok(Next::Now) };
        let next = self.bring_on(row, &mut snapshot, unsure).await?;
        if let Some(members) = &mut self.members {
            members.give_back(snapshot.members);
        }
        Ok(next)
    }

    /// A plan for what is seen, recorded and performed.
    async fn bring_on(
        &mut self,
        row: &DeploymentRow,
        snapshot: &mut Snapshot,
        unsure: bool,
    ) -> anyhow::Result<Next> {
        let now = Timestamp::now();
        let plan = plan(snapshot, now)?;
        let takes_out =
            |effect: &Effect| matches!(effect, Effect::EnterStandby { .. } | Effect::Deregister { .. });
        // What serves meanwhile is counted anew before anybody is taken out.
        if plan.effects.iter().any(takes_out) && snapshot.outage.is_none() && !self.looks.are_fresh() {
            return Ok(Next::Now);
        }
        self.engine.explain(row.id, plan.explain.clone());
        let mut again = !plan.changes.is_empty();
        match self.record(row, &plan, now).await? {
            Recorded::Outdated => return Ok(Next::Now),
            Recorded::Ended => return Ok(Next::Ended),
            Recorded::GoesOn => {}
        }
        put(&mut snapshot.members, plan.records().cloned());
        // One that can't be performed, because GitHub is away for example, holds up none of the others.
        let mut trouble = None;
        for effect in &plan.effects {
            match self.act(row, snapshot, effect).await {
                Ok(done) => again |= done,
                Err(error) if matches!(error.downcast_ref(), Some(StoreError::Stale { .. })) => {
                    return Err(error);
                }
                Err(error) => trouble = trouble.or(Some(error)),
            }
        }
        if let Some(error) = trouble {
            return Err(error);
        }
        self.engine.estimate(row, snapshot).await?;
        if again {
            return Ok(Next::Now);
        }
        let busy = snapshot.members.iter().any(|member| {
            member.record.in_work()
                || matches!(member.record.state(), InstanceState::Staging | InstanceState::Waiting)
        });
        let poll = self.engine.config.server.poll;
        let pause = match busy {
            true if unsure => poll.min(SignedDuration::from_secs(1)),
            true => pause_before(plan.wake_at.map(|due| due.duration_since(now)), poll),
            false => IDLE,
        };
        let at = now + pause;
        Ok(Next::At(plan.wake_at.map_or(at, |wake| wake.min(at)).max(now + SignedDuration::from_millis(20))))
    }
}

/// How long AWS isn't asked while something is in work. What ends a wait is mostly told (by a host) or known beforehand (a
/// drain, a health check): the nearer that is, the closer the looks, and the farther, the fewer. Each look is half way to it:
/// a drain that ends early, for want of connections, is seen before the time is up.
fn pause_before(due: Option<SignedDuration>, poll: SignedDuration) -> SignedDuration {
    match due {
        None => poll * FEWER,
        // Nearly there: the look at that time is the next one.
        Some(due) if due < poll * 2 => due.max(poll),
        Some(due) => (due / 2).clamp(poll, poll * FEWER),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn looks_come_closer_as_something_is_due() {
        let seconds = SignedDuration::from_secs;
        let pause = |due: Option<i64>| pause_before(due.map(seconds), seconds(1)).as_secs();
        assert_eq!([None, Some(300), Some(15), Some(4), Some(0)].map(pause), [5, 5, 5, 2, 1]);
    }
}
