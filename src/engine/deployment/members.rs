//! What the store has of a deployment's instances and attempts, kept beside it.

use crate::{
    engine::record,
    rollout::{
        snapshot::{Attempt, Member, Outcome, Sight},
        state::Instance,
    },
    store::AttemptRow,
};
use std::collections::{BTreeMap, BTreeSet};

/// The instances with what was last seen of them, and the attempts that somebody waits for.
pub(super) struct Members {
    /// Of the deployment's row when they were loaded.
    pub(super) version: i64,
    /// By id.
    pub(super) list: Vec<Member>,
    /// Records that were written while the list was lent.
    pub(super) written: Vec<Instance>,
    /// By number: those without an outcome, and those that a record waits for.
    pub(super) attempts: BTreeMap<i64, AttemptRow>,
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
