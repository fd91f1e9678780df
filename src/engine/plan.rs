//! A rehearsal with the real fleet: what a deployment would do, in which batches, what it would change, how long it would
//! take. Changes nothing.

use crate::{
    api::{PlacedInstance, Rehearsal, RehearsalBatch, SkippedInstance, Submission},
    config::Group,
    engine::{
        Engine, SubmitError, estimate::timing_of, groups::preconditions::Trouble, groups::seen::group_of,
        groups::survey::Survey, record::json,
    },
    revision::appspec::AppSpec,
    rollout::{
        paper::Pace,
        policy::{Mode, OnFailure, Policy, Zones},
        rehearse::{self, Settings, lints, rehearse, words},
        snapshot::{Deployment, Lifecycle, Member, Sight, Snapshot},
        state::InstanceState,
    },
    store::DeploymentRow,
};
use jiff::Timestamp;
use std::collections::BTreeMap;

impl Engine {
    /// Rehearses a submission.
    pub async fn rehearse(&self, submission: Submission) -> Result<Rehearsal, SubmitError> {
        let (application, group, policy) = self.accept(&submission)?;
        let commit = self.resolve(application, group, &submission.revision).await?;
        let row = DeploymentRow {
            group_name: submission.group.clone(),
            repository: application.repository.clone(),
            sha: commit.sha,
            message: commit.title,
            policy: json(&policy),
            ..DeploymentRow::default()
        };
        self.rehearse_row(row, group, &policy).await
    }

    async fn rehearse_row(
        &self,
        row: DeploymentRow,
        group: &Group,
        policy: &Policy,
    ) -> Result<Rehearsal, SubmitError> {
        let origin =
            self.origin(&row, &row.sha).await.map_err(|error| SubmitError::CanNot(format!("{error:#}")))?;
        let bundle = match self.fetch_bundle(&origin, &row.sha).await {
            Ok(Ok(bundle)) => bundle,
            Ok(Err(why)) => {
                return Err(SubmitError::CanNot(format!("revision {} can't be deployed: {why}", row.sha)));
            }
            Err(error) => return Err(SubmitError::Passing(format!("{error:#}"))),
        };
        let rebuilt = self.is_another_build(&row, &origin, &bundle).await;
        let rebuilt = rebuilt.map_err(|error| SubmitError::Passing(format!("{error:#}")))?;
        let survey = match self.survey(&row, group, rebuilt).await {
            Ok(survey) => survey,
            Err(Trouble::Final(why)) => return Err(SubmitError::CanNot(why)),
            Err(Trouble::Passing(error)) => return Err(SubmitError::Passing(format!("{error:#}"))),
        };
        let now = Timestamp::now();
        let (pace, measured) = self.pace(&row.group_name, timing_of(&survey.target_groups)).await?;
        let snapshot = snapshot(&survey, policy, &bundle.appspec, now);
        // A fleet of thousands takes seconds.
        let rehearsed = tokio::task::spawn_blocking(move || rehearse(snapshot, pace, now)).await;
        let rehearsal = rehearsed
            .map_err(|error| error.to_string())
            .and_then(|rehearsed| rehearsed.map_err(|illegal| illegal.to_string()))
            .map_err(SubmitError::Passing)?;
        let queue = self.waits_for(&row).await?;
        let mut view = view(&row, policy, &survey, pace, measured, &rehearsal, queue);
        view.lints.splice(0..0, bundle.warnings);
        Ok(view)
    }
}

/// What the planner would see at the start.
fn snapshot(survey: &Survey, policy: &Policy, appspec: &AppSpec, now: Timestamp) -> Snapshot {
    let members = survey.members.iter().map(|record| Member {
        record: record.clone(),
        sight: survey.sights.get(&record.id).cloned().unwrap_or_else(Sight::gone),
        attempt: None,
    });
    Snapshot {
        deployment: Deployment::beginning(0, survey.total, survey.healthy, now),
        policy: policy.clone(),
        revision: appspec.for_planning(),
        members: members.collect(),
        groups: survey.groups.iter().map(|seen| (seen.name.clone(), group_of(seen, None))).collect(),
        timing: timing_of(&survey.target_groups),
        refused: BTreeMap::new(),
        outage: None,
        outage_ended: false,
    }
}

fn view(
    row: &DeploymentRow,
    policy: &Policy,
    survey: &Survey,
    pace: Pace,
    measured: bool,
    rehearsal: &rehearse::Rehearsal,
    queue: Vec<String>,
) -> Rehearsal {
    let keep = policy.keep_in_service(survey.total, survey.healthy);
    let largest = policy.batch.largest(survey.total);
    let skipped =
        survey.members.iter().filter(|record| record.state() == InstanceState::Skipped).map(|record| {
            let why = match survey.sights.get(&record.id).map(|sight| &sight.lifecycle) {
                Some(Lifecycle::Standby) => {
                    "in standby by another hand, or in quarantine without room below MaxSize: never touched"
                }
                _ => "on this revision already, and healthy",
            };
            SkippedInstance { id: record.id.clone(), why: why.into() }
        });
    let mut changes = Vec::new();
    for (group, processes) in &rehearsal.suspends {
        changes
            .push(format!("Auto Scaling group {group}: {} suspended while it lasts", processes.join(", ")));
    }
    for (group, (from, to)) in &rehearsal.min_sizes {
        changes.push(format!("Auto Scaling group {group}: MinSize {from} → {to} while it lasts"));
    }
    let settings: Vec<Settings> = survey
        .target_groups
        .iter()
        .map(|group| Settings {
            name: group.name.clone(),
            deregistration_delay: group.deregistration_delay,
            interval: group.interval,
            threshold: group.threshold,
        })
        .collect();
    let waits = settings.iter().map(|group| {
        format!(
            "target group {}: deregistration delay {} s, then health check {} s × {} = {} s",
            group.name,
            group.deregistration_delay.as_secs(),
            group.interval.as_secs(),
            group.threshold,
            (group.interval * group.threshold).as_secs()
        )
    });
    let unreachable: Vec<String> =
        survey.agents.iter().filter(|(_, online)| !**online).map(|(id, _)| id.clone()).collect();
    let mut obstacles = Vec::new();
    if !unreachable.is_empty() {
        obstacles.push(format!(
            "{} of {} agents can't be reached: staging will fail there; max_failed \"{}\" allows {}",
            unreachable.len(),
            survey.agents.len(),
            policy.max_failed,
            policy.max_failed.of(survey.total)
        ));
    }
    if !rehearsal.ends.is_final() && !rehearsal.cut {
        obstacles.push("it would come to a stop: no further instance could be taken out".into());
    }
    let each = pace.drain + pace.hooks + pace.health;
    let hooks = if measured { "as they took lately" } else { "a guess: nothing was deployed here yet" };
    Rehearsal {
        group: row.group_name.clone(),
        sha: row.sha.clone(),
        message: row.message.clone(),
        instances: survey.agents.len(),
        total: survey.total,
        healthy: survey.healthy,
        batches: rehearsal
            .batches
            .iter()
            .map(|batch| RehearsalBatch {
                number: batch.number,
                instances: batch
                    .instances
                    .iter()
                    .map(|(id, zone)| PlacedInstance { id: id.clone(), zone: zone.clone() })
                    .collect(),
                begins_seconds: batch.begins.as_secs(),
                ends_seconds: batch.ends.as_secs(),
            })
            .collect(),
        skipped: skipped.collect(),
        unreachable,
        capacity: format!(
            "{} healthy − {} in the largest batch = {}; {keep} must stay in service; {} at the lowest",
            survey.healthy,
            largest,
            i64::from(survey.healthy) - i64::from(largest),
            rehearsal.lowest_in_service
        ),
        queue,
        policy: policy_words(policy),
        changes,
        waits: waits.collect(),
        lints: lints(&settings, rehearsal.batches.len(), policy.mode),
        obstacles,
        seconds: rehearsal.lasts.as_secs(),
        time: format!(
            "about {}: staging {}, then {} for each turn: drain {}, hooks {} ({hooks}), health {}",
            words(rehearsal.lasts),
            words(pace.staging),
            words(each),
            words(pace.drain),
            words(pace.hooks),
            words(pace.health)
        ),
    }
}

/// The policy with its defaults, in words.
fn policy_words(policy: &Policy) -> Vec<String> {
    let mode = if policy.mode == Mode::Batch { "batch" } else { "window" };
    let zones = match policy.zones {
        Zones::Any => "any",
        Zones::Spread => "spread",
        Zones::OneAtATime => "one-at-a-time",
    };
    let mut lines = vec![
        format!("batch \"{}\" · mode {mode} · zones {zones} · bake {}", policy.batch, words(policy.bake)),
        format!(
            "min_in_service {} · max_failed \"{}\" · on_failure {}",
            policy
                .min_in_service
                .map_or_else(|| "healthy at the start − batch".into(), |size| format!("\"{size}\"")),
            policy.max_failed,
            match policy.on_failure {
                OnFailure::Halt => "halt",
                OnFailure::Rollback => "rollback",
            }
        ),
        format!(
            "attempts {} (transient), {} (unknown) · backoff {:#} doubling to {:#}",
            policy.retry.attempts, policy.retry.attempts_unknown, policy.retry.base, policy.retry.cap
        ),
    ];
    if let Some(after) = policy.approve_after {
        lines.push(format!("approve_after {after}: the rest waits for a person after batch {after}"));
    }
    lines
}
