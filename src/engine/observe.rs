//! What the fleet shows, put beside what the store remembers: the planner's snapshot.

use super::{
    Engine,
    estimate::timing_of,
    planned::Planned,
    preconditions::attached_and,
    record,
    sight::{Look, only_unseen},
    targets::Targets,
};
use crate::{
    fleet::{
        autoscaling::GroupSight,
        balancer::{NO_SUCH_GROUP, TargetGroup},
    },
    rollout::{
        policy::OnFailure,
        snapshot::{Attempt, Group, Hold, Lifecycle, Member, Outcome, Revision, Sight, Snapshot},
        state::{DeploymentState, Instance, InstanceState, Membership, Phase},
    },
    store::DeploymentRow,
};
use anyhow::Context as _;
use jiff::Timestamp;
use std::collections::{BTreeMap, HashMap};

/// A lifecycle state as AWS writes it.
pub(super) fn lifecycle(name: &str) -> Lifecycle {
    match name {
        "InService" => Lifecycle::InService,
        "EnteringStandby" => Lifecycle::EnteringStandby,
        "Standby" => Lifecycle::Standby,
        "Detaching" | "Detached" => Lifecycle::Leaving,
        other if other.starts_with("Terminat") => Lifecycle::Leaving,
        other if other.starts_with("Pending") => Lifecycle::Coming(other.into()),
        other => Lifecycle::Unknown(other.into()),
    }
}

/// An Auto Scaling group as the planner sees it.
pub(super) fn group_of(seen: &GroupSight, hold: Option<Hold>) -> Group {
    let GroupSight { min, max, desired, .. } = *seen;
    Group { min, max, desired, suspended: seen.suspended.clone(), hold }
}

impl Engine {
    /// Everything that the planner may know; none where the deployment was halted for what is seen. `unseen`: what could not
    /// be read already.
    pub(super) async fn observe(
        &self,
        row: &DeploymentRow,
        mut unseen: Option<String>,
    ) -> anyhow::Result<Option<Snapshot>> {
        let planned = self.planned(row)?;
        let mut records = record::instances(&self.store, row.id).await?;
        let look = only_unseen(self.look(row, &planned, &mut records).await, &mut unseen)?;
        let (look, blind, regained) = self.remember_look(row.id, look, unseen).await?;
        if row.state == DeploymentState::Rolling.to_string()
            && row.cancel.is_none()
            && let Some(arn) = look.deleted.first()
        {
            let why = format!(
                "target group {arn} is there no more: what is in work is seen through without it, nothing new is begun; cancel \
                 the deployment, or attach another and deploy again"
            );
            self.halt(row, &why).await?;
            return Ok(None);
        }
        let mut sights = look.sights.clone();
        let mut attempts: HashMap<i64, Attempt> = self
            .store
            .attempts(row.id)
            .await?
            .into_iter()
            .map(|attempt| {
                let outcome =
                    attempt.outcome.as_deref().and_then(|text| serde_json::from_str::<Outcome>(text).ok());
                let created_at = record::time(attempt.created_at);
                (attempt.number, Attempt { number: attempt.number, created_at, outcome })
            })
            .collect();
        self.vet_what_hosts_say(row, &records, &mut attempts).await?;
        let former = self.formers(&records).await?;
        let members = records
            .into_iter()
            .map(|record| {
                let sight = sights.remove(&record.id).unwrap_or_else(Sight::unseen);
                let attempt = record.attempt().and_then(|number| attempts.get(&number).cloned());
                Member { record, sight, attempt }
            })
            .collect();
        let policy = record::policy(row)?;
        let mut deployment = record::deployment(row)?;
        if policy.on_failure == OnFailure::Rollback {
            deployment.fallback = self.store.good_before(&row.group_name, row.id, &row.sha).await?;
        }
        Ok(Some(Snapshot {
            deployment,
            policy,
            revision: Revision { former, ..record::appspec(row)?.for_planning() },
            members,
            groups: self.groups_as_seen(row, &planned, &look.groups).await?,
            timing: timing_of(&look.target_groups),
            refused: self.refused_effects(row.id),
            blind,
            regained,
        }))
    }

    /// One whole look at the fleet: those that joined since are among the records then.
    async fn look(
        &self,
        row: &DeploymentRow,
        planned: &Planned,
        records: &mut Vec<Instance>,
    ) -> anyhow::Result<Look> {
        let launches = row.launch != 0;
        let groups = match launches {
            true => self.shared_groups(&planned.auto_scaling_groups).await?,
            false => self.fleet.groups(&planned.auto_scaling_groups).await?,
        };
        self.remember_attached(&groups);
        let mut arns = attached_and(&groups, &planned.target_groups);
        // Foreign ones among them, found at the start.
        for membership in records.iter().flat_map(|record| &record.memberships) {
            if !arns.contains(&membership.target_group) {
                arns.push(membership.target_group.clone());
            }
        }
        let target_groups = self.target_groups(row.id, &arns).await?;
        let whole = row.launch == 0 && row.only_instance.is_none();
        let targets = match launches {
            true => self.shared_targets(&target_groups).await?,
            false => self.targets(&target_groups).await?,
        };
        if whole && self.moved(row).is_none() {
            self.refresh_memberships(row, &groups, &target_groups, &targets, records).await?;
            self.join(row, &groups, &target_groups, &targets, records).await?;
        }
        let mut sights = targets.sights(&groups, records);
        self.see_who_left(row.id, &groups, records, &mut sights).await;
        Ok(Look { groups, target_groups, sights, deleted: targets.deleted })
    }

    /// The Auto Scaling groups: as last seen; one that was never seen is as its journal says.
    async fn groups_as_seen(
        &self,
        row: &DeploymentRow,
        planned: &Planned,
        seen: &[GroupSight],
    ) -> anyhow::Result<BTreeMap<String, Group>> {
        let mut groups = BTreeMap::new();
        for name in &planned.auto_scaling_groups {
            // A launch changes nothing on the group, and leaves to the rollout what that has changed.
            let hold = match self.store.hold(name).await?.filter(|_| row.launch == 0) {
                Some(text) => Some(serde_json::from_str::<Hold>(&text).with_context(|| {
                    format!("the journal of what was changed on Auto Scaling group {name} can't be read")
                })?),
                None => None,
            };
            match (seen.iter().find(|group| group.name == *name), hold) {
                (Some(group), hold) => drop(groups.insert(name.clone(), group_of(group, hold))),
                (None, Some(hold)) => {
                    let min = hold.our_mins.last().copied().unwrap_or(hold.former_min);
                    let suspended = hold.suspended.clone();
                    groups.insert(
                        name.clone(),
                        Group { min, max: 0, desired: min, suspended, hold: Some(hold) },
                    );
                }
                (None, None) => {}
            }
        }
        Ok(groups)
    }

    /// The target groups' settings, asked for once a deployment: they seldom change.
    async fn target_groups(&self, deployment: i64, arns: &[String]) -> anyhow::Result<Vec<TargetGroup>> {
        let known = self.known_target_groups(deployment, arns);
        match known {
            Some(groups) => Ok(groups),
            None => {
                let groups = self.fleet.target_groups(arns).await?;
                self.remember_target_groups(deployment, &groups);
                Ok(groups)
            }
        }
    }

    /// Instances that came into service since: they join the plan.
    async fn join(
        &self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        targets: &Targets,
        records: &mut Vec<Instance>,
    ) -> anyhow::Result<()> {
        let launching = self.store.launching().await?;
        let mut new = Vec::new();
        for group in groups {
            for instance in &group.instances {
                // One whose launch is still seen through joins afterwards.
                let known =
                    records.iter().any(|record| record.id == instance.id) || launching.contains(&instance.id);
                if !known && lifecycle(&instance.lifecycle) == Lifecycle::InService {
                    let record = Instance::new(&instance.id, &instance.zone, &group.name, Timestamp::now());
                    new.push(Instance { joined: true, ..record });
                }
            }
        }
        // A new instance is in service before its agent is known; it joins once it can be talked to.
        let online = self.online(new.iter().map(|record| record.id.clone()).collect()).await?;
        new.retain(|record| online.contains(&record.id));
        if new.is_empty() {
            return Ok(());
        }
        for record in &mut new {
            record.memberships = targets.memberships(groups, target_groups, record);
        }
        // By membership alone: one that its group's target groups don't hold yet joins when they do.
        new.retain(|record| is_member(record, groups));
        if new.is_empty() {
            return Ok(());
        }
        let good = self.store.good_revisions(&row.group_name).await?;
        for record in &mut new {
            let good = good.get(&record.id);
            record.good = good.map(|good| good.sha.clone());
            if good.is_some_and(|good| good.runs && good.sha == row.sha) {
                record.phase = Phase::Skipped;
            }
        }
        let mut tx = self.store.write().await?;
        for record in &new {
            tx.put_instance(row.id, &record.id, &record.state().to_string(), &record::json(record)).await?;
            let words = match record.state() {
                InstanceState::Skipped => "came into service during the rollout, with its revision",
                _ => "came into service during the rollout: it joins",
            };
            let text = crate::logs::lines_of(words);
            tx.append_log(row.id, &crate::logs::note_chunk(Some(&record.id), &text)).await?;
        }
        tx.commit().await?;
        self.logs.announce(row.id);
        records.extend(new);
        Ok(())
    }

    /// The targets of each of these target groups.
    pub(super) async fn targets(&self, target_groups: &[TargetGroup]) -> anyhow::Result<Targets> {
        let mut targets = Targets::default();
        for group in target_groups {
            match self.fleet.target_health(&group.arn).await {
                Ok(seen) => targets.add(&group.arn, seen),
                Err(error) if error.code == NO_SUCH_GROUP => targets.deleted.push(group.arn.clone()),
                Err(error) => return Err(error.into()),
            }
        }
        Ok(targets)
    }

    /// Whoever is not in hand yet may have been registered elsewhere since: that is what will be taken out and put back.
    async fn refresh_memberships(
        &self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        targets: &Targets,
        records: &mut [Instance],
    ) -> anyhow::Result<()> {
        let mut changed = Vec::new();
        for record in records.iter_mut().filter(|record| !record.kept_out) {
            use InstanceState::{Pending, Staged, Staging};
            let waits = matches!(record.state(), Pending | Staging | Staged) && !record.touched;
            let serves = groups
                .iter()
                .flat_map(|group| &group.instances)
                .any(|seen| seen.id == record.id && lifecycle(&seen.lifecycle) == Lifecycle::InService);
            if !waits || !serves {
                continue;
            }
            let mut now = targets.memberships(groups, target_groups, record);
            for there in &mut now {
                let before = record.memberships.iter().find(|before| before.target() == there.target());
                there.unwatched = before.is_some_and(|before| before.unwatched);
            }
            // What one look misses is a membership still.
            let is_known = |wanted: &Membership| now.iter().any(|there| there.target() == wanted.target());
            let missing = record.memberships.iter().filter(|membership| !is_known(membership));
            let kept = missing.filter(|m| {
                let what = format!("{} {}:{}", record.id, m.target_group, m.port);
                !self.is_missed_twice(row.id, &what)
            });
            let kept: Vec<Membership> = kept.cloned().collect();
            for there in &now {
                self.is_seen(row.id, &format!("{} {}:{}", record.id, there.target_group, there.port));
            }
            now.extend(kept);
            now.sort_by_key(Membership::target);
            let mut before = record.memberships.clone();
            before.sort_by_key(Membership::target);
            if before != now && !now.is_empty() {
                record.memberships = now;
                changed.push(record.clone());
            }
        }
        if changed.is_empty() {
            return Ok(());
        }
        let mut tx = self.store.write().await?;
        for record in &changed {
            tx.put_instance(row.id, &record.id, &record.state().to_string(), &record::json(record)).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// Whether a newcomer is a target of everything that its Auto Scaling group registers it with, and of something at all.
fn is_member(record: &Instance, groups: &[GroupSight]) -> bool {
    let attached = groups.iter().filter(|group| group.name == record.group).flat_map(|g| &g.target_groups);
    let is_in = |arn: &String| record.memberships.iter().any(|m| m.target_group == *arn && m.seen);
    attached.clone().all(is_in) && record.memberships.iter().any(|membership| membership.seen)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lifecycle_states_are_read_leniently() {
        assert_eq!(lifecycle("Terminating:Wait"), Lifecycle::Leaving);
        assert_eq!(lifecycle("Pending:Proceed"), Lifecycle::Coming("Pending:Proceed".into()));
        assert_eq!(lifecycle("ReplacingRootVolume"), Lifecycle::Unknown("ReplacingRootVolume".into()));
    }
}
