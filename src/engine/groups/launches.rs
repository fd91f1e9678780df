//! Instances that launch. A deployment group with a lifecycle hook of ours (`drover group hook install`) gets each of
//! them held in Pending:Wait; a deployment for that one instance brings it the revision that
//! [`crate::rollout::arrival`] chooses, and lets it go into service.

use crate::{
    config::{Application, Group},
    engine::{
        Engine,
        intake::Order,
        intake::{Only, queue},
        marks::hook_name,
        record,
    },
    fleet::autoscaling::{GroupSight, InstanceSight},
    github::Commit,
    rollout::{
        arrival::{Arrival, MOST_LOST, Rolling, arrival},
        plan::{Effect, HEARTBEAT, HELD},
        state::DeploymentState,
    },
    store::{DeploymentRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::HashMap,
    sync::{Arc, PoisonError},
    time::Duration,
};
use tracing::{info, warn};

/// Between two looks, in multiples of the configured poll, and at the most. One DescribeAutoScalingGroups a group.
const POLLS: i32 = 10;
const AT_MOST: Duration = Duration::from_secs(10);

/// AWS holds a launch for 48 h at the most, or 100 heartbeats; ids are not given again.
const LONGEST_HELD: SignedDuration = SignedDuration::from_hours(8 * 24);

impl Engine {
    pub(in crate::engine) async fn follow_launches(self: Arc<Self>) {
        let pause = Duration::try_from(self.config.server.poll * POLLS).unwrap_or(AT_MOST).min(AT_MOST);
        while !self.stop.is_cancelled() {
            for name in self.config.group_names() {
                let Some((application, group)) = self.config.group(&name) else { continue };
                if let Err(error) = self.look_at_launches(&name, application, group).await {
                    warn!(group = name, "looking for launches: {error:#}");
                }
            }
            tokio::select! {
                () = tokio::time::sleep(pause) => {}
                () = self.stop.cancelled() => {}
            }
        }
    }

    /// Why launches of a group wait for a person, if they do.
    pub fn alarm(&self, group: &str) -> Option<String> {
        self.alarms.lock().unwrap_or_else(PoisonError::into_inner).get(group).cloned()
    }

    async fn look_at_launches(
        &self,
        name: &str,
        application: &Application,
        group: &Group,
    ) -> anyhow::Result<()> {
        let groups = self.fleet.groups(&group.auto_scaling_groups).await?;
        self.remember_attached(&groups);
        self.fulfil_requests(&groups).await?;
        let mut alarm = None;
        for seen in &groups {
            let held: Vec<&InstanceSight> = seen.instances.iter().filter(|i| i.lifecycle == HELD).collect();
            if held.is_empty() {
                continue;
            }
            let hooks = self.fleet.launch_hooks(&seen.name).await?;
            if !hooks.iter().any(|hook| hook.name == hook_name(name)) {
                continue;
            }
            let since = (Timestamp::now() - LONGEST_HELD).as_millisecond();
            let launches = self.store.launches(name, since).await?;
            let known: HashMap<&str, &DeploymentRow> =
                launches.iter().filter_map(|row| Some((row.only_instance.as_deref()?, row))).collect();
            for instance in held {
                let known = known.get(instance.id.as_str()).copied();
                let id = instance.id.as_str();
                let done = match known {
                    None => match self.receive(name, application, group, seen, id).await {
                        Ok(Some(why)) => {
                            alarm = alarm.or(Some(why));
                            self.keep_alive(name, seen, id).await
                        }
                        done => done.map(drop),
                    },
                    // It ended before it came to its instance: found wrong, or cancelled.
                    Some(row) if row.finished_at.is_some() => self.complete(name, seen, id, false).await,
                    Some(row) if ["Queued", "Preparing"].contains(&row.state.as_str()) => {
                        self.keep_alive(name, seen, id).await
                    }
                    Some(_) => Ok(()),
                };
                if let Err(error) = done {
                    // It holds up none of the others.
                    warn!(group = name, instance = id, "its launch: {error:#}");
                }
            }
        }
        let mut alarms = self.alarms.lock().unwrap_or_else(PoisonError::into_inner);
        match alarm {
            Some(why) => {
                if alarms.insert(name.to_owned(), why.clone()).is_none() {
                    warn!(group = name, "{why}");
                }
            }
            None => drop(alarms.remove(name)),
        }
        Ok(())
    }

    /// Begins what a held instance needs; else why it waits for a person.
    async fn receive(
        &self,
        name: &str,
        application: &Application,
        group: &Group,
        seen: &GroupSight,
        instance: &str,
    ) -> anyhow::Result<Option<String>> {
        let unfinished = self.store.unfinished().await?;
        let running = unfinished.iter().find(|row| {
            row.group_name == name
                && row.only_instance.is_none()
                && !["Queued", "Preparing"].contains(&row.state.as_str())
        });
        // A rollout that is being cancelled proves nothing.
        let running = running.filter(|row| row.cancel.is_none());
        let records = match running {
            Some(row) => record::instances(&self.store, row.id).await?,
            None => Vec::new(),
        };
        let rolling = match running {
            None => None,
            Some(row) => {
                let state: DeploymentState = row.state.parse().map_err(anyhow::Error::msg)?;
                let bake = record::policy(row)?.bake;
                Some(Rolling { state, sha: &row.sha, instances: &records, bake })
            }
        };
        let good = self.store.last_good_row(name).await?;
        let since = good.as_ref().and_then(|row| row.finished_at).unwrap_or(0);
        // Those whose agent never came up, or that left, say nothing about the revision.
        let ran = self.store.launches_that_ran(name, i64::try_from(MOST_LOST).unwrap_or(i64::MAX)).await?;
        let lost = ran.iter().take_while(|row| row.state == "Failed" && row.created_at > since);
        let sha = match arrival(
            rolling.as_ref(),
            good.as_ref().map(|row| row.sha.as_str()),
            lost.count(),
            Timestamp::now(),
        ) {
            Arrival::Install(sha) => sha,
            Arrival::Hold(why) => return Ok(Some(why)),
            Arrival::Proceed => {
                info!(instance, "nothing was deployed to {name} yet: it goes into service as it is");
                self.complete(name, seen, instance, true).await?;
                return Ok(None);
            }
        };
        let source = running.filter(|row| row.sha == sha).or(good.as_ref());
        let title = source.map(|row| row.message.clone()).unwrap_or_default();
        let by = format!("launch of {instance}");
        let order = Order {
            group: name,
            repository: &application.repository,
            requested: &sha,
            by: &by,
            automatic: true,
            only: Some(Only::Launched(instance)),
        };
        let row = self.begin_launch(&order, Commit { sha: sha.clone(), title }, group).await?;
        info!(instance, deployment = row.id, "it launches, and gets {sha}");
        self.wake(row.id);
        Ok(None)
    }

    /// Keeps a launch waiting that no rollout keeps waiting yet: for a person, or for its agent.
    async fn keep_alive(&self, name: &str, seen: &GroupSight, instance: &str) -> anyhow::Result<()> {
        let now = Timestamp::now();
        let last = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner).get(instance).copied();
        if last.is_some_and(|last| now < last + HEARTBEAT) {
            return Ok(());
        }
        let (group, hook) = (seen.name.clone(), hook_name(name));
        self.act_alone(&Effect::Heartbeat { group, instance: instance.to_owned(), hook }).await??;
        let mut heartbeats = self.heartbeats.lock().unwrap_or_else(PoisonError::into_inner);
        // What was not kept waiting for so long is kept waiting no more.
        heartbeats.retain(|_, last| now < *last + HEARTBEAT * 3);
        heartbeats.insert(instance.to_owned(), now);
        Ok(())
    }

    /// Answers the hook outside a deployment.
    async fn complete(
        &self,
        name: &str,
        seen: &GroupSight,
        instance: &str,
        proceed: bool,
    ) -> anyhow::Result<()> {
        let (group, instance, hook) = (seen.name.clone(), instance.to_owned(), hook_name(name));
        self.act_alone(&Effect::CompleteLaunch { group, instance, hook, proceed }).await??;
        Ok(())
    }

    async fn begin_launch(
        &self,
        order: &Order<'_>,
        commit: Commit,
        group: &Group,
    ) -> Result<DeploymentRow, StoreError> {
        let mut tx = self.store.write().await?;
        let row = queue(&mut tx, order, commit, &group.policy).await?;
        tx.commit().await?;
        Ok(row)
    }
}
