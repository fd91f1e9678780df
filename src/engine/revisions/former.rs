//! The release that runs on an instance before it is deployed to: what its own appspec says, and whether a host's word for
//! it is to be believed.

use crate::{
    engine::Engine,
    revision::appspec::AppSpec,
    rollout::{
        snapshot::{Attempt, Former, Outcome},
        state::Instance,
    },
    store::{DeploymentRow, StoreError},
};
use std::{
    collections::{BTreeMap, BTreeSet},
    sync::PoisonError,
};
use tracing::warn;

impl Engine {
    /// The hooks of a release as they were written down when it was deployed; none where this store doesn't know it.
    pub(in crate::engine) async fn former_appspec(&self, sha: &str) -> Result<Option<AppSpec>, StoreError> {
        if let Some(known) = self.formers.lock().unwrap_or_else(PoisonError::into_inner).get(sha) {
            return Ok(known.clone());
        }
        let text = self.store.revision_of(sha).await?;
        let appspec: Option<AppSpec> = text.and_then(|text| serde_json::from_str(&text).ok());
        if appspec.is_some() {
            let mut formers = self.formers.lock().unwrap_or_else(PoisonError::into_inner);
            formers.insert(sha.to_owned(), appspec.clone());
        }
        Ok(appspec)
    }

    /// What planning needs to know of the releases that run before: by SHA.
    pub(in crate::engine) async fn formers<'a>(
        &self,
        records: impl Iterator<Item = &'a Instance>,
    ) -> Result<BTreeMap<String, Former>, StoreError> {
        let goods: BTreeSet<&String> = records.filter_map(|record| record.good.as_ref()).collect();
        let mut formers = BTreeMap::new();
        for sha in goods {
            if let Some(appspec) = self.former_appspec(sha).await? {
                formers.insert(sha.clone(), Former { pre_block: appspec.for_planning().pre_block });
            }
        }
        Ok(formers)
    }

    /// A host says what is current on it when it has staged. On a fleet that drover has not deployed to before, that is what
    /// a cancel would put back, and run: it counts only if this store or the repository knows it as one of its own.
    pub(in crate::engine) async fn vet_what_hosts_say<'a>(
        &self,
        row: &DeploymentRow,
        records: impl Iterator<Item = &'a Instance>,
        attempts: &mut BTreeMap<i64, Attempt>,
    ) -> anyhow::Result<()> {
        for record in records.filter(|record| record.good.is_none()) {
            let Some(attempt) = record.attempt().and_then(|number| attempts.get_mut(&number)) else {
                continue;
            };
            let Some(Outcome::Succeeded { current }) = &mut attempt.outcome else { continue };
            let Some(sha) = current.clone().filter(|sha| *sha != row.sha) else { continue };
            if !self.is_our_own(row, &sha).await? {
                warn!(
                    instance = record.id,
                    "it says that {sha} is current, which is no revision of its repository"
                );
                *current = None;
            }
        }
        Ok(())
    }

    async fn is_our_own(&self, row: &DeploymentRow, sha: &str) -> Result<bool, StoreError> {
        if sha.len() != 40 || !sha.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(false);
        }
        if self.store.repository_of(sha).await?.is_some_and(|repository| repository == row.repository) {
            return Ok(true);
        }
        if let Some(known) = self.vetted.lock().unwrap_or_else(PoisonError::into_inner).get(sha) {
            return Ok(*known);
        }
        let Some((application, group)) = self.config.group(&row.group_name) else { return Ok(false) };
        let resolved = self.github.resolve(&row.repository, sha, group.branch(application)).await;
        let ours = resolved.is_ok_and(|commit| commit.sha == sha);
        self.vetted.lock().unwrap_or_else(PoisonError::into_inner).insert(sha.to_owned(), ours);
        Ok(ours)
    }
}
