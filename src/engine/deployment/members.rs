//! What the store has of a deployment's instances and attempts, kept beside it.

use super::Deployment;
use crate::{
    engine::record,
    rollout::{
        snapshot::{Attempt, Member, Outcome, Sight},
        state::Instance,
    },
    store::{AttemptRow, DeploymentRow, StoreError},
};
use std::collections::{BTreeMap, BTreeSet};

/// The instances with what was last seen of them, and the attempts that somebody waits for.
pub(super) struct Members {
    /// Of the deployment's row when they were loaded.
    version: i64,
    /// By id.
    list: Vec<Member>,
    /// Records that were written while the list was lent.
    written: Vec<Instance>,
    /// By number: those without an outcome, and those that a record waits for.
    attempts: BTreeMap<i64, AttemptRow>,
}

impl Members {
    /// They are planned with, and given back afterwards.
    pub(super) fn lend(&mut self) -> Vec<Member> {
        std::mem::take(&mut self.list)
    }

    pub(super) fn give_back(&mut self, list: Vec<Member>) {
        self.list = list;
        put(&mut self.list, std::mem::take(&mut self.written));
    }

    /// The records as they are now.
    pub(super) fn records(&self) -> impl Iterator<Item = &Instance> {
        self.list.iter().map(|member| &member.record)
    }

    /// Attempts whose outcome isn't known.
    pub(super) fn open_attempts(&self) -> impl Iterator<Item = &AttemptRow> {
        self.attempts.values().filter(|attempt| attempt.outcome.is_none())
    }

    /// What came of an attempt is in the store now.
    pub(super) fn note_outcome(&mut self, number: i64, outcome: &Outcome) {
        if let Some(attempt) = self.attempts.get_mut(&number) {
            attempt.outcome = Some(record::json(outcome));
        }
    }

    /// The attempts that records wait for, by number; the others are forgotten once they have ended.
    pub(super) fn awaited(&mut self) -> BTreeMap<i64, Attempt> {
        let awaited: BTreeSet<i64> = self.records().filter_map(Instance::attempt).collect();
        self.attempts.retain(|number, attempt| attempt.outcome.is_none() || awaited.contains(number));
        let attempt = |row: &AttemptRow| Attempt {
            number: row.number,
            created_at: record::time(row.created_at),
            outcome: row.outcome.as_deref().and_then(|text| serde_json::from_str(text).ok()),
        };
        let rows = self.attempts.iter().filter(|(number, _)| awaited.contains(number));
        rows.map(|(number, row)| (*number, attempt(row))).collect()
    }
}

/// Replaces the records of these instances; one that isn't there joins.
pub(super) fn put(list: &mut Vec<Member>, records: impl IntoIterator<Item = Instance>) {
    for record in records {
        match list.binary_search_by(|member| member.record.id.cmp(&record.id)) {
            Ok(at) => list[at].record = record,
            Err(at) => list.insert(at, Member { record, sight: Sight::unseen(), attempt: None }),
        }
    }
}

impl Deployment<'_> {
    /// Sees to it that the members are as the store has them. The inner error says why they can't be read.
    pub(super) async fn load(&mut self, row: &DeploymentRow) -> Result<Result<(), String>, StoreError> {
        let store = &self.engine.store;
        if self.members.as_ref().is_none_or(|members| members.version != row.version) {
            self.members = None;
            let read = record::policy(row).map(drop).and_then(|()| record::appspec(row).map(drop));
            let records = match read {
                Ok(()) => record::instances(store, row.id).await,
                Err(error) => Err(error),
            };
            let mut records = match records {
                Ok(records) => records,
                Err(error) => match error.downcast::<StoreError>() {
                    Ok(error) => return Err(error),
                    Err(error) => return Ok(Err(format!("{error:#}"))),
                },
            };
            records.sort_by(|one, other| one.id.cmp(&other.id));
            let attempts = store.attempts(row.id).await?;
            let unseen = |record| Member { record, sight: Sight::unseen(), attempt: None };
            self.members = Some(Members {
                version: row.version,
                list: records.into_iter().map(unseen).collect(),
                written: Vec::new(),
                attempts: attempts.into_iter().map(|attempt| (attempt.number, attempt)).collect(),
            });
            return Ok(Ok(()));
        }
        // Hosts have told meanwhile how some ended.
        let Some(members) = &mut self.members else { return Ok(Ok(())) };
        let oldest = members.open_attempts().map(|attempt| attempt.number).min();
        if let Some(oldest) = oldest {
            let attempts = store.attempts_from(row.id, oldest).await?;
            members.attempts.extend(attempts.into_iter().map(|attempt| (attempt.number, attempt)));
        }
        Ok(Ok(()))
    }

    /// Writes through: these records and attempts are in the store now.
    pub(super) fn keep(&mut self, records: Vec<Instance>, attempts: Vec<AttemptRow>) {
        if let Some(members) = &mut self.members {
            members.written.extend(records);
            members.attempts.extend(attempts.into_iter().map(|attempt| (attempt.number, attempt)));
        }
    }
}
