//! What the fleet shows, put beside what the store remembers: the planner's snapshot.

use super::{
    Deployment,
    looks::{Look, only_unseen},
    members::Members,
};
use crate::{
    engine::{
        estimate::timing_of,
        groups::{
            preconditions::attached_and,
            seen::{group_of, lifecycle},
            targets::Targets,
        },
        planned::Planned,
        record,
    },
    fleet::{autoscaling::GroupSight, balancer::TargetGroup},
    rollout::{
        policy::OnFailure,
        snapshot::{Group, Hold, Lifecycle, Member, Revision, Sight, Snapshot},
        state::{DeploymentState, InstanceState},
    },
    store::DeploymentRow,
};
use anyhow::Context as _;
use std::{
    collections::{BTreeMap, BTreeSet, HashSet},
    sync::Arc,
    time::Instant,
};

/// While nobody's health is waited for, targets are looked at this many times less often than `poll` says.
const TARGETS_POLLS: i32 = 5;

impl Deployment<'_> {
    /// Everything that the planner may know; none where the deployment was halted for what is seen. `unseen`: what could not
    /// be read already.
    pub(super) async fn observe(
        &mut self,
        row: &DeploymentRow,
        mut unseen: Option<String>,
    ) -> anyhow::Result<Option<Snapshot>> {
        let planned = self.engine.planned(row)?;
        let mut list = self.members.as_mut().map(Members::lend).unwrap_or_default();
        let waits_for_aws = |member: &Member| {
            use InstanceState::{Allowing, Blocking, PostAllowing, PreBlocking, Restoring};
            let state = member.record.state();
            matches!(state, PreBlocking | Blocking | Allowing | PostAllowing | Restoring)
        };
        let recent = self.looks.recent(!list.iter().any(waits_for_aws)).filter(|_| unseen.is_none());
        let (look, blind, regained) = match recent {
            Some(look) => (look, None, false),
            None => {
                let look = only_unseen(self.look(row, &planned, &mut list).await, &mut unseen)?;
                self.remember_look(look, unseen).await?
            }
        };
        for member in &mut list {
            member.sight = look.sights.get(&member.record.id).cloned().unwrap_or_else(Sight::unseen);
        }
        let Some(members) = &mut self.members else { return Ok(None) };
        members.give_back(list);
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
        let mut attempts = members.awaited();
        self.engine.vet_what_hosts_say(row, members.records(), &mut attempts).await?;
        let former = self.engine.formers(members.records()).await?;
        let mut list = members.lend();
        for member in &mut list {
            member.attempt = member.record.attempt().and_then(|number| attempts.remove(&number));
        }
        let policy = record::policy(row)?;
        let mut deployment = record::deployment(row)?;
        if policy.on_failure == OnFailure::Rollback {
            deployment.fallback = self.engine.store.good_before(&row.group_name, row.id, &row.sha).await?;
        }
        Ok(Some(Snapshot {
            deployment,
            policy,
            revision: Revision { former, ..record::appspec(row)?.for_planning() },
            members: list,
            groups: self.groups_as_seen(row, &planned, &look.groups).await?,
            timing: timing_of(&look.target_groups),
            refused: self.refusals.current(),
            outage: blind,
            outage_ended: regained,
        }))
    }

    /// One whole look at the fleet: those that joined since are among the members then.
    async fn look(
        &mut self,
        row: &DeploymentRow,
        planned: &Planned,
        members: &mut Vec<Member>,
    ) -> anyhow::Result<Look> {
        let launches = row.launch != 0;
        let groups = match launches {
            true => self.engine.shared_groups(&planned.auto_scaling_groups).await?,
            false => self.engine.groups_now(&planned.auto_scaling_groups).await?,
        };
        self.engine.remember_attached(&groups);
        // Foreign ones among them, found at the start.
        let journalled = members.iter().flat_map(|member| &member.record.memberships);
        let journalled: BTreeSet<&String> = journalled.map(|membership| &membership.target_group).collect();
        let mut arns = attached_and(&groups, &planned.target_groups);
        let foreign: Vec<String> =
            journalled.into_iter().filter(|arn| !arns.contains(arn)).cloned().collect();
        arns.extend(foreign);
        let target_groups = self.target_groups(&arns).await?;
        let whole = row.launch == 0 && row.only_instance.is_none();
        let targets = match launches {
            true => Arc::new(self.engine.shared_targets(&target_groups).await?),
            false => self.targets(&target_groups, &groups, members).await?,
        };
        if whole && self.engine.moved(row).is_none() {
            self.refresh_memberships(row, &groups, &target_groups, &targets, members).await?;
            self.join(row, &groups, &target_groups, &targets, members).await?;
        }
        let mut sights = targets.sights(&groups, members.iter().map(|member| &member.record));
        self.note_departures(&groups, members, &mut sights).await;
        let deleted = targets.deleted.clone();
        Ok(Look { groups, target_groups, sights, deleted })
    }

    /// The targets: as they are, or as they were a moment ago while the health of none is waited for. An instance that is still
    /// on its way into standby is not drained, and one on its way out of it not in service, whatever their targets say; one
    /// that runs its hooks is out of them.
    async fn targets(
        &mut self,
        target_groups: &[TargetGroup],
        groups: &[GroupSight],
        members: &[Member],
    ) -> anyhow::Result<Arc<Targets>> {
        let seen = groups.iter().flat_map(|group| &group.instances);
        let moving: HashSet<&str> = seen
            .filter(|seen| {
                matches!(lifecycle(&seen.lifecycle), Lifecycle::EnteringStandby | Lifecycle::Coming(_))
            })
            .map(|seen| seen.id.as_str())
            .collect();
        let is_awaited = |member: &Member| match member.record.state() {
            InstanceState::Blocking | InstanceState::Allowing => !moving.contains(member.record.id.as_str()),
            InstanceState::Restoring => true,
            _ => false,
        };
        let poll = self.engine.config.server.poll;
        if !members.iter().any(is_awaited)
            && let Some(targets) = self.looks.targets_since(poll * TARGETS_POLLS)
        {
            return Ok(targets);
        }
        let targets = Arc::new(self.engine.targets(target_groups).await?);
        self.looks.targets = Some((Instant::now(), Arc::clone(&targets)));
        Ok(targets)
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
            let hold = match self.engine.store.hold(name).await?.filter(|_| row.launch == 0) {
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

    /// The target groups' settings, asked for once: they seldom change.
    async fn target_groups(&mut self, arns: &[String]) -> anyhow::Result<Vec<TargetGroup>> {
        let known = |arn: &String| self.target_groups.iter().any(|group| group.arn == *arn);
        if !arns.iter().all(known) {
            self.target_groups = self.engine.fleet.target_groups(arns).await?;
        }
        Ok(self.target_groups.clone())
    }
}
