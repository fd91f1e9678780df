//! Quarantined instances: failed, kept out of the balancer, named. A person lets one back in as it is, has it tried
//! again, or terminates it. The wish is written down first and fulfilled whenever the group is looked at, so that it
//! outlives the daemon.

use super::{Engine, GroupError, SubmitError, record};
use crate::{
    fleet::autoscaling::GroupSight,
    logs::{lines_of, note_chunk},
    rollout::{plan::Effect, state::Instance, verb::Verb},
    store::{QuarantineRow, StoreError},
};
use jiff::Timestamp;
use serde::Serialize;
use std::{fmt, str::FromStr};

/// What a person asks of a quarantined instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QuarantineVerb {
    /// Back into service with whatever is on it.
    Release,
    /// Deployed to once more.
    Retry,
    /// Gone for good.
    Terminate,
}

impl QuarantineVerb {
    /// All there are.
    pub const ALL: [QuarantineVerb; 3] =
        [QuarantineVerb::Release, QuarantineVerb::Retry, QuarantineVerb::Terminate];

    /// As it is written in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            QuarantineVerb::Release => "release",
            QuarantineVerb::Retry => "retry",
            QuarantineVerb::Terminate => "terminate",
        }
    }
}

impl fmt::Display for QuarantineVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for QuarantineVerb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| format!("'{text}' is no verb"))
    }
}

/// A quarantined instance, for people.
#[derive(Clone, Debug, Serialize)]
pub struct Quarantined {
    /// `i-…`.
    pub instance: String,
    /// Its Auto Scaling group.
    pub auto_scaling_group: String,
    /// The deployment in which it failed …
    pub deployment: i64,
    /// … and how.
    pub reason: String,
    /// Since when.
    pub since: Timestamp,
    /// `release` or `terminate`, where a person wants that.
    pub wish: Option<String>,
}

impl From<QuarantineRow> for Quarantined {
    fn from(row: QuarantineRow) -> Self {
        Quarantined {
            instance: row.instance,
            auto_scaling_group: row.auto_scaling_group,
            deployment: row.deployment,
            reason: row.reason,
            since: record::time(row.since),
            wish: row.wish,
        }
    }
}

impl Engine {
    /// All of them.
    pub async fn quarantined(&self) -> Result<Vec<Quarantined>, StoreError> {
        Ok(self.store.quarantines().await?.into_iter().map(Quarantined::from).collect())
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
            if verb != QuarantineVerb::Retry && self.store.knows_instance(instance).await? {
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
            check_room(&row, &groups)?;
        }
        self.wish(&row, verb, by).await?;
        let done = self.fulfil_wishes(&groups).await;
        if let Err(error) = done {
            let mut tx = self.store.write().await?;
            tx.set_wish(instance, None, by).await?;
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
    async fn wish(&self, row: &QuarantineRow, verb: QuarantineVerb, by: &str) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        tx.set_wish(&row.instance, Some(verb.name()), by).await?;
        let under_way = tx.deployment(row.deployment).await?.is_some_and(|d| d.finished_at.is_none());
        if let Some(text) = tx.instance(row.deployment, &row.instance).await?
            && let Ok(mut record) = serde_json::from_str::<Instance>(&text)
            && let Some(failure) =
                record.failure.as_mut().filter(|_| under_way && verb == QuarantineVerb::Release)
        {
            failure.quarantined = false;
            let state = record.state.to_string();
            tx.put_instance(row.deployment, &row.instance, &state, &record::json(&record)).await?;
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
            return Ok(self.obey(failed.id, Verb::Retry, Some(&row.instance), by).await?);
        }
        let wanted = self.store.last_good_row(&failed.group_name).await?.unwrap_or(failed);
        let mut tx = self.store.write().await?;
        let id = self.anew(&mut tx, &wanted, Some(&row.instance), by).await?;
        tx.commit().await?;
        self.wake(id);
        Ok(id)
    }

    async fn is_under_way(&self, deployment: i64) -> Result<bool, StoreError> {
        Ok(self.store.deployment(deployment).await?.is_some_and(|row| row.finished_at.is_none()))
    }

    /// Does what is wished of quarantined instances of these Auto Scaling groups; one that is gone is forgotten.
    pub(super) async fn fulfil_wishes(&self, groups: &[GroupSight]) -> anyhow::Result<()> {
        for row in self.store.quarantines().await? {
            let Some(group) = groups.iter().find(|group| group.name == row.auto_scaling_group) else {
                continue;
            };
            let seen = group.instances.iter().find(|instance| instance.id == row.instance);
            let lifecycle = seen.map_or("Terminated", |instance| instance.lifecycle.as_str());
            let (group, instance) = (group.name.clone(), row.instance.clone());
            let effect = match (row.wish.as_deref(), lifecycle) {
                (_, gone) if gone.starts_with("Terminat") || gone.starts_with("Detach") => None,
                // What is still under way lets it back in by itself.
                (Some("release"), "Standby") if self.is_under_way(row.deployment).await? => continue,
                (Some("release"), "Standby") => {
                    Some(Effect::ExitStandby { group, instances: vec![instance] })
                }
                (Some("release"), _) => None,
                (Some("terminate"), _) => Some(Effect::Terminate { group, instance }),
                _ => continue,
            };
            if let Some(effect) = effect {
                self.act_alone(&effect).await??;
            }
            let mut tx = self.store.write().await?;
            tx.end_quarantine(&row.instance).await?;
            tx.commit().await?;
        }
        Ok(())
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
