//! Quarantined instances: failed, kept out of the balancer, named. A person lets one back in as it is, has it tried
//! again, or terminates it. What is asked for is written down first and fulfilled whenever the group is looked at, so that it
//! outlives the daemon.

use crate::{
    api::{QuarantineVerb, QuarantinedInstance},
    engine::{Engine, GroupError, SubmitError, record},
    fleet::autoscaling::GroupSight,
    logs::{lines_of, note_chunk},
    rollout::{
        plan::Effect,
        state::{Instance, Membership, Phase},
        verb::Verb,
    },
    store::{QuarantineRow, StoreError},
};
use tracing::warn;

impl From<QuarantineRow> for QuarantinedInstance {
    fn from(row: QuarantineRow) -> Self {
        QuarantinedInstance {
            instance: row.instance,
            auto_scaling_group: row.auto_scaling_group,
            deployment: row.deployment,
            reason: row.reason,
            since: record::time(row.since),
            requested: row.request,
        }
    }
}

impl Engine {
    /// All of them.
    pub async fn quarantined(&self) -> Result<Vec<QuarantinedInstance>, StoreError> {
        Ok(self.store.quarantines().await?.into_iter().map(QuarantinedInstance::from).collect())
    }

    /// Does what a person asks of one; answers in words, and the deployment to look at if there is one.
    pub async fn of_quarantined(
        &self,
        instance: &str,
        verb: QuarantineVerb,
        by: &str,
    ) -> Result<(String, Option<i64>), GroupError> {
        let all = self.store.quarantines().await?;
        let Some(row) = all.into_iter().find(|row| row.instance == instance) else {
            // Asked again after it was done, nothing is left to do.
            if verb != QuarantineVerb::Retry && self.store.has_instance(instance).await? {
                return Ok((format!("{instance} is not in quarantine: nothing to do"), None));
            }
            return Err(SubmitError::NotQuarantined(instance.to_owned()).into());
        };
        if verb == QuarantineVerb::Retry {
            let id = self.retry_quarantined(&row, by).await?;
            return Ok((format!("deployment {id} tries {instance} again"), Some(id)));
        }
        let groups = self.fleet.groups(std::slice::from_ref(&row.auto_scaling_group)).await?;
        if verb == QuarantineVerb::Release {
            let records = self.in_hand(instance).await?;
            if let Some((deployment, _)) = records.iter().find(|(_, record)| !record.state().is_final()) {
                return Err(GroupError::Refused(format!(
                    "deployment {deployment} has {instance} in hand: it puts it back by itself where it succeeds"
                )));
            }
            check_room(&row, &groups)?;
        }
        self.record_request(&row, verb, by).await?;
        let done = match groups.iter().find(|group| group.name == row.auto_scaling_group) {
            Some(group) => self.fulfil(&row, Some(verb), group).await,
            None => Ok(()),
        };
        if let Err(error) = done {
            let mut tx = self.store.write().await?;
            tx.set_quarantine_request(instance, None, by).await?;
            tx.commit().await?;
            return Err(error.into());
        }
        let words = match verb {
            QuarantineVerb::Terminate => {
                format!(
                    "{instance} is terminated; Auto Scaling launches another where MinSize or the desired capacity wants one"
                )
            }
            _ => format!("{instance} goes back into service with whatever release is current on it"),
        };
        Ok((words, None))
    }

    /// Written down, with who asked; a deployment that is still under way no longer keeps it out.
    async fn record_request(
        &self,
        row: &QuarantineRow,
        verb: QuarantineVerb,
        by: &str,
    ) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        tx.set_quarantine_request(&row.instance, Some(verb.name()), by).await?;
        let under_way = tx.deployment(row.deployment).await?.is_some_and(|d| d.finished_at.is_none());
        if let Some(text) = tx.instance(row.deployment, &row.instance).await?
            && let Ok(mut record) = serde_json::from_str::<Instance>(&text)
            && under_way
            && verb == QuarantineVerb::Release
            && let Phase::Failed(failure) = &mut record.phase
        {
            failure.quarantined = false;
            tx.put_instances(row.deployment, &[record::write_of(&record)]).await?;
            tx.note_change(row.deployment).await?;
        }
        let words = format!("{by}: {verb} it from quarantine");
        tx.append_log(row.deployment, &note_chunk(Some(&row.instance), &lines_of(&words))).await?;
        tx.commit().await?;
        self.logs.announce(row.deployment);
        self.wake(row.deployment);
        Ok(())
    }

    /// The deployment that quarantined it, if that is under way; else a new one for it alone, of the group's revision.
    async fn retry_quarantined(&self, row: &QuarantineRow, by: &str) -> Result<i64, GroupError> {
        let Some(failed) = self.store.deployment(row.deployment).await? else {
            return Err(SubmitError::UnknownDeployment(row.deployment).into());
        };
        if failed.finished_at.is_none() {
            return Ok(self.perform_verb(failed.id, Verb::Retry, Some(&row.instance), by).await?);
        }
        let wanted = self.store.last_good_row(&failed.group_name).await?.unwrap_or(failed);
        let mut tx = self.store.write().await?;
        let id = self.deploy_again(&mut tx, &wanted, Some(&row.instance), by).await?;
        tx.commit().await?;
        self.wake(id);
        Ok(id)
    }

    /// Deployments under way that have an instance, with its record.
    async fn in_hand(&self, instance: &str) -> anyhow::Result<Vec<(i64, Instance)>> {
        let records = self.store.unfinished_records_of(instance).await?.into_iter();
        records.map(|(id, text)| Ok((id, serde_json::from_str(&text)?))).collect()
    }

    /// The record of a quarantined instance in the deployment that took it out.
    pub(in crate::engine) async fn kept_record(
        &self,
        row: &QuarantineRow,
    ) -> anyhow::Result<Option<Instance>> {
        let records = record::instances(&self.store, row.deployment).await?;
        Ok(records.into_iter().find(|record| record.id == row.instance))
    }

    /// Where a quarantined instance was registered before it was taken out.
    pub(in crate::engine) async fn journalled(&self, row: &QuarantineRow) -> anyhow::Result<Vec<Membership>> {
        Ok(self.kept_record(row).await?.map(|record| record.memberships).unwrap_or_default())
    }

    /// Whether a deployment under way sees to a released instance: it has it in hand, or lets it back in by itself, since
    /// it failed there after its turn had come.
    async fn is_seen_to(&self, row: &QuarantineRow) -> anyhow::Result<bool> {
        let lets_in = |id: i64, record: &Instance| id == row.deployment && record.batch.is_some();
        let records = self.in_hand(&row.instance).await?;
        Ok(records.iter().any(|(id, record)| !record.state().is_final() || lets_in(*id, record)))
    }

    /// Does what is asked of quarantined instances of these Auto Scaling groups; one that is gone is forgotten. What
    /// can't be had of one holds up none of the others.
    pub(in crate::engine) async fn fulfil_requests(&self, groups: &[GroupSight]) -> Result<(), StoreError> {
        for row in self.store.quarantines().await? {
            let Some(group) = groups.iter().find(|group| group.name == row.auto_scaling_group) else {
                continue;
            };
            let requested = row.request.as_deref().and_then(|name| name.parse().ok());
            if let Err(error) = self.fulfil(&row, requested, group).await {
                warn!(instance = row.instance, "what was asked of it in quarantine: {error:#}");
            }
        }
        Ok(())
    }

    async fn fulfil(
        &self,
        row: &QuarantineRow,
        requested: Option<QuarantineVerb>,
        group: &GroupSight,
    ) -> anyhow::Result<()> {
        let seen = group.instances.iter().find(|instance| instance.id == row.instance);
        let lifecycle = match seen {
            Some(instance) => instance.lifecycle.as_str(),
            None if self.missed().is_gone(group, &row.instance) => "Terminated",
            // Missing from one look: another will tell.
            None => return Ok(()),
        };
        let (group, instance) = (group.name.clone(), row.instance.clone());
        let mut effects = Vec::new();
        match (requested, lifecycle) {
            (_, gone) if gone.starts_with("Terminat") || gone.starts_with("Detach") => {}
            // It can be let back in once it is there.
            (Some(QuarantineVerb::Release), "EnteringStandby") => return Ok(()),
            (Some(QuarantineVerb::Release), "Standby") if self.is_seen_to(row).await? => return Ok(()),
            (Some(QuarantineVerb::Release), lifecycle) => {
                if lifecycle == "Standby" {
                    effects.push(Effect::ExitStandby { group, instances: vec![instance.clone()] });
                }
                // What no Auto Scaling group registers was deregistered by us.
                let memberships = self.journalled(row).await?.into_iter().filter(|m| !m.owned);
                effects.extend(memberships.map(|membership| Effect::Register {
                    target_group: membership.target_group,
                    targets: vec![(instance.clone(), membership.port)],
                }));
            }
            (Some(QuarantineVerb::Terminate), _) => effects.push(Effect::Terminate { group, instance }),
            _ => return Ok(()),
        }
        for effect in effects {
            self.act_alone(&effect).await??;
        }
        let mut tx = self.store.write().await?;
        tx.end_quarantines(std::slice::from_ref(&row.instance)).await?;
        Ok(tx.commit().await?)
    }
}

/// One more in service must be within MaxSize.
fn check_room(row: &QuarantineRow, groups: &[GroupSight]) -> Result<(), GroupError> {
    let full = groups.iter().find(|g| g.name == row.auto_scaling_group && g.desired >= g.max);
    let standby = groups
        .iter()
        .flat_map(|group| &group.instances)
        .any(|seen| seen.id == row.instance && seen.lifecycle == "Standby");
    match full.filter(|_| standby) {
        None => Ok(()),
        Some(group) => Err(GroupError::Refused(format!(
            "Auto Scaling group {} is at its MaxSize of {} already (another was launched in its place): raise MaxSize, or \
             'drover quarantine terminate {}'",
            group.name, group.max, row.instance
        ))),
    }
}
