//! The bundles on the daemon's disk: each revision is fetched once and examined once, however many ask for it.

use super::cache::{Bundle, Examined, Known, Origin};
use crate::{
    artifact::ArtifactError,
    config::Template,
    engine::Engine,
    github::GitHubError,
    revision::bundle::{self, BundleError, Packed},
    store::DeploymentRow,
};
use anyhow::Context as _;
use std::{
    collections::HashSet,
    path::{Path, PathBuf},
    time::SystemTime,
};
use tracing::{info, warn};

impl Engine {
    /// Where the bundle of a revision comes from, as it was planned: what is brought back comes from where it came from then.
    pub(in crate::engine) async fn origin(&self, row: &DeploymentRow, sha: &str) -> anyhow::Result<Origin> {
        let back = sha != row.sha || row.rolls_back.is_some() || row.launch != 0;
        let former = if back { self.store.success_of(&row.group_name, sha).await? } else { None };
        let planned = self.planned(former.as_ref().unwrap_or(row))?;
        let template = planned.bundle.map(Template::try_from).transpose().map_err(anyhow::Error::msg)?;
        Ok(Origin { repository: row.repository.clone(), template, path: planned.path })
    }

    /// Whether this bundle is another build of a commit that the group had before.
    pub(in crate::engine) async fn is_another_build(
        &self,
        row: &DeploymentRow,
        origin: &Origin,
        bundle: &Bundle,
    ) -> anyhow::Result<bool> {
        let Some(former) = self.store.success_of(&row.group_name, &row.sha).await? else { return Ok(false) };
        let before = self.origin(&former, &former.sha).await?;
        let sha256 = former.bundle_sha256.unwrap_or_default();
        Ok(before.build(&sha256) != origin.build(&bundle.sha256))
    }

    /// Forgets a bundle of CI's that came before then: the same commit may have been built again.
    pub(in crate::engine) async fn forget_older(
        &self,
        origin: &Origin,
        sha: &str,
        then: SystemTime,
    ) -> anyhow::Result<()> {
        let name = origin.file(sha);
        let slot = self.bundles.slot(&name);
        let mut known = slot.lock().await;
        let path = self.bundles.folder.join(name);
        if origin.template.is_some() && self.bundles.file(&path).await?.is_some_and(|(_, at)| at < then) {
            *known = None;
            tokio::fs::remove_file(&path).await?;
        }
        Ok(())
    }

    /// The bundle of a revision: from the daemon's disk, or fetched. The outer error may pass; the inner one says what is
    /// wrong with the revision.
    pub(in crate::engine) async fn fetch_bundle(
        &self,
        origin: &Origin,
        sha: &str,
    ) -> anyhow::Result<Examined> {
        let name = origin.file(sha);
        let path = self.bundles.folder.join(&name);
        let slot = self.bundles.slot(&name);
        let mut known = slot.lock().await;
        let mut file = self.bundles.file(&path).await?;
        if let Some(known) = known.as_ref().filter(|known| Some(known.file) == file) {
            return Ok(known.examined.clone());
        }
        *known = None;
        if file.is_some() {
            match examine(path.clone(), origin.packed()).await? {
                Ok(examined) => return Ok(remember(&mut known, file, examined)),
                Err(why) => {
                    warn!(sha, "{why}: it is removed and fetched once more");
                    tokio::fs::remove_file(&path).await?;
                }
            }
        }
        tokio::fs::create_dir_all(&self.bundles.folder)
            .await
            .with_context(|| format!("making {}", self.bundles.folder.display()))?;
        if let Err(reason) = self.download(origin, sha, &path).await? {
            return Ok(Err(reason));
        }
        file = self.bundles.file(&path).await?;
        match examine(path.clone(), origin.packed()).await? {
            Ok(examined) => {
                let examined = remember(&mut known, file, examined);
                drop(known);
                self.prune_bundles(sha).await;
                Ok(examined)
            }
            Err(why) => {
                tokio::fs::remove_file(&path).await?;
                // It came whole, by its length or its checksum: another copy would be the same.
                if let Some(template) = &origin.template {
                    return Ok(Err(format!(
                        "{}: {why}: it is to be a tar, tar.gz or zip archive",
                        template.as_str()
                    )));
                }
                anyhow::bail!("{why}, as it came: it is fetched again")
            }
        }
    }

    async fn download(&self, origin: &Origin, sha: &str, path: &Path) -> anyhow::Result<Result<(), String>> {
        match &origin.template {
            None => match self.github.download(&origin.repository, sha, path).await {
                Err(GitHubError::Revision(reason)) => Ok(Err(reason)),
                done => Ok(Ok(done?)),
            },
            Some(template) => match self.artifacts.download(template, sha, path).await {
                Err(ArtifactError::Bundle(reason)) => Ok(Err(reason)),
                done => Ok(Ok(done?)),
            },
        }
    }

    /// The bundle of a deployed revision, fetched anew where it isn't on this daemon's disk: a command of the daemon before
    /// may ask for it.
    pub async fn bundle_file(&self, deployment: i64, sha: &str) -> anyhow::Result<PathBuf> {
        let row = self.store.deployment(deployment).await?.context("there is no such deployment")?;
        let origin = self.origin(&row, sha).await?;
        self.fetch_bundle(&origin, sha).await?.map_err(anyhow::Error::msg)?;
        Ok(self.bundles.folder.join(origin.file(sha)))
    }

    /// Removes the bundles of revisions that nothing needs any more, after a new one has come.
    async fn prune_bundles(&self, new: &str) {
        let kept = async {
            let server = &self.config.server;
            let newest = self.store.newest_revisions(i64::from(server.keep_bundles)).await?;
            let mut needed: HashSet<String> = self.store.needed_revisions().await?.into_iter().collect();
            needed.insert(new.to_owned());
            self.bundles.prune(&needed, &newest, server.bundle_bytes()).await
        };
        match kept.await {
            Ok(0) => {}
            Ok(removed) => info!("removed {removed} old bundles"),
            Err(error) => warn!("removing old bundles: {error:#}"),
        }
    }
}

/// The outer error: this copy is damaged.
async fn examine(path: PathBuf, packed: Packed) -> anyhow::Result<Result<Examined, String>> {
    Ok(match tokio::task::spawn_blocking(move || bundle::examine(&path, &packed)).await? {
        Ok(bundle::Examined { sha256, appspec, warnings, form, appspec_sha256, .. }) => {
            Ok(Ok(Bundle { sha256, appspec, warnings, form, appspec_sha256 }))
        }
        Err(BundleError::Revision(why)) => Ok(Err(why)),
        Err(BundleError::Broken(why)) => Err(why),
    })
}

fn remember(known: &mut Option<Known>, file: Option<(u64, SystemTime)>, examined: Examined) -> Examined {
    *known = file.map(|file| Known { file, examined: examined.clone() });
    examined
}
