//! The bundles on the daemon's disk: each revision is fetched once and examined once, however many ask for it.

use super::Engine;
use crate::{
    github::GitHubError,
    revision::{
        appspec::AppSpec,
        bundle::{self, BundleError},
    },
};
use anyhow::Context as _;
use std::{
    collections::{HashMap, HashSet},
    path::PathBuf,
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tracing::{info, warn};

/// A bundle that was fetched lately is spared: a rehearsal may be looking at it.
const SPARED: Duration = Duration::from_secs(3600);
const SUFFIX: &str = ".tar.gz";

/// A bundle on the daemon's disk.
#[derive(Clone, Default)]
pub(super) struct Bundle {
    pub(super) sha256: String,
    pub(super) appspec: AppSpec,
    /// What is legal in it, and odd, in words.
    pub(super) warnings: Vec<String>,
}

/// A bundle, or what is wrong with its revision.
type Examined = Result<Bundle, String>;

/// All bundles.
pub(super) struct Bundles {
    folder: PathBuf,
    /// What is known of each; whoever holds a slot's lock fetches or examines, and the others wait for that.
    slots: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Known>>>>>,
}

/// What was found in a file, as long as it is that file.
struct Known {
    file: (u64, SystemTime),
    examined: Examined,
}

impl Bundles {
    pub(super) fn new(folder: PathBuf) -> Bundles {
        Bundles { folder, slots: Mutex::default() }
    }

    /// Where the bundle of a revision is kept.
    fn path(&self, sha: &str) -> PathBuf {
        self.folder.join(format!("{sha}{SUFFIX}"))
    }

    fn slot(&self, sha: &str) -> Arc<tokio::sync::Mutex<Option<Known>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(sha.to_owned()).or_default())
    }

    /// Size and time of the file; none: there is no such file.
    async fn file(&self, sha: &str) -> anyhow::Result<Option<(u64, SystemTime)>> {
        let path = self.path(sha);
        match tokio::fs::metadata(&path).await {
            Ok(metadata) => Ok(Some((metadata.len(), metadata.modified()?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    /// Removes all files but those of `kept` revisions and those that were fetched within the hour. Answers how many went.
    async fn prune(&self, kept: &HashSet<String>) -> anyhow::Result<usize> {
        let mut removed = 0;
        let mut folder = tokio::fs::read_dir(&self.folder).await?;
        while let Some(entry) = folder.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            // What a killed daemon left of a download too, which nobody writes any more after an hour.
            let sha = name.strip_suffix(SUFFIX).filter(|sha| !sha.starts_with('.'));
            if sha.is_none() && !name.ends_with(".part") || sha.is_some_and(|sha| kept.contains(sha)) {
                continue;
            }
            let fresh = entry.metadata().await?.modified()?.elapsed().is_ok_and(|age| age < SPARED);
            if !fresh {
                tokio::fs::remove_file(entry.path()).await?;
                removed += 1;
            }
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        slots.retain(|sha, slot| kept.contains(sha) || Arc::strong_count(slot) > 1);
        Ok(removed)
    }
}

impl Engine {
    /// The bundle of a revision: from the daemon's disk, or fetched. The outer error may pass; the inner one says what is
    /// wrong with the revision.
    pub(super) async fn fetch_bundle(&self, repository: &str, sha: &str) -> anyhow::Result<Examined> {
        let slot = self.bundles.slot(sha);
        let mut known = slot.lock().await;
        let mut file = self.bundles.file(sha).await?;
        if let Some(known) = known.as_ref().filter(|known| Some(known.file) == file) {
            return Ok(known.examined.clone());
        }
        *known = None;
        let path = self.bundles.path(sha);
        if file.is_some() {
            match examine(path.clone()).await? {
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
        match self.github.download(repository, sha, &path).await {
            Ok(()) => {}
            Err(GitHubError::Revision(reason)) => return Ok(Err(reason)),
            Err(error) => return Err(error.into()),
        }
        file = self.bundles.file(sha).await?;
        match examine(path.clone()).await? {
            Ok(examined) => {
                let examined = remember(&mut known, file, examined);
                drop(known);
                self.prune_bundles(sha).await;
                Ok(examined)
            }
            Err(why) => {
                tokio::fs::remove_file(&path).await?;
                anyhow::bail!("{why}, as GitHub gave it: it is fetched again")
            }
        }
    }

    /// The bundle of a deployed revision, fetched anew where it isn't on this daemon's disk: a command of the daemon before
    /// may ask for it.
    pub async fn bundle_again(&self, sha: &str) -> anyhow::Result<PathBuf> {
        let Some(repository) = self.store.repository_of(sha).await? else {
            anyhow::bail!("no deployment has this revision")
        };
        self.fetch_bundle(&repository, sha).await?.map_err(anyhow::Error::msg)?;
        Ok(self.bundles.path(sha))
    }

    /// Removes the bundles of revisions that nothing needs any more, after a new one has come.
    async fn prune_bundles(&self, new: &str) {
        let kept = async {
            let newest = self.store.newest_revisions(i64::from(self.config.server.keep_bundles)).await?;
            let mut kept: HashSet<String> = newest.into_iter().collect();
            kept.extend(self.store.needed_revisions().await?);
            kept.insert(new.to_owned());
            self.bundles.prune(&kept).await
        };
        match kept.await {
            Ok(0) => {}
            Ok(removed) => info!("removed {removed} old bundles"),
            Err(error) => warn!("removing old bundles: {error:#}"),
        }
    }
}

/// The outer error: this copy is damaged.
async fn examine(path: PathBuf) -> anyhow::Result<Result<Examined, String>> {
    Ok(match tokio::task::spawn_blocking(move || bundle::examine(&path)).await? {
        Ok(examined) => {
            Ok(Ok(Bundle { sha256: examined.sha256, appspec: examined.appspec, warnings: examined.warnings }))
        }
        Err(BundleError::Revision(why)) => Ok(Err(why)),
        Err(BundleError::Broken(why)) => Err(why),
    })
}

fn remember(known: &mut Option<Known>, file: Option<(u64, SystemTime)>, examined: Examined) -> Examined {
    *known = file.map(|file| Known { file, examined: examined.clone() });
    examined
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_bundles_go_and_the_needed_stay() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * SPARED;
        for (name, aged) in
            [("a.tar.gz", true), ("b.tar.gz", true), ("c.tar.gz", false), (".x.part", true), ("notes", true)]
        {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            if aged {
                file.set_modified(old).unwrap();
            }
        }
        let bundles = Bundles::new(folder.path().to_owned());
        assert_eq!(bundles.prune(&HashSet::from(["a".to_owned()])).await.unwrap(), 2);
        let mut left: Vec<_> = std::fs::read_dir(folder.path())
            .unwrap()
            .map(|entry| entry.unwrap().file_name().into_string().unwrap())
            .collect();
        left.sort();
        assert_eq!(left, ["a.tar.gz", "c.tar.gz", "notes"]);
    }
}
