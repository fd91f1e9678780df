//! What the fleet shows, put beside what the store remembers: the planner's snapshot.

use super::{
    Engine,
    estimate::timing_of,
    planned::Planned,
    preconditions::attached_and,
    record,
    sight::{Look, only_unseen},
};
use crate::{
    fleet::{autoscaling::GroupSight, balancer::TargetGroup},
    rollout::{
        policy::OnFailure,
        snapshot::{Attempt, Group, Health, Hold, Lifecycle, Member, Outcome, Sight, Snapshot},
        state::{Instance, InstanceState},
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
    Group { min: seen.min, desired: seen.desired, suspended: seen.suspended.clone(), hold }
}

impl Engine {
    /// Everything that the planner may know. `unseen`: what could not be read already.
    pub(super) async fn observe(
        &self,
        row: &DeploymentRow,
        mut unseen: Option<String>,
    ) -> anyhow::Result<Snapshot> {
        let planned = self.planned(row)?;
        let mut records = record::instances(&self.store, row.id).await?;
        let look = only_unseen(self.look(row, &planned, &mut records).await, &mut unseen)?;
        let (look, blind, regained) = self.remember_look(row.id, look, unseen);
        let mut sights = look.sights.clone();
        let attempts: HashMap<i64, Attempt> = self
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
        let members = records
            .into_iter()
            .map(|record| {
                let sight = sights.remove(&record.id).unwrap_or_else(Sight::unseen);
                let attempt = record.attempt.and_then(|number| attempts.get(&number).cloned());
                Member { record, sight, attempt }
            })
            .collect();
        let policy = record::policy(row)?;
        let mut deployment = record::deployment(row)?;
        if policy.on_failure == OnFailure::Rollback {
            deployment.fallback = self.store.good_before(&row.group_name, row.id, &row.sha).await?;
        }
        Ok(Snapshot {
            deployment,
            policy,
            revision: record::appspec(row)?.for_planning(),
            members,
            groups: self.groups_as_seen(row, &planned, &look.groups).await?,
            timing: timing_of(&look.target_groups),
            refused: self.refused_effects(row.id),
            blind,
            regained,
        })
    }

    /// One whole look at the fleet: those that joined since are among the records then.
    async fn look(
        &self,
        row: &DeploymentRow,
        planned: &Planned,
        records: &mut Vec<Instance>,
    ) -> anyhow::Result<Look> {
        let groups = self.fleet.groups(&planned.auto_scaling_groups).await?;
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
        if whole && self.moved(row).is_none() {
            self.join(row, &groups, &target_groups, records).await?;
        }
        let mut sights = self.sights(&groups, &target_groups, records).await?;
        self.see_who_left(row.id, &groups, records, &mut sights).await;
        Ok(Look { groups, target_groups, sights })
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
                    groups.insert(name.clone(), Group { min, desired: min, suspended, hold: Some(hold) });
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
        self.find_memberships(groups, target_groups, &mut new).await?;
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
                record.state = InstanceState::Skipped;
            }
        }
        let mut tx = self.store.write().await?;
        for record in &new {
            tx.put_instance(row.id, &record.id, &record.state.to_string(), &record::json(record)).await?;
            let words = match record.state {
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

    /// What the fleet shows of each of these instances.
    pub(super) async fn sights(
        &self,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        members: &[Instance],
    ) -> anyhow::Result<BTreeMap<String, Sight>> {
        // (target group, instance) → (state, reason)
        let mut targets: HashMap<(&str, String), (String, String)> = HashMap::new();
        for group in target_groups {
            for target in self.fleet.target_health(&group.arn).await? {
                targets.insert((&group.arn, target.instance), (target.state, target.reason));
            }
        }
        let mut sights = BTreeMap::new();
        for member in members {
            let instances =
                groups.iter().filter(|group| group.name == member.group).flat_map(|group| &group.instances);
            let state = instances.into_iter().find(|instance| instance.id == member.id);
            let lifecycle = state.map_or(Lifecycle::Leaving, |instance| lifecycle(&instance.lifecycle));
            let mut registered = Vec::new();
            let mut states = Vec::new();
            for membership in &member.memberships {
                let found = targets.get(&(membership.target_group.as_str(), member.id.clone()));
                let (state, reason) =
                    found.map_or(("unused", ""), |(state, reason)| (state.as_str(), reason.as_str()));
                if !membership.owned && !["unused", "draining", "unhealthy.draining"].contains(&state) {
                    registered.push(membership.target_group.clone());
                }
                states.push((state, reason));
            }
            let condemned = match state {
                Some(instance) if instance.unhealthy && lifecycle == Lifecycle::Leaving => {
                    Some("a health check found it unhealthy".to_owned())
                }
                _ => None,
            };
            let sight = Sight { lifecycle, health: worst(&states), registered, condemned };
            sights.insert(member.id.clone(), sight);
        }
        Ok(sights)
    }
}

/// Whether a newcomer is a target of everything that its Auto Scaling group registers it with, and of something at all.
fn is_member(record: &Instance, groups: &[GroupSight]) -> bool {
    let attached = groups.iter().filter(|group| group.name == record.group).flat_map(|g| &g.target_groups);
    let is_in = |arn: &String| record.memberships.iter().any(|m| m.target_group == *arn && m.seen);
    attached.clone().all(is_in) && record.memberships.iter().any(|membership| membership.seen)
}

/// The health over all target groups, from each one's state and reason.
fn worst(states: &[(&str, &str)]) -> Health {
    let with = |names: &[&str]| states.iter().find(|(state, _)| names.contains(state)).copied();
    if with(&["draining", "unhealthy.draining"]).is_some() {
        return Health::Draining;
    }
    if states.iter().all(|(state, _)| *state == "unused") {
        return Health::Out;
    }
    if let Some((state, reason)) = with(&["unhealthy", "unavailable"]) {
        return Health::Unhealthy(if reason.is_empty() { state.into() } else { reason.into() });
    }
    match states.iter().find(|(state, _)| *state != "healthy") {
        Some(("unused", _)) => Health::Initial("not yet registered in every target group".into()),
        Some((state, reason)) => {
            Health::Initial(if reason.is_empty() { (*state).into() } else { (*reason).into() })
        }
        None => Health::Healthy,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_of_several_target_groups_counts() {
        assert_eq!(worst(&[("healthy", ""), ("healthy", "")]), Health::Healthy);
        assert_eq!(
            worst(&[("healthy", ""), ("unused", "")]),
            Health::Initial("not yet registered in every target group".into())
        );
        assert_eq!(worst(&[("healthy", ""), ("draining", "")]), Health::Draining);
        assert_eq!(worst(&[("unused", ""), ("unused", "")]), Health::Out);
        assert_eq!(
            worst(&[("healthy", ""), ("unhealthy", "Target.Timeout")]),
            Health::Unhealthy("Target.Timeout".into())
        );
    }

    #[test]
    fn lifecycle_states_are_read_leniently() {
        assert_eq!(lifecycle("Terminating:Wait"), Lifecycle::Leaving);
        assert_eq!(lifecycle("Pending:Proceed"), Lifecycle::Coming("Pending:Proceed".into()));
        assert_eq!(lifecycle("ReplacingRootVolume"), Lifecycle::Unknown("ReplacingRootVolume".into()));
    }
}
