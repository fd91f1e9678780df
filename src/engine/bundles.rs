//! The bundles on the daemon's disk: each revision is fetched once and examined once, however many ask for it.

use super::Engine;
use crate::{
    artifact::ArtifactError,
    config::Template,
    github::GitHubError,
    revision::{
        appspec::AppSpec,
        bundle::{self, BundleError, Form, Packed},
    },
    store::DeploymentRow,
};
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};
use tracing::{info, warn};

/// A bundle that was fetched lately is spared: a rehearsal may be looking at it.
const SPARED: Duration = Duration::from_secs(3600);
/// Of GitHub's archives, and of what CI built, whatever it is.
const SUFFIXES: [&str; 2] = [".tar.gz", ".bundle"];

/// Where the bundles of a deployment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Origin {
    pub(super) repository: String,
    /// What CI built; none: GitHub's archive of the repository.
    pub(super) template: Option<Template>,
    /// The folder in it that is the release.
    pub(super) path: String,
}

impl Origin {
    /// How the release lies in the archive. What CI builds has it at its root, as in CodeDeploy.
    pub(super) fn packed(&self) -> Packed {
        Packed {
            path: self.path.clone(),
            ..self.template.as_ref().map_or_else(Packed::by_github, |_| Packed::default())
        }
    }

    /// What tells this bundle's release from another of the same commit on a host; empty where nothing has to.
    pub(super) fn build(&self, sha256: &str) -> String {
        match (&self.template, self.path.as_str()) {
            (None, "") => String::new(),
            (None, path) => hex::encode(Sha256::digest(path))[..16].to_owned(),
            (Some(_), _) => sha256.chars().take(16).collect(),
        }
    }

    /// The name of the bundle's file: what comes from elsewhere, or is only a part, has one of its own.
    fn file(&self, sha: &str) -> String {
        let [github, built] = SUFFIXES;
        match (&self.template, self.path.as_str()) {
            (None, "") => format!("{sha}{github}"),
            (template, path) => {
                let place = template.as_ref().map(Template::as_str).unwrap_or_default();
                let digest = hex::encode(Sha256::digest(format!("{place}\n{path}")));
                format!("{sha}-{}{}", &digest[..8], if template.is_some() { built } else { github })
            }
        }
    }
}

/// A bundle on the daemon's disk.
#[derive(Clone, Default)]
pub(super) struct Bundle {
    pub(super) sha256: String,
    pub(super) appspec: AppSpec,
    /// What is legal in it, and odd, in words.
    pub(super) warnings: Vec<String>,
    pub(super) form: Form,
    pub(super) appspec_sha256: String,
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

    fn slot(&self, file: &str) -> Arc<tokio::sync::Mutex<Option<Known>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(file.to_owned()).or_default())
    }

    /// Size and time of the file; none: there is no such file.
    async fn file(&self, path: &Path) -> anyhow::Result<Option<(u64, SystemTime)>> {
        match tokio::fs::metadata(path).await {
            Ok(metadata) => Ok(Some((metadata.len(), metadata.modified()?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    /// Removes all files but those of `needed` revisions, those that were fetched within the hour, and those of `newest`
    /// ones, newest first, for which there is room in `most_bytes` beside the others. Answers how many went.
    async fn prune(
        &self,
        needed: &HashSet<String>,
        newest: &[String],
        most_bytes: u64,
    ) -> anyhow::Result<usize> {
        let mut files = Vec::new();
        let mut folder = tokio::fs::read_dir(&self.folder).await?;
        while let Some(entry) = folder.next_entry().await? {
            let name = entry.file_name().to_string_lossy().into_owned();
            // What a killed daemon left of a download too, which nobody writes any more after an hour.
            if sha_of(&name).is_some() || name.ends_with(".part") {
                let metadata = entry.metadata().await?;
                let fresh = metadata.modified()?.elapsed().is_ok_and(|age| age < SPARED);
                files.push((name, metadata.len(), fresh));
            }
        }
        let size_of = |sha: &str| -> u64 {
            files.iter().filter(|(name, ..)| sha_of(name) == Some(sha)).map(|(_, bytes, _)| bytes).sum()
        };
        let mut kept = needed.clone();
        let spared = |(name, _, fresh): &&(String, u64, bool)| {
            *fresh || sha_of(name).is_some_and(|sha| needed.contains(sha))
        };
        let mut bytes: u64 = files.iter().filter(spared).map(|(_, bytes, _)| bytes).sum();
        for sha in newest.iter().filter(|sha| !needed.contains(*sha)) {
            bytes += size_of(sha);
            if bytes > most_bytes {
                break;
            }
            kept.insert(sha.clone());
        }
        let mut removed = 0;
        for (name, _, fresh) in &files {
            if !fresh && sha_of(name).is_none_or(|sha| !kept.contains(sha)) {
                tokio::fs::remove_file(self.folder.join(name)).await?;
                removed += 1;
            }
        }
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        let is_kept = |file: &str| sha_of(file).is_some_and(|sha| kept.contains(sha));
        slots.retain(|file, slot| is_kept(file) || Arc::strong_count(slot) > 1);
        Ok(removed)
    }
}

/// The revision that a file is of.
fn sha_of(file: &str) -> Option<&str> {
    let name =
        SUFFIXES.iter().find_map(|suffix| file.strip_suffix(suffix)).filter(|name| !name.starts_with('.'))?;
    Some(name.split_once('-').map_or(name, |(sha, _)| sha))
}

impl Engine {
    /// Where the bundle of a revision comes from, as it was planned: what is brought back comes from where it came from then.
    pub(super) async fn origin(&self, row: &DeploymentRow, sha: &str) -> anyhow::Result<Origin> {
        let back = sha != row.sha || row.rolls_back.is_some() || row.launch != 0;
        let former = if back { self.store.success_of(&row.group_name, sha).await? } else { None };
        let planned = self.planned(former.as_ref().unwrap_or(row))?;
        let template = planned.bundle.map(Template::try_from).transpose().map_err(anyhow::Error::msg)?;
        Ok(Origin { repository: row.repository.clone(), template, path: planned.path })
    }

    /// Whether this bundle is another build of a commit that the group had before.
    pub(super) async fn is_built_anew(
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
    pub(super) async fn forget_older(
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
    pub(super) async fn fetch_bundle(&self, origin: &Origin, sha: &str) -> anyhow::Result<Examined> {
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
    pub async fn bundle_again(&self, deployment: i64, sha: &str) -> anyhow::Result<PathBuf> {
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

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn old_bundles_go_and_the_needed_stay() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * SPARED;
        for (name, aged) in [
            ("a.tar.gz", true),
            ("a-12.bundle", true),
            ("b-12.bundle", true),
            ("b.tar.gz", true),
            ("c.tar.gz", false),
            (".x.part", true),
            ("notes", true),
        ] {
            let file = std::fs::File::create(folder.path().join(name)).unwrap();
            if aged {
                file.set_modified(old).unwrap();
            }
        }
        let bundles = Bundles::new(folder.path().to_owned());
        assert_eq!(bundles.prune(&HashSet::from(["a".to_owned()]), &[], 1_000).await.unwrap(), 3);
        assert_eq!(names(folder.path()), ["a-12.bundle", "a.tar.gz", "c.tar.gz", "notes"]);
    }

    #[tokio::test]
    async fn the_newest_stay_as_long_as_there_is_room() {
        let folder = tempfile::tempdir().unwrap();
        let old = SystemTime::now() - 2 * SPARED;
        for (name, bytes) in [("needed", 60), ("newest", 20), ("older", 20), ("oldest", 20)] {
            let file = std::fs::File::create(folder.path().join(format!("{name}.tar.gz"))).unwrap();
            file.set_len(bytes).unwrap();
            file.set_modified(old).unwrap();
        }
        let bundles = Bundles::new(folder.path().to_owned());
        let newest = ["newest", "needed", "older", "oldest"].map(str::to_owned);
        let needed = HashSet::from(["needed".to_owned()]);
        assert_eq!(bundles.prune(&needed, &newest, 100).await.unwrap(), 1);
        assert_eq!(names(folder.path()), ["needed.tar.gz", "newest.tar.gz", "older.tar.gz"]);
        // What is needed stays whatever it takes.
        assert_eq!(bundles.prune(&needed, &newest, 10).await.unwrap(), 2);
        assert_eq!(names(folder.path()), ["needed.tar.gz"]);
    }

    fn names(folder: &Path) -> Vec<String> {
        let entries = std::fs::read_dir(folder).unwrap();
        let mut names: Vec<_> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        names.sort();
        names
    }
}
