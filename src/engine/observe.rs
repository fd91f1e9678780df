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
    fleet::{
        autoscaling::{GroupSight, InstanceSight},
        balancer::{NO_SUCH_GROUP, TargetGroup, TargetSight},
    },
    rollout::{
        policy::OnFailure,
        snapshot::{Attempt, Group, Health, Hold, Lifecycle, Member, Outcome, Revision, Sight, Snapshot},
        state::{DeploymentState, Instance, InstanceState, Membership},
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
                let attempt = record.attempt.and_then(|number| attempts.get(&number).cloned());
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
            let waits = matches!(record.state, Pending | Staging | Staged) && !record.touched;
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
            tx.put_instance(row.id, &record.id, &record.state.to_string(), &record::json(record)).await?;
        }
        Ok(tx.commit().await?)
    }
}

/// The targets of some target groups, as last seen.
#[derive(Default)]
pub(super) struct Targets {
    /// By ARN and instance: each port that the instance is registered on.
    found: HashMap<(String, String), Vec<TargetSight>>,
    /// Target groups that are there no more.
    pub(super) deleted: Vec<String>,
}

impl Targets {
    pub(super) fn add(&mut self, arn: &str, targets: Vec<TargetSight>) {
        for target in targets {
            self.found.entry((arn.to_owned(), target.instance.clone())).or_default().push(target);
        }
    }

    fn of(&self, arn: &str, instance: &str) -> &[TargetSight] {
        self.found.get(&(arn.to_owned(), instance.to_owned())).map_or(&[], Vec::as_slice)
    }

    /// Where an instance is registered: by its Auto Scaling group, or found in another of these target groups. An Auto
    /// Scaling group registers and deregisters the target group's own port alone.
    pub(super) fn memberships(
        &self,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        record: &Instance,
    ) -> Vec<Membership> {
        let group = groups.iter().find(|group| group.name == record.group);
        let mut memberships = Vec::new();
        for target_group in target_groups {
            let (arn, own_port) = (&target_group.arn, target_group.port);
            let attached = group.is_some_and(|group| group.target_groups.contains(arn));
            let mut ports: BTreeMap<u16, bool> =
                self.of(arn, &record.id).iter().map(|target| (target.port, true)).collect();
            if attached {
                ports.entry(own_port).or_insert(false);
            }
            memberships.extend(ports.into_iter().map(|(port, seen)| Membership {
                target_group: arn.clone(),
                port,
                owned: attached && port == own_port,
                seen,
                unwatched: false,
            }));
        }
        memberships
    }

    /// Whether an instance is healthy there.
    pub(super) fn is_healthy(&self, membership: &Membership, instance: &str) -> bool {
        let targets = self.of(&membership.target_group, instance).iter();
        targets.clone().any(|target| target.port == membership.port && target.state == "healthy")
    }

    /// What the fleet shows of each of these instances.
    pub(super) fn sights(&self, groups: &[GroupSight], members: &[Instance]) -> BTreeMap<String, Sight> {
        let listed: HashMap<(&str, &str), &InstanceSight> = groups
            .iter()
            .flat_map(|group| group.instances.iter().map(move |seen| (group.name.as_str(), seen)))
            .map(|(group, seen)| ((group, seen.id.as_str()), seen))
            .collect();
        let sight_of = |member: &Instance| {
            let state = listed.get(&(member.group.as_str(), member.id.as_str()));
            let lifecycle = state.map_or(Lifecycle::Leaving, |instance| lifecycle(&instance.lifecycle));
            let mut registered = Vec::new();
            let mut states = Vec::new();
            let there = |membership: &&Membership| !self.deleted.contains(&membership.target_group);
            for membership in member.memberships.iter().filter(there) {
                let targets = self.of(&membership.target_group, &member.id);
                let found = targets.iter().find(|target| target.port == membership.port);
                let (state, reason) =
                    found.map_or(("unused", ""), |target| (target.state.as_str(), target.reason.as_str()));
                if !membership.owned && !["unused", "draining", "unhealthy.draining"].contains(&state) {
                    registered.push(membership.target());
                }
                let in_order = ["unused", "draining", "unhealthy.draining"].contains(&state);
                // Registered there, and that is all that counts.
                states.push(if membership.unwatched && !in_order {
                    ("healthy", "")
                } else {
                    (state, reason)
                });
            }
            Sight { lifecycle, health: worst(&states), registered, condemned: None, given_up: false }
        };
        members.iter().map(|member| (member.id.clone(), sight_of(member))).collect()
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
