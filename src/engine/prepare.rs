//! Preparing: everything that can be found wrong before a host is touched.

use super::{
    Engine,
    record::{self, json},
};
use crate::{
    fleet::{autoscaling::GroupSight, balancer::TargetGroup},
    github::GitHubError,
    logs::{lines_of, note_chunk},
    revision::{appspec::AppSpec, bundle},
    rollout::{
        snapshot::{Health, Lifecycle},
        state::{Instance, InstanceState, Membership},
    },
    store::DeploymentRow,
};
use anyhow::Context as _;
use jiff::Timestamp;
use std::{collections::BTreeMap, path::PathBuf};

/// Processes without which an instance that left can't come back.
const NEEDED: [&str; 2] = ["Launch", "AddToLoadBalancer"];

/// A bundle on the daemon's disk.
pub(super) struct Bundle {
    pub(super) sha256: String,
    pub(super) appspec: AppSpec,
}

/// Wrong for good (the deployment fails) or just now (it waits).
enum Trouble {
    Final(String),
    Passing(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Trouble {
    fn from(error: E) -> Self {
        Trouble::Passing(error.into())
    }
}

fn refuse<T>(reason: impl Into<String>) -> Result<T, Trouble> {
    Err(Trouble::Final(reason.into()))
}

impl Engine {
    pub(super) async fn prepare(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        match self.try_prepare(row).await {
            Ok(()) => Ok(()),
            Err(Trouble::Final(reason)) => Ok(self.end(row.id, "Failed", &reason).await?),
            Err(Trouble::Passing(error)) => Err(error),
        }
    }

    async fn try_prepare(&self, row: &DeploymentRow) -> Result<(), Trouble> {
        let Some((_, group)) = self.config.group(&row.group_name) else {
            return refuse(format!("deployment group '{}' is no longer configured", row.group_name));
        };
        let bundle = self.bundle(row, &row.sha).await?;
        self.ensure_log_group(row).await?;
        let groups = self.fleet.groups(&group.auto_scaling_groups).await?;
        for name in &group.auto_scaling_groups {
            match groups.iter().find(|seen| seen.name == *name) {
                None => {
                    return refuse(format!(
                        "there is no Auto Scaling group '{name}' in this account and region"
                    ));
                }
                Some(seen) => self.check_group(seen).await?,
            }
        }
        let mut arns: Vec<String> = groups.iter().flat_map(|seen| seen.target_groups.clone()).collect();
        arns.extend(group.target_groups.iter().cloned());
        arns.sort();
        arns.dedup();
        let target_groups = self.fleet.target_groups(&arns).await?;
        check_target_groups(&arns, &target_groups)?;
        let members = self.members(row, &groups, &target_groups).await?;
        let in_hand = |record: &&Instance| record.state == InstanceState::Pending;
        let total = members
            .iter()
            .filter(|record| record.state != InstanceState::Skipped || record.good.is_some())
            .count();
        if total == 0 {
            return refuse(format!(
                "the fleet is empty: {} has no instance in service",
                group.auto_scaling_groups.join(", ")
            ));
        }
        let total = u32::try_from(total).unwrap_or(u32::MAX);
        record::policy(row).check_fleet(total).or_else(refuse)?;
        let ids: Vec<String> = members.iter().filter(in_hand).map(|record| record.id.clone()).collect();
        let agents = self.fleet.agents(&ids).await?;
        if !ids.is_empty() && !agents.iter().any(|(_, online)| *online) {
            return refuse(format!(
                "no reachable agent: Systems Manager knows none of the {} instances as Online; check that the SSM agent runs \
                 and that the instance profile has AmazonSSMManagedInstanceCore",
                ids.len()
            ));
        }
        let sights = self.sights(&groups, &target_groups, &members).await?;
        let healthy = sights
            .values()
            .filter(|sight| sight.lifecycle == Lifecycle::InService && sight.health == Health::Healthy)
            .count();
        let policy = record::policy(row);
        let healthy_count = u32::try_from(healthy).unwrap_or(0);
        let words = format!(
            "{} instances, {healthy} healthy; batches of {} ({} in all, {}), at least {} stay in service, at most {} may fail",
            total,
            policy.batch,
            policy.batch.count(u32::try_from(ids.len()).unwrap_or(0)),
            match policy.mode {
                crate::rollout::policy::Mode::Batch => "each waits for the one before",
                crate::rollout::policy::Mode::Window => "as a sliding window",
            },
            policy.keep_in_service(total, healthy_count),
            policy.max_failed.of(total),
        );
        let mut tx = self.store.write().await?;
        for record in &members {
            tx.put_instance(row.id, &record.id, &record.state.to_string(), &json(record)).await?;
        }
        let healthy = i64::try_from(healthy).unwrap_or(0);
        tx.set_prepared(row.id, &json(&bundle.appspec), &bundle.sha256, i64::from(total), healthy).await?;
        tx.set_state(row.id, "Rolling", None, Timestamp::now().as_millisecond(), false).await?;
        tx.append_log(row.id, &note_chunk(None, &lines_of(&words))).await?;
        tx.commit().await?;
        self.logs.announce(row.id);
        Ok(())
    }

    async fn check_group(&self, group: &GroupSight) -> Result<(), Trouble> {
        let name = &group.name;
        if let Some(process) = NEEDED.iter().find(|process| group.suspended.iter().any(|s| s == *process)) {
            return refuse(format!(
                "{process} is suspended on Auto Scaling group {name}: an instance taken out could not come back; resume it first: \
                 aws autoscaling resume-processes --auto-scaling-group-name {name} --scaling-processes {process}"
            ));
        }
        if group.warm_pool {
            return refuse(format!(
                "Auto Scaling group {name} has a warm pool, which drover does not deploy to; delete it first"
            ));
        }
        if let Some(refresh) = self.fleet.instance_refresh(name).await? {
            return refuse(format!(
                "instance refresh {refresh} is under way on Auto Scaling group {name}; wait for it or cancel it"
            ));
        }
        Ok(())
    }

    /// Everyone in the groups: to be deployed to, or skipped and why.
    async fn members(
        &self,
        row: &DeploymentRow,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
    ) -> Result<Vec<Instance>, Trouble> {
        let now = Timestamp::now();
        let good: BTreeMap<String, String> =
            self.store.good_revisions(&row.group_name).await?.into_iter().collect();
        let mut members = Vec::new();
        for group in groups {
            let ours = self.store.quarantined(&group.name).await?.into_iter().map(|(id, ..)| id).collect();
            let online = self.online(ours).await?;
            for instance in &group.instances {
                let mut record = Instance::new(&instance.id, &instance.zone, &group.name, now);
                record.good = good.get(&instance.id).cloned();
                match super::observe::lifecycle(&instance.lifecycle) {
                    Lifecycle::InService => {}
                    // One that we keep out gets another chance, if there is still an agent to talk to.
                    Lifecycle::Standby if online.contains(&instance.id) => {}
                    // An operator's own standby instance is never touched.
                    Lifecycle::Standby => {
                        record.state = InstanceState::Skipped;
                        record.good = None;
                    }
                    _ => continue,
                }
                members.push(record);
            }
        }
        self.find_memberships(groups, target_groups, &mut members).await?;
        let sights = self.sights(groups, target_groups, &members).await?;
        for record in &mut members {
            let healthy = sights.get(&record.id).is_some_and(|sight| sight.health == Health::Healthy);
            if record.state == InstanceState::Pending
                && healthy
                && record.good.as_deref() == Some(row.sha.as_str())
            {
                record.state = InstanceState::Skipped;
            }
        }
        Ok(members)
    }

    /// Those of these instances whose agent can be reached.
    pub(super) async fn online(&self, instances: Vec<String>) -> anyhow::Result<Vec<String>> {
        let agents = self.fleet.agents(&instances).await?;
        Ok(agents.into_iter().filter(|(_, online)| *online).map(|(id, _)| id).collect())
    }

    /// Where each instance is registered: by its Auto Scaling group, or found in a target group of the configuration.
    pub(super) async fn find_memberships(
        &self,
        groups: &[GroupSight],
        target_groups: &[TargetGroup],
        members: &mut [Instance],
    ) -> anyhow::Result<()> {
        for target_group in target_groups {
            let registered = self.fleet.target_health(&target_group.arn).await?;
            for record in members.iter_mut() {
                let group = groups.iter().find(|group| group.name == record.group);
                let owned = group.is_some_and(|group| group.target_groups.contains(&target_group.arn));
                let found = registered.iter().find(|target| target.instance == record.id);
                if owned || found.is_some() {
                    record.memberships.push(Membership {
                        target_group: target_group.arn.clone(),
                        port: found.map_or(target_group.port, |target| target.port),
                        owned,
                    });
                }
            }
        }
        Ok(())
    }

    /// The bundle of a revision: from the daemon's disk, or fetched once.
    async fn bundle(&self, row: &DeploymentRow, sha: &str) -> Result<Bundle, Trouble> {
        match self.fetch_bundle(&row.repository, sha).await? {
            Ok(bundle) => Ok(bundle),
            Err(reason) => refuse(format!("revision {sha} can't be deployed: {reason}")),
        }
    }

    /// The outer error may pass; the inner one says what is wrong with the revision.
    pub(super) async fn fetch_bundle(
        &self,
        repository: &str,
        sha: &str,
    ) -> anyhow::Result<Result<Bundle, String>> {
        let path = self.bundle_path(sha);
        if !tokio::fs::try_exists(&path).await? {
            tokio::fs::create_dir_all(&self.bundles)
                .await
                .with_context(|| format!("making {}", self.bundles.display()))?;
            match self.github.download(repository, sha, &path).await {
                Ok(()) => {}
                Err(GitHubError::Revision(reason)) => return Ok(Err(reason)),
                Err(error) => return Err(error.into()),
            }
        }
        let examined = tokio::task::spawn_blocking(move || bundle::examine(&path)).await?;
        Ok(examined.map(|examined| Bundle { sha256: examined.sha256, appspec: examined.appspec }))
    }

    /// The bundle of a deployed revision, fetched anew where it isn't on this daemon's disk: a command of the daemon before
    /// may ask for it.
    pub async fn bundle_again(&self, sha: &str) -> anyhow::Result<PathBuf> {
        let path = self.bundle_path(sha);
        if tokio::fs::try_exists(&path).await? {
            return Ok(path);
        }
        let Some(repository) = self.store.repository_of(sha).await? else {
            anyhow::bail!("no deployment has this revision")
        };
        self.fetch_bundle(&repository, sha).await?.map_err(anyhow::Error::msg)?;
        Ok(path)
    }

    /// Where the bundle of a revision is kept.
    fn bundle_path(&self, sha: &str) -> PathBuf {
        self.bundles.join(format!("{sha}.tar.gz"))
    }
}

fn check_target_groups(arns: &[String], seen: &[TargetGroup]) -> Result<(), Trouble> {
    if arns.is_empty() {
        return refuse(
            "no target group: the Auto Scaling groups have none attached, and the configuration names none",
        );
    }
    for arn in arns {
        let Some(group) = seen.iter().find(|group| group.arn == *arn) else {
            return refuse(format!("there is no target group {arn}"));
        };
        if !group.of_instances {
            return refuse(format!(
                "target group {} has targets that are not instances; drover deploys to instances only",
                group.name
            ));
        }
        if !group.in_use {
            return refuse(format!(
                "target group {} is used by no listener: its health says nothing; attach it to a load balancer first",
                group.name
            ));
        }
    }
    Ok(())
}
