//! What the API shows.

use super::{Web, reply::Refusal};
use crate::{
    engine,
    rollout::{
        plan::Explain,
        state::{DeploymentState, Instance, InstanceState},
    },
    store::DeploymentRow,
};
use jiff::Timestamp;
use serde::Serialize;
use std::collections::BTreeMap;

/// A deployment.
#[derive(Serialize)]
pub struct DeploymentView {
    id: i64,
    group: String,
    revision: RevisionView,
    state: String,
    reason: Option<String>,
    by: String,
    created_at: Timestamp,
    started_at: Option<Timestamp>,
    finished_at: Option<Timestamp>,
    /// What a command that waits for it ends with; absent while it goes on.
    exit_code: Option<i32>,
    explain: Vec<String>,
    counts: Counts,
    #[serde(skip_serializing_if = "Option::is_none")]
    attempts: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    instances: Option<Vec<InstanceView>>,
    last_seq: i64,
}

#[derive(Serialize)]
struct RevisionView {
    sha: String,
    requested: String,
    repository: String,
    message: String,
}

/// Instances by where they stand.
#[derive(Default, Serialize)]
struct Counts {
    succeeded: i64,
    failed: i64,
    in_work: i64,
    pending: i64,
    skipped: i64,
    gone: i64,
    restored: i64,
    total: i64,
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
struct InstanceView {
    id: String,
    zone: String,
    state: String,
    batch: Option<u32>,
    attempts: u32,
    event: Option<String>,
    reason: Option<String>,
    explain: Option<String>,
    since: Timestamp,
    quarantined: bool,
}

fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

/// What a command that waits for this deployment ends with.
pub fn exit_code(row: &DeploymentRow) -> Option<i32> {
    let state: DeploymentState = row.state.parse().ok()?;
    state.exit_code().filter(|_| state != DeploymentState::Halted || row.settled != 0)
}

fn deployment(row: DeploymentRow, explain: Explain, counts: Counts) -> DeploymentView {
    DeploymentView {
        exit_code: exit_code(&row),
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
        created_at: time(row.created_at),
        started_at: row.started_at.map(time),
        finished_at: row.finished_at.map(time),
        explain: explain.deployment,
        counts,
        attempts: None,
        instances: None,
        last_seq: row.last_seq,
    }
}

fn instance(record: Instance, explain: &mut Explain) -> InstanceView {
    let words = record.failure.as_ref().map(|failure| failure.fault.words());
    InstanceView {
        explain: explain.instances.remove(&record.id),
        event: record.fault.as_ref().map(|fault| fault.event.to_string()),
        reason: words.or_else(|| record.fault.as_ref().map(|fault| fault.words())),
        quarantined: record.quarantined(),
        zone: record.zone,
        state: record.state.to_string(),
        batch: record.batch,
        attempts: record.attempts,
        since: record.since,
        id: record.id,
    }
}

impl Web {
    /// One deployment with its instances.
    pub async fn deployment_view(&self, id: i64) -> Result<DeploymentView, Refusal> {
        let unknown = || engine::SubmitError::UnknownDeployment(id);
        let row = self.store.deployment(id).await?.ok_or_else(unknown)?;
        let records = engine::instances(&self.store, id).await?;
        let mut explain = self.engine.explained(id).unwrap_or_default();
        let mut counts = Counts::default();
        records.iter().for_each(|record| counts.add(record.state, 1));
        let attempts = records.iter().map(|record| record.attempts).sum();
        let instances = records.into_iter().map(|record| instance(record, &mut explain)).collect();
        let view = deployment(row, explain, counts);
        Ok(DeploymentView { attempts: Some(attempts), instances: Some(instances), ..view })
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
        let view = |row: DeploymentRow| {
            let explain = self.engine.explained(row.id).unwrap_or_default();
            let counts = counts.remove(&row.id).unwrap_or_default();
            deployment(row, explain, counts)
        };
        Ok(rows.into_iter().map(view).collect())
    }
}
