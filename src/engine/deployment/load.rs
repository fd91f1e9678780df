//! Loading a deployment's instances and attempts from the store, and keeping them in step with it.

use super::{Deployment, members::Members};
use crate::{
    engine::record,
    rollout::{
        snapshot::{Member, Sight},
        state::Instance,
    },
    store::{AttemptRow, DeploymentRow, StoreError},
};

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
