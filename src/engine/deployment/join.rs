//! Who belongs to the fleet, and where: newcomers join the plan, and memberships are observed, not remembered.

use super::{Deployment, members::put};
use crate::{
    engine::{groups::seen::lifecycle, groups::targets::Targets, record},
    fleet::{autoscaling::GroupSight, balancer::TargetGroup},
    logs::{lines_of, note_chunk},
    rollout::{
        snapshot::{Lifecycle, Member},
        state::{Instance, InstanceState, Membership, Phase},
    },
    store::DeploymentRow,
};
use jiff::Timestamp;
use std::collections::HashSet;

impl Deployment<'_> {
    /// Instances that came into service since: they join the plan.
    pub(super) async fn join(
        &self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        targets: &Targets,
        members: &mut Vec<Member>,
    ) -> anyhow::Result<()> {
        let launching = self.engine.store.launching().await?;
        let mut new = Vec::new();
        for group in groups {
            for instance in &group.instances {
                // One whose launch is still seen through joins afterwards.
                let known = members.binary_search_by(|member| member.record.id.cmp(&instance.id)).is_ok()
                    || launching.contains(&instance.id);
                if !known && lifecycle(&instance.lifecycle) == Lifecycle::InService {
                    let record = Instance::new(&instance.id, &instance.zone, &group.name, Timestamp::now());
                    new.push(Instance { joined: true, ..record });
                }
            }
        }
        // A new instance is in service before its agent is known; it joins once it can be talked to.
        let online = self.engine.online(new.iter().map(|record| record.id.clone()).collect()).await?;
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
        let good = self.engine.store.good_revisions(&row.group_name).await?;
        for record in &mut new {
            let good = good.get(&record.id);
            record.good = good.map(|good| good.sha.clone());
            if good.is_some_and(|good| good.runs && good.sha == row.sha) {
                record.phase = Phase::Skipped;
            }
        }
        let mut tx = self.engine.store.write().await?;
        tx.put_instances(row.id, &new.iter().map(record::write_of).collect::<Vec<_>>()).await?;
        let lines: Vec<(&str, Vec<u8>)> = new
            .iter()
            .map(|record| {
                let words = match record.state() {
                    InstanceState::Skipped => "came into service during the rollout, with its revision",
                    _ => "came into service during the rollout: it joins",
                };
                (record.id.as_str(), lines_of(words))
            })
            .collect();
        let notes: Vec<_> = lines.iter().map(|(id, text)| note_chunk(Some(id), text)).collect();
        tx.append_logs(row.id, &notes).await?;
        tx.commit().await?;
        self.engine.logs.announce(row.id);
        put(members, new);
        Ok(())
    }

    /// Whoever is not in hand yet may have been registered elsewhere since: that is what will be taken out and put back.
    pub(super) async fn refresh_memberships(
        &mut self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        targets: &Targets,
        members: &mut [Member],
    ) -> anyhow::Result<()> {
        let seen = groups.iter().flat_map(|group| &group.instances);
        let serving: HashSet<&str> = seen
            .filter(|seen| lifecycle(&seen.lifecycle) == Lifecycle::InService)
            .map(|seen| seen.id.as_str())
            .collect();
        let mut changed = Vec::new();
        let records = members.iter_mut().map(|member| &mut member.record);
        for record in records.filter(|record| !record.was_quarantined) {
            use InstanceState::{Pending, Staged, Staging};
            let waits = matches!(record.state(), Pending | Staging | Staged) && !record.touched;
            if !waits || !serving.contains(record.id.as_str()) {
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
                !self.looks.missed.is_missed_twice(&what)
            });
            let kept: Vec<Membership> = kept.cloned().collect();
            for there in &now {
                self.looks.missed.is_seen(|| format!("{} {}:{}", record.id, there.target_group, there.port));
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
        let mut tx = self.engine.store.write().await?;
        tx.put_instances(row.id, &changed.iter().map(record::write_of).collect::<Vec<_>>()).await?;
        Ok(tx.commit().await?)
    }
}

/// Whether a newcomer is a target of everything that its Auto Scaling group registers it with, and of something at all.
fn is_member(record: &Instance, groups: &[GroupSight]) -> bool {
    let attached = groups.iter().filter(|group| group.name == record.group).flat_map(|g| &g.target_groups);
    let is_in = |arn: &String| record.memberships.iter().any(|m| m.target_group == *arn && m.seen);
    attached.clone().all(is_in) && record.memberships.iter().any(|membership| membership.seen)
}
