//! Between the store's rows and the planner's types.

use crate::{
    revision::appspec::AppSpec,
    rollout::{
        policy::Policy,
        snapshot::{Cancel, Deployment},
        state::{DeploymentState, Instance},
        verb::Standing,
    },
    store::{DeploymentRow, InstanceWrite, Store, StoreError},
};
use anyhow::Context as _;
use jiff::Timestamp;

pub(super) fn time(milliseconds: i64) -> Timestamp {
    Timestamp::from_millisecond(milliseconds).unwrap_or_default()
}

pub(super) fn json<T: serde::Serialize>(value: &T) -> String {
    // Our own types, with string keys: serialising them can't fail.
    serde_json::to_string(value).unwrap_or_default()
}

/// An instance's record as the store takes it.
pub(super) fn write_of(instance: &Instance) -> InstanceWrite {
    InstanceWrite {
        instance: instance.id.clone(),
        state: instance.state().to_string(),
        record: json(instance),
    }
}

/// The policy that was written down with the submission. One that can't be read is never guessed.
pub fn policy(row: &DeploymentRow) -> anyhow::Result<Policy> {
    serde_json::from_str(&row.policy).with_context(|| {
        format!("the policy of deployment {} can't be read by this version of drover", row.id)
    })
}

/// The revision's `appspec.yml`; an empty one before it is prepared.
pub(super) fn appspec(row: &DeploymentRow) -> anyhow::Result<AppSpec> {
    let Some(text) = &row.revision else { return Ok(AppSpec::default()) };
    serde_json::from_str(text).with_context(|| {
        format!("the hooks of deployment {} can't be read by this version of drover", row.id)
    })
}

pub(super) fn deployment(row: &DeploymentRow) -> anyhow::Result<Deployment> {
    let count = |number: i64| u32::try_from(number).unwrap_or(0);
    Ok(Deployment {
        id: row.id,
        group: row.group_name.clone(),
        sha: row.sha.clone(),
        state: row.state.parse::<DeploymentState>().map_err(anyhow::Error::msg)?,
        reason: row.reason.clone(),
        started_at: time(row.started_at.unwrap_or(row.created_at)),
        since: time(row.since),
        batch: count(row.batch),
        batch_done_at: row.batch_done_at.map(time),
        healthy_at_start: count(row.healthy_at_start),
        total_at_start: count(row.total_at_start),
        cancel: row.cancel.as_deref().map(|how| if how == "now" { Cancel::Now } else { Cancel::After }),
        cancelled_at: row.cancelled_at.map(time),
        settled: row.settled != 0,
        resumed_at: row.resumed_at.map(time),
        approved: row.approved != 0,
        approved_at: (row.approved != 0).then(|| time(row.approved)),
        fallback: None,
        rolled_back: row.rolled_back_by.is_some(),
        launch: (row.launch != 0).then(|| super::marks::hook_name(&row.group_name)),
    })
}

/// What the ruling on a verb depends on; `newest`: the last deployment that got to the group's instances.
pub fn standing(row: &DeploymentRow, newest: i64) -> Result<Standing<'_>, String> {
    Ok(Standing {
        state: row.state.parse()?,
        cancelled: row.cancel.is_some(),
        only: row.only_instance.as_deref(),
        launch: row.launch != 0,
        later: (newest > row.id).then_some(newest),
    })
}

/// The records that can be read, to be shown.
pub async fn readable_instances(store: &Store, deployment: i64) -> Result<Vec<Instance>, StoreError> {
    let records = store.instances(deployment).await?;
    Ok(records.iter().filter_map(|text| serde_json::from_str(text).ok()).collect())
}

/// The records of a deployment's instances; none is left out.
pub async fn instances(store: &Store, deployment: i64) -> anyhow::Result<Vec<Instance>> {
    let read = |text: &String| {
        serde_json::from_str(text).with_context(|| {
            format!(
                "the record of an instance of deployment {deployment} can't be read by this version of drover"
            )
        })
    };
    store.instances(deployment).await?.iter().map(read).collect()
}
