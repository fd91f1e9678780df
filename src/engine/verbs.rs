//! What people ask of a deployment that is under way or over. [`crate::rollout::verb`] says what may be; here it is
//! written down, with who asked, and the deployment's task is woken.

use crate::{
    engine::{
        Engine, SubmitError,
        intake::Order,
        intake::{Only, queue},
        record,
    },
    github::Commit,
    logs::{lines_of, note_chunk},
    rollout::{
        policy::Policy,
        state::{DeploymentState, InstanceState},
        verb::{Ruling, Verb, rule},
    },
    store::{DeploymentRow, StoreError, Tx},
};
use jiff::Timestamp;

impl Engine {
    /// Does what a person asks of a deployment; asking again is no error. Answers the deployment to look at: this one, or
    /// the new one that does it.
    pub async fn perform_verb(
        &self,
        id: i64,
        verb: Verb,
        instance: Option<&str>,
        by: &str,
    ) -> Result<i64, SubmitError> {
        if matches!(verb, Verb::Resume | Verb::Retry) {
            self.still_can(id, verb).await?;
        }
        let mut tx = self.store.write().await?;
        let row = tx.deployment(id).await?.ok_or(SubmitError::UnknownDeployment(id))?;
        if let Some(already) = row.rolled_back_by.filter(|_| verb == Verb::Rollback) {
            return Ok(already);
        }
        let newest = tx.newest_deployment(&row.group_name).await?;
        let standing =
            record::standing(&row, newest).map_err(|why| SubmitError::Refused { id, verb, why })?;
        let done = match rule(verb, standing) {
            Ruling::Already => return Ok(id),
            Ruling::Refused(why) => return Err(SubmitError::Refused { id, verb, why }),
            Ruling::Do => {
                self.apply(&mut tx, &row, verb, instance, by).await?;
                id
            }
            Ruling::NewDeployment if verb == Verb::Rollback => {
                let reason = format!("{by} rolls it back");
                match self.roll_back(&mut tx, &row, &reason, by).await? {
                    Ok(new) => new,
                    Err(why) => return Err(SubmitError::Refused { id, verb, why }),
                }
            }
            Ruling::NewDeployment => self.deploy_again(&mut tx, &row, instance, by).await?,
        };
        tx.commit().await?;
        self.logs.announce(id);
        self.wake(id);
        self.wake(done);
        Ok(done)
    }

    /// What was checked at the start must hold when a deployment goes on.
    async fn still_can(&self, id: i64, verb: Verb) -> Result<(), SubmitError> {
        let row = self.store.deployment(id).await?.ok_or(SubmitError::UnknownDeployment(id))?;
        let state: Option<DeploymentState> = row.state.parse().ok();
        if !state.is_some_and(DeploymentState::waits_for_a_person) {
            return Ok(());
        }
        match self.preconditions(&row).await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(why)) => Err(SubmitError::Refused { id, verb, why }),
            Err(error) => Err(SubmitError::Passing(format!("{error:#}"))),
        }
    }

    async fn apply(
        &self,
        tx: &mut Tx<'_>,
        row: &DeploymentRow,
        verb: Verb,
        instance: Option<&str>,
        by: &str,
    ) -> Result<(), SubmitError> {
        let now = Timestamp::now();
        let at = now.as_millisecond();
        let words = match verb {
            Verb::Pause => {
                tx.set_state(row.id, "Paused", Some(&format!("paused by {by}")), at, false).await?;
                format!("{by} paused the deployment: instances in work finish, nothing new is started")
            }
            Verb::Resume => {
                tx.set_resumed(row.id, at).await?;
                tx.set_state(row.id, "Rolling", None, at, false).await?;
                format!("{by} resumed the deployment: failures until now no longer count")
            }
            Verb::Approve => {
                tx.set_approved(row.id, at).await?;
                format!("{by} approved the rest of the deployment")
            }
            Verb::Retry => {
                let again = self.reset_failed(tx, row.id, instance, now).await?;
                if again.is_empty() {
                    let why = match instance {
                        Some(instance) => format!("{instance} has not failed in it"),
                        None => "no instance has failed in it".to_owned(),
                    };
                    return Err(SubmitError::Refused { id: row.id, verb, why });
                }
                tx.set_resumed(row.id, at).await?;
                tx.set_state(row.id, "Rolling", None, at, false).await?;
                format!("{by} wants another try of {}", again.join(", "))
            }
            Verb::Rollback => return Ok(()),
        };
        tx.append_log(row.id, &note_chunk(None, &lines_of(&words))).await?;
        Ok(())
    }

    /// Failed instances, or the one named, begin anew.
    async fn reset_failed(
        &self,
        tx: &mut Tx<'_>,
        id: i64,
        only: Option<&str>,
        now: Timestamp,
    ) -> Result<Vec<String>, StoreError> {
        let mut again = Vec::new();
        for text in tx.instance_records(id).await? {
            let Ok(mut instance) = serde_json::from_str::<crate::rollout::state::Instance>(&text) else {
                continue;
            };
            let wanted = only.is_none_or(|only| only == instance.id);
            if wanted && instance.state() == InstanceState::Failed && instance.try_again(now).is_ok() {
                tx.put_instances(id, &[record::write_of(&instance)]).await?;
                again.push(instance.id);
            }
        }
        Ok(again)
    }

    /// The same revision once more, to what is left: what has it and is healthy is passed over. One that waits or is under
    /// way already is not begun twice.
    pub(super) async fn deploy_again(
        &self,
        tx: &mut Tx<'_>,
        row: &DeploymentRow,
        instance: Option<&str>,
        by: &str,
    ) -> Result<i64, SubmitError> {
        let instance = instance.or(row.only_instance.as_deref());
        if let Some(already) = tx.unfinished_like(&row.group_name, &row.sha, instance).await? {
            return Ok(already);
        }
        let by = format!("{by}, retry of {}", row.id);
        let commit = Commit { sha: row.sha.clone(), title: row.message.clone() };
        let order = Order { only: instance.map(Only::Retried), ..self.order(row, &by) };
        let policy = record::policy(row).map_err(|error| SubmitError::CanNot(format!("{error:#}")))?;
        let policy = if instance.is_some() { policy.for_one_instance() } else { policy };
        let new = queue(tx, &order, commit, &policy).await?;
        tx.append_log(row.id, &note_chunk(None, &lines_of(&format!("{by}: deployment {}", new.id)))).await?;
        Ok(new.id)
    }

    fn order<'a>(&self, row: &'a DeploymentRow, by: &'a str) -> Order<'a> {
        Order {
            group: &row.group_name,
            repository: &row.repository,
            requested: &row.sha,
            by,
            automatic: false,
            only: None,
        }
    }

    /// Ends what is under way of a deployment, and queues one of the last good revision before it, which goes first. The
    /// inner error says why there is no way back.
    pub(super) async fn roll_back(
        &self,
        tx: &mut Tx<'_>,
        row: &DeploymentRow,
        reason: &str,
        by: &str,
    ) -> Result<Result<i64, String>, StoreError> {
        let Some(good) = tx.last_good_before(&row.group_name, row.id, &row.sha).await? else {
            return Ok(Err(format!(
                "there is no last good revision of {} to go back to: no deployment of another revision has succeeded",
                row.group_name
            )));
        };
        let policy: Policy = match record::policy(row) {
            Ok(policy) => policy,
            Err(error) => return Ok(Err(format!("{error:#}"))),
        };
        let total = u32::try_from(row.total_at_start).unwrap_or(u32::MAX);
        let commit = Commit { sha: good.sha.clone(), title: good.message.clone() };
        let by = format!("{by}, rollback of {}", row.id);
        let new = queue(tx, &self.order(&good, &by), commit, &policy.for_rollback(total)).await?;
        tx.set_rollback(row.id, new.id).await?;
        if row.finished_at.is_none() {
            if row.cancel.is_none() {
                tx.set_cancel(row.id, "after", Timestamp::now().as_millisecond()).await?;
            }
            tx.set_reason(row.id, reason).await?;
        }
        let words = format!("{reason}: deployment {} brings {} back", new.id, good.sha);
        tx.append_log(row.id, &note_chunk(None, &lines_of(&words))).await?;
        Ok(Ok(new.id))
    }
}
