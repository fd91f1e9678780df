//! A look at what a deployment would find: its groups, its instances, their agents; and everything about them that can be
//! found wrong before a host is touched. Preparing a deployment begins with it, and a rehearsal.

use crate::{
    config::Group,
    engine::{
        Engine,
        groups::preconditions::{
            Trouble, check_group, check_target_groups, left_behind, no_such_group, refuse, target_group_arns,
        },
        marks::MOST_STANDBY,
        marks::RESTORE_TAG,
        memory::InstanceIds,
        record,
    },
    fleet::{autoscaling::GroupSight, balancer::TargetGroup},
    rollout::{
        plan::check_pools,
        policy::Policy,
        snapshot::{Health, Lifecycle, Sight},
        state::{Instance, InstanceState, Phase},
    },
    store::{DeploymentRow, QuarantineRow},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{BTreeMap, HashSet},
    sync::{Arc, PoisonError},
    time::{Duration, Instant},
};

/// DescribeTargetHealth of so many target groups at once, and then one in so long: 30 % of AWS's bucket of 40, and of the
/// 10 that it refills in a second.
const BURST: usize = 12;
const PACE: Duration = Duration::from_millis(330);

/// A target group that held none of a deployment group's instances is not asked again for so long: a rehearsal and the
/// deployment after it ask once.
const STRANGER: SignedDuration = SignedDuration::from_mins(10);

/// What one deployment has seen of others' target groups serves all that are prepared within this time.
const SHARED_FOR: Duration = Duration::from_secs(60);

/// What was seen.
pub(in crate::engine) struct Survey {
    /// The deployment's; of a rollback fitted to the fleet as it is.
    pub(in crate::engine) policy: Policy,
    pub(in crate::engine) groups: Vec<GroupSight>,
    pub(in crate::engine) target_groups: Vec<TargetGroup>,
    pub(in crate::engine) members: Vec<Instance>,
    pub(in crate::engine) sights: BTreeMap<String, Sight>,
    /// Ids of those to be deployed to, and whether their agent can be reached.
    pub(in crate::engine) agents: BTreeMap<String, bool>,
    /// Members that count: all but an operator's own standby instances.
    pub(in crate::engine) total: u32,
    /// Those in service and healthy.
    pub(in crate::engine) healthy: u32,
}

/// The Auto Scaling groups that a search was for.
fn groups_key(groups: &[GroupSight]) -> String {
    groups.iter().map(|group| group.name.as_str()).collect::<Vec<_>>().join(" ")
}

impl Engine {
    /// Looks, and refuses what can't work. Where CI has `rebuilt` the commit, nobody has it already.
    pub(in crate::engine) async fn survey(
        &self,
        row: &DeploymentRow,
        group: &Group,
        rebuilt: bool,
    ) -> Result<Survey, Trouble> {
        let groups = self.fleet.groups(&group.auto_scaling_groups).await?;
        for name in &group.auto_scaling_groups {
            match groups.iter().find(|seen| seen.name == *name) {
                None => return refuse(no_such_group(name)),
                Some(seen) => {
                    check_group(&self.fleet, seen).await?;
                    self.check_tag(&row.group_name, seen).await?;
                }
            }
        }
        self.remember_attached(&groups);
        let arns = target_group_arns(&groups, group);
        let mut target_groups = self.fleet.target_groups(&arns).await?;
        check_target_groups(&arns, &target_groups)?;
        let foreign = self.foreign_target_groups(&groups, &target_groups).await?;
        target_groups.extend(self.fleet.target_groups(&foreign).await?);
        let (members, sights, total) = self.members(row, &groups, &target_groups, &foreign, rebuilt).await?;
        if total == 0 {
            return refuse(format!(
                "the fleet is empty: {} has no instance in service",
                group.auto_scaling_groups.join(", ")
            ));
        }
        let mut policy = record::policy(row)?;
        if row.rolls_back.is_some() {
            policy = policy.shrunk_to_fit(total);
        }
        let out_already = |record: &Instance| {
            row.only_instance.as_deref() == Some(record.id.as_str()) && record.was_quarantined
        };
        if !members.iter().any(out_already) {
            policy.check_fleet(total).or_else(refuse)?;
            check_pools(&policy, &members).or_else(refuse)?;
        }
        let in_hand = members.iter().filter(|record| record.state() == InstanceState::Pending);
        let ids: Vec<String> = in_hand.map(|record| record.id.clone()).collect();
        let known: BTreeMap<String, bool> = self.fleet.agents(&ids).await?.into_iter().collect();
        let agents: BTreeMap<String, bool> =
            ids.into_iter().map(|id| (id.clone(), known.get(&id).copied().unwrap_or(false))).collect();
        if !agents.is_empty() && !agents.values().any(|online| *online) {
            return refuse(format!(
                "no reachable agent: Systems Manager knows none of the {} instances as Online; check that the SSM agent runs \
                 and that the instance profile has AmazonSSMManagedInstanceCore",
                agents.len()
            ));
        }
        let healthy = sights.values().filter(|sight| sight.serves()).count();
        let healthy = u32::try_from(healthy).unwrap_or(u32::MAX);
        Ok(Survey { policy, groups, target_groups, members, sights, agents, total, healthy })
    }

    /// Target groups that neither the Auto Scaling groups nor the configuration names, and that send requests to the
    /// instances all the same: they must drain, too. Those that held none a while ago are not asked again.
    async fn foreign_target_groups(
        &self,
        groups: &[GroupSight],
        known: &[TargetGroup],
    ) -> anyhow::Result<Vec<String>> {
        let ours: HashSet<&str> =
            groups.iter().flat_map(|group| &group.instances).map(|instance| instance.id.as_str()).collect();
        let mut networks: Vec<String> = known.iter().filter_map(|group| group.network.clone()).collect();
        networks.sort_unstable();
        networks.dedup();
        let others = self.fleet.target_groups_in(&networks).await?.into_iter();
        let others: Vec<String> = {
            let now = Timestamp::now();
            let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
            strangers.retain(|_, looked| now < *looked + STRANGER);
            let asked = |arn: &String| {
                !known.iter().any(|group| group.arn == *arn)
                    && !strangers.contains_key(&(arn.clone(), groups_key(groups)))
            };
            others.filter(asked).collect()
        };
        let mut foreign = Vec::new();
        // One looks through them, and the others that wait meanwhile find what it saw.
        let mut known = self.shared.members.lock().await;
        known.retain(|_, (looked, _)| looked.elapsed() < SHARED_FOR);
        let mut asked = 0;
        for arn in others {
            let members = match known.get(&arn) {
                Some((_, members)) => Arc::clone(members),
                None => {
                    if asked >= BURST {
                        tokio::time::sleep(PACE).await;
                    }
                    asked += 1;
                    let targets = self.fleet.target_health(&arn).await?;
                    let members: InstanceIds =
                        Arc::new(targets.into_iter().map(|target| target.instance).collect());
                    known.insert(arn.clone(), (Instant::now(), Arc::clone(&members)));
                    members
                }
            };
            if ours.iter().any(|instance| members.contains(*instance)) {
                foreign.push(arn);
            } else {
                let mut strangers = self.strangers.lock().unwrap_or_else(PoisonError::into_inner);
                strangers.insert((arn, groups_key(groups)), Timestamp::now());
            }
        }
        Ok(foreign)
    }

    /// Checks once more what must hold of a deployment's groups before anything is taken out; the inner error is why not.
    pub(in crate::engine) async fn preconditions(
        &self,
        row: &DeploymentRow,
    ) -> anyhow::Result<Result<(), String>> {
        if let Some(why) = self.moved(row) {
            return Ok(Err(why));
        }
        let Some((_, group)) = self.config.group(&row.group_name) else { return Ok(Ok(())) };
        for seen in self.fleet.groups(&group.auto_scaling_groups).await? {
            match check_group(&self.fleet, &seen).await {
                Ok(()) => {}
                Err(Trouble::Final(why)) => return Ok(Err(why)),
                Err(Trouble::Passing(error)) => return Err(error),
            }
        }
        Ok(Ok(()))
    }

    /// A group that says how it is to be put back, of which this daemon knows nothing: another daemon is at work on it, or
    /// was, and its disk is gone. What it says must not be written over.
    async fn check_tag(&self, name: &str, seen: &GroupSight) -> Result<(), Trouble> {
        let ours = self.was_released_lately(&seen.name) || self.store.hold(&seen.name).await?.is_some();
        match seen.tag(RESTORE_TAG).filter(|_| !ours) {
            None => Ok(()),
            Some(_) => refuse(left_behind(&seen.name, name)),
        }
    }

    /// Everyone in the groups, to be deployed to or skipped; what is seen of each; and how many count: all but an
    /// operator's own standby instances.
    async fn members(
        &self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        foreign: &[String],
        rebuilt: bool,
    ) -> Result<(Vec<Instance>, BTreeMap<String, Sight>, u32), Trouble> {
        let now = Timestamp::now();
        let good = self.store.good_revisions(&row.group_name).await?;
        let only = row.only_instance.as_deref();
        let quarantines = self.store.quarantines().await?;
        let launching = self.store.launching().await?;
        let mut members = Vec::new();
        for group in groups {
            let kept_out = |id: &str| quarantines.iter().any(|row| row.instance == id);
            let ours = quarantines
                .iter()
                .filter(|kept| kept.auto_scaling_group == group.name && kept.group_name == row.group_name);
            let ours = ours.filter(|kept| only.is_none_or(|only| kept.instance == only));
            let online = self.online(ours.map(|row| row.instance.clone()).collect()).await?;
            // Each one let in raises the desired capacity, which MaxSize bounds.
            let mut room = group.max.saturating_sub(group.desired);
            let mut standby = 0;
            for instance in &group.instances {
                let mut record = Instance::new(&instance.id, &instance.zone, &group.name, now);
                record.good = good.get(&instance.id).map(|good| good.sha.clone());
                match crate::engine::groups::seen::lifecycle(&instance.lifecycle) {
                    // Its launch is still seen through: it joins afterwards.
                    Lifecycle::InService if launching.contains(&instance.id) => continue,
                    Lifecycle::InService => {}
                    // One that we keep out gets another chance, if there is still an agent to talk to.
                    Lifecycle::Standby if room > 0 && online.contains(&instance.id) => {
                        room -= 1;
                        record.was_quarantined = true;
                        let kept = quarantines.iter().find(|kept| kept.instance == instance.id);
                        record.is_capacity_owed = match kept {
                            Some(kept) => self.is_owed(kept).await?,
                            None => false,
                        };
                    }
                    Lifecycle::Standby if only == Some(instance.id.as_str()) => {
                        return refuse(match room {
                            0 => format!(
                                "{} is in standby, and Auto Scaling group {} is at its MaxSize of {}: it could not come back \
                                 into service; raise MaxSize, or 'drover quarantine terminate {}'",
                                instance.id, group.name, group.max, instance.id
                            ),
                            _ => format!("the agent of {} can't be reached", instance.id),
                        });
                    }
                    // An operator's own standby instance is never touched.
                    Lifecycle::Standby => {
                        record.phase = Phase::Skipped;
                        record.good = None;
                        standby += usize::from(!kept_out(&instance.id));
                    }
                    _ => continue,
                }
                members.push(record);
            }
            if standby > MOST_STANDBY {
                return refuse(format!(
                    "{standby} instances of Auto Scaling group {} are in standby by another hand: the group's tag has room for \
                     {MOST_STANDBY}, so that they could not be told apart later; put some back first",
                    group.name
                ));
            }
        }
        let total = members.iter().filter(|record| record.state() != InstanceState::Skipped).count();
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        let targets = self.targets(target_groups).await?;
        for record in &mut members {
            record.memberships = targets.memberships(groups, target_groups, record);
            for membership in record.memberships.iter_mut().filter(|m| foreign.contains(&m.target_group)) {
                membership.unwatched = !targets.is_healthy(membership, &record.id);
            }
        }
        for kept in quarantines.iter().filter(|kept| kept.group_name == row.group_name) {
            let Some(record) = members.iter_mut().find(|record| record.id == kept.instance) else { continue };
            // Out of these by our doing: the fleet doesn't show them.
            for membership in self.journalled(kept).await? {
                if !record.memberships.iter().any(|m| m.target() == membership.target()) {
                    record.memberships.push(membership);
                }
            }
        }
        let sights = targets.sights(groups, &members);
        if let Some(only) = &row.only_instance {
            if !members.iter().any(|record| record.id == *only) {
                return refuse(format!(
                    "{only} is not in service in this group, and not in quarantine either"
                ));
            }
            for record in members.iter_mut().filter(|record| record.id != *only) {
                record.phase = Phase::Skipped;
            }
        }
        for record in &mut members {
            let sight = sights.get(&record.id);
            let healthy = sight.is_some_and(|sight| sight.health == Health::Healthy);
            record.healthy_at_start = healthy && sight.is_some_and(|s| s.lifecycle == Lifecycle::InService);
            let has_it = good.get(&record.id).is_some_and(|good| good.runs && good.sha == row.sha);
            let as_it_is = !rebuilt || row.only_instance.is_some();
            if record.state() == InstanceState::Pending && healthy && has_it && as_it_is {
                record.phase = Phase::Skipped;
            }
        }
        Ok((members, sights, total))
    }

    /// Whether the deployment that quarantined it left its desired capacity to the rollback after it.
    async fn is_owed(&self, kept: &QuarantineRow) -> anyhow::Result<bool> {
        let row = self.store.deployment(kept.deployment).await?;
        if row.is_none_or(|row| row.rolled_back_by.is_none()) {
            return Ok(false);
        }
        Ok(self.kept_record(kept).await?.is_some_and(|record| !record.is_replaced()))
    }

    /// Those of these instances whose agent can be reached.
    pub(in crate::engine) async fn online(&self, instances: Vec<String>) -> anyhow::Result<Vec<String>> {
        let agents = self.fleet.agents(&instances).await?;
        Ok(agents.into_iter().filter(|(_, online)| *online).map(|(id, _)| id).collect())
    }
}
