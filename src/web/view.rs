//! Shows deployments as they are in the store.

use super::{context::Web, reply::Refusal};
use crate::{
    api::{self, Counts, Deployment, Failures, Note, Revision},
    engine,
    logs::{annotation::Annotation, clean::clean},
    rollout::{
        clusters::clusters,
        plan::Explain,
        state::{DeploymentState, Instance, InstanceState},
        verb::{Ruling, Verb, rule},
    },
    store::{Chunk, DeploymentRow},
};
use jiff::Timestamp;
use std::collections::BTreeMap;

/// Adds so many instances in this state.
fn add(counts: &mut Counts, state: InstanceState, count: i64) {
    use InstanceState::*;
    counts.total += count;
    *match state {
        Succeeded => &mut counts.succeeded,
        Failed => &mut counts.failed,
        Skipped => &mut counts.skipped,
        Gone => &mut counts.gone,
        Restored => &mut counts.restored,
        Pending | Staging | Staged => &mut counts.pending,
        PreBlocking | Blocking | Deploying | Allowing | PostAllowing | Waiting | Restoring => {
            &mut counts.in_work
        }
    } += count;
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
        Ruling::NewDeployment => *verb != Verb::Rollback || row.rolled_back_by.is_none(),
        Ruling::Already | Ruling::Refused(_) => false,
    };
    Verb::ALL.into_iter().filter(may).collect()
}

fn deployment(row: DeploymentRow, newest: i64, mut explain: Explain, counts: Counts) -> Deployment {
    if let Some(at) = row.pruned_at {
        let day = time(at).strftime("%Y-%m-%d");
        explain.deployment.push(format!("its log was removed on {day} (server.keep_days, server.keep_gb)"));
    }
    Deployment {
        exit_code: exit_code(&row),
        verbs: verbs(&row, newest),
        id: row.id,
        group: row.group_name,
        revision: Revision {
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
        failures: Vec::new(),
        annotations: Vec::new(),
        last_seq: row.last_seq,
    }
}

/// An instance; `cancelled`: its deployment has ended so, and says what each is on.
fn instance(record: Instance, cancelled: bool, explain: &Explain) -> api::Instance {
    let fault = record.failure().map(|failure| &failure.fault).or(record.fault.as_ref());
    let (reason, tail) = fault.map(|fault| (fault.words(), fault.tail.clone())).unzip();
    api::Instance {
        explain: explain.of(&record).map(str::to_owned).or_else(|| cancelled.then(|| record.describe_end())),
        event: record.fault.as_ref().map(|fault| fault.event.to_string()),
        reason,
        tail: tail.unwrap_or_default(),
        quarantined: record.is_quarantined(),
        state: record.state().to_string(),
        zone: record.zone,
        batch: record.batch,
        attempts: record.attempts,
        since: Some(record.since),
        id: record.id,
    }
}

/// Annotations that are shown of a deployment.
const ANNOTATIONS: i64 = 50;

fn note(chunk: Chunk) -> Option<Note> {
    let line = chunk.payload.strip_suffix(b"\n").unwrap_or(&chunk.payload);
    let annotation = Annotation::read(line)?;
    Some(Note {
        seq: chunk.first_seq,
        level: annotation.level.name().to_owned(),
        instance: chunk.instance.unwrap_or_default(),
        event: chunk.event.unwrap_or_default(),
        text: clean(&annotation.text, false),
    })
}

/// The failed instances by what failed on them.
fn failures(records: &[Instance]) -> Vec<Failures> {
    let failed = records.iter().filter_map(|record| Some((record.id.as_str(), &record.failure()?.fault)));
    let deployed = records.iter().filter(|record| record.state() != InstanceState::Skipped).count();
    let found = clusters(failed).into_iter();
    found
        .map(|cluster| Failures {
            words: cluster.describe(deployed),
            line: cluster.line,
            instances: cluster.instances,
        })
        .collect()
}

impl Web {
    /// One deployment with its instances.
    pub async fn deployment_view(&self, id: i64) -> Result<Deployment, Refusal> {
        let unknown = || engine::SubmitError::UnknownDeployment(id);
        let row = self.store.deployment(id).await?.ok_or_else(unknown)?;
        let records = engine::readable_instances(&self.store, id).await?;
        let explain = self.engine.explained(id).unwrap_or_default();
        let mut counts = Counts::default();
        records.iter().for_each(|record| add(&mut counts, record.state(), 1));
        let attempts = records.iter().map(|record| record.attempts).sum();
        let failures = failures(&records);
        let annotations =
            self.store.annotations(id, ANNOTATIONS).await?.into_iter().filter_map(note).collect();
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
        Ok(Deployment {
            attempts: Some(attempts),
            instances: Some(instances),
            failures,
            annotations,
            seconds_left,
            way_back,
            ..view
        })
    }

    /// The newest deployments, without their instances.
    pub async fn deployment_list(&self, group: Option<&str>, limit: i64) -> Result<Vec<Deployment>, Refusal> {
        let rows = self.store.deployments(group, limit).await?;
        let ids: Vec<i64> = rows.iter().map(|row| row.id).collect();
        let mut counts: BTreeMap<i64, Counts> = BTreeMap::new();
        for (id, state, count) in self.store.instance_counts(&ids).await? {
            if let Ok(state) = state.parse() {
                add(counts.entry(id).or_default(), state, count);
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
