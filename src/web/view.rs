//! What the API shows.

use super::{Web, reply::Refusal};
use crate::{
    engine,
    rollout::{
        plan::Explain,
        state::{DeploymentState, Instance, InstanceState},
        verb::{Ruling, Verb, rule},
    },
    store::DeploymentRow,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A deployment.
#[derive(Serialize)]
pub struct DeploymentView {
    pub id: i64,
    pub group: String,
    pub revision: RevisionView,
    pub state: String,
    pub reason: Option<String>,
    pub by: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolls_back: Option<i64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rolled_back_by: Option<i64>,
    /// What may be asked of it now, besides cancelling.
    pub verbs: Vec<Verb>,
    pub created_at: Timestamp,
    pub started_at: Option<Timestamp>,
    pub finished_at: Option<Timestamp>,
    /// What a command that waits for it ends with; absent while it goes on.
    pub exit_code: Option<i32>,
    pub explain: Vec<String>,
    /// Seconds until it is through, if all goes well.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub seconds_left: Option<i64>,
    /// How ready the way back is, in words.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub way_back: Option<String>,
    /// It is for one instance alone: a retry of it, or its launch.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub only_instance: Option<String>,
    pub counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub instances: Option<Vec<InstanceView>>,
    pub last_seq: i64,
}

#[derive(Serialize)]
pub struct RevisionView {
    pub sha: String,
    pub requested: String,
    pub repository: String,
    pub message: String,
}

/// Instances by where they stand.
#[derive(Default, Serialize)]
pub struct Counts {
    pub succeeded: i64,
    pub failed: i64,
    pub in_work: i64,
    pub pending: i64,
    pub skipped: i64,
    pub gone: i64,
    pub restored: i64,
    pub total: i64,
}

impl Counts {
    fn add(&mut self, state: InstanceState, count: i64) {
        use InstanceState::*;
        self.total += count;
        *match state {
            Succeeded => &mut self.succeeded,
            Failed => &mut self.failed,
            Skipped => &mut self.skipped,
            Gone => &mut self.gone,
            Restored => &mut self.restored,
            Pending | Staging | Staged => &mut self.pending,
            PreBlocking | Blocking | Deploying | Allowing | PostAllowing | Waiting | Restoring => {
                &mut self.in_work
            }
        } += count;
    }
}

#[derive(Serialize)]
pub struct InstanceView {
    pub id: String,
    pub zone: String,
    pub state: String,
    pub batch: Option<u32>,
    pub attempts: u32,
    pub event: Option<String>,
    pub reason: Option<String>,
    /// Last lines of the hook that failed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub tail: Vec<String>,
    pub explain: Option<String>,
    pub since: Timestamp,
    pub quarantined: bool,
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// What a command that waits for this deployment ends with.
pub fn exit_code(row: &DeploymentRow) -> Option<i32> {
    let state: DeploymentState = row.state.parse().ok()?;
    state.exit_code().filter(|_| state != DeploymentState::Halted || row.settled != 0)
}

/// What may be asked of a deployment as it is; `newest`: the last one that got to the group's instances.
fn verbs(row: &DeploymentRow, newest: i64) -> Vec<Verb> {
    let Ok(standing) = engine::standing(row, newest) else { return Vec::new() };
    let approval =
        engine::policy(row).is_ok_and(|policy| policy.approve_after.is_some()) && row.approved == 0;
    let may = |verb: &Verb| match rule(*verb, standing) {
        Ruling::Do => *verb != Verb::Approve || approval,
        Ruling::Anew => *verb != Verb::Rollback || row.rolled_back_by.is_none(),
        Ruling::Already | Ruling::Refused(_) => false,
    };
    Verb::ALL.into_iter().filter(may).collect()
}

fn deployment(row: DeploymentRow, newest: i64, mut explain: Explain, counts: Counts) -> DeploymentView {
    if let Some(at) = row.pruned_at {
        let day = time(at).strftime("%Y-%m-%d");
        explain.deployment.push(format!("its log was removed on {day} (server.keep_days, server.keep_gb)"));
    }
    DeploymentView {
        exit_code: exit_code(&row),
        verbs: verbs(&row, newest),
        id: row.id,
        group: row.group_name,
        revision: RevisionView {
            sha: row.sha,
            requested: row.requested,
            repository: row.repository,
            message: row.message,
        },
        state: row.state,
        reason: row.reason,
        by: row.requested_by,
        rolls_back: row.rolls_back,
        rolled_back_by: row.rolled_back_by,
        created_at: time(row.created_at),
        started_at: row.started_at.map(time),
        finished_at: row.finished_at.map(time),
        explain: explain.deployment,
        seconds_left: None,
        way_back: None,
        only_instance: row.only_instance,
        counts,
        attempts: None,
        instances: None,
        last_seq: row.last_seq,
    }
}

/// An instance; `cancelled`: its deployment has ended so, and says what each is on.
fn instance(record: Instance, cancelled: bool, explain: &Explain) -> InstanceView {
    let fault = record.failure().map(|failure| &failure.fault).or(record.fault.as_ref());
    let (reason, tail) = fault.map(|fault| (fault.words(), fault.tail.clone())).unzip();
    InstanceView {
        explain: explain.of(&record).map(str::to_owned).or_else(|| cancelled.then(|| record.fate())),
        event: record.fault.as_ref().map(|fault| fault.event.to_string()),
        reason,
        tail: tail.unwrap_or_default(),
        quarantined: record.quarantined(),
        state: record.state().to_string(),
        zone: record.zone,
        batch: record.batch,
        attempts: record.attempts,
        since: record.since,
        id: record.id,
    }
}

impl DeploymentView {
    /// The SHA as people write it.
    pub fn short_sha(&self) -> &str {
        self.revision.sha.get(..12).unwrap_or(&self.revision.sha)
    }

    /// When it was submitted, for people.
    pub fn created(&self) -> String {
        self.created_at.strftime("%Y-%m-%d %H:%M:%S UTC").to_string()
    }
}

impl Web {
    /// One deployment with its instances.
    pub async fn deployment_view(&self, id: i64) -> Result<DeploymentView, Refusal> {
        let unknown = || engine::SubmitError::UnknownDeployment(id);
        let row = self.store.deployment(id).await?.ok_or_else(unknown)?;
        let records = engine::readable_instances(&self.store, id).await?;
        let explain = self.engine.explained(id).unwrap_or_default();
        let mut counts = Counts::default();
        records.iter().for_each(|record| counts.add(record.state(), 1));
        let attempts = records.iter().map(|record| record.attempts).sum();
        let cancelled = row.cancel.is_some() && row.finished_at.is_some();
        let instances = records.into_iter().map(|record| instance(record, cancelled, &explain)).collect();
        let seconds_left = self.engine.seconds_left(id);
        let newest = self.store.newest_begun(&row.group_name).await?;
        let way_back = if verbs(&row, newest).contains(&Verb::Rollback) {
            self.engine.readiness(&row).await?
        } else {
            None
        };
        let view = deployment(row, newest, explain, counts);
        Ok(DeploymentView {
            attempts: Some(attempts),
            instances: Some(instances),
            seconds_left,
            way_back,
            ..view
        })
    }

    /// The newest deployments, without their instances.
    pub async fn deployment_list(
        &self,
        group: Option<&str>,
        limit: i64,
    ) -> Result<Vec<DeploymentView>, Refusal> {
        let rows = self.store.deployments(group, limit).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
        for (id, state, count) in self.store.instance_counts(&ids).await? {
            if let Ok(state) = state.parse() {
                counts.entry(id).or_default().add(state, count);
            }
        }
        let mut newest: BTreeMap<String, i64> = BTreeMap::new();
        for row in &rows {
            if !newest.contains_key(&row.group_name) {
                let id = self.store.newest_begun(&row.group_name).await?;
                newest.insert(row.group_name.clone(), id);
            }
        }
        let view = |row: DeploymentRow| {
            let explain = self.engine.explained(row.id).unwrap_or_default();
            let counts = counts.remove(&row.id).unwrap_or_default();
            let newest = newest.get(&row.group_name).copied().unwrap_or(0);
            deployment(row, newest, explain, counts)
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
