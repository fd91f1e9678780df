//! The bundles on the daemon's disk, and where each came from.

use crate::{
    config::Template,
    revision::{
        appspec::AppSpec,
        bundle::{Form, Packed},
    },
};
use anyhow::Context as _;
use sha2::{Digest as _, Sha256};
use std::{
    collections::{HashMap, HashSet},
    path::{Path, PathBuf},
    sync::{Arc, Mutex, PoisonError},
    time::{Duration, SystemTime},
};

/// A bundle that was fetched lately is spared: a rehearsal may be looking at it.
const SPARED: Duration = Duration::from_secs(3600);
/// Of GitHub's archives, and of what CI built, whatever it is.
const SUFFIXES: [&str; 2] = [".tar.gz", ".bundle"];

/// Where the bundles of a deployment come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(in crate::engine) struct Origin {
    pub(in crate::engine) repository: String,
    /// What CI built; none: GitHub's archive of the repository.
    pub(in crate::engine) template: Option<Template>,
    /// The folder in it that is the release.
    pub(in crate::engine) path: String,
}

impl Origin {
    /// How the release lies in the archive. What CI builds has it at its root, as in CodeDeploy.
    pub(in crate::engine) fn packed(&self) -> Packed {
        Packed {
            path: self.path.clone(),
            ..self.template.as_ref().map_or_else(Packed::by_github, |_| Packed::default())
        }
    }

    /// What tells this bundle's release from another of the same commit on a host; empty where nothing has to.
    pub(in crate::engine) fn build(&self, sha256: &str) -> String {
        match (&self.template, self.path.as_str()) {
            (None, "") => String::new(),
            (None, path) => hex::encode(Sha256::digest(path))[..16].to_owned(),
            (Some(_), _) => sha256.chars().take(16).collect(),
        }
    }

    /// The name of the bundle's file: what comes from elsewhere, or is only a part, has one of its own.
    pub(super) fn file(&self, sha: &str) -> String {
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
pub(in crate::engine) struct Bundle {
    pub(in crate::engine) sha256: String,
    pub(in crate::engine) appspec: AppSpec,
    /// What is legal in it, and odd, in words.
    pub(in crate::engine) warnings: Vec<String>,
    pub(in crate::engine) form: Form,
    pub(in crate::engine) appspec_sha256: String,
}

/// A bundle, or what is wrong with its revision.
pub(super) type Examined = Result<Bundle, String>;

/// All bundles.
pub(in crate::engine) struct Bundles {
    pub(super) folder: PathBuf,
    /// What is known of each; whoever holds a slot's lock fetches or examines, and the others wait for that.
    slots: Mutex<HashMap<String, Arc<tokio::sync::Mutex<Option<Known>>>>>,
}

/// What was found in a file, as long as it is that file.
pub(super) struct Known {
    pub(super) file: (u64, SystemTime),
    pub(super) examined: Examined,
}

impl Bundles {
    pub(in crate::engine) fn new(folder: PathBuf) -> Bundles {
        Bundles { folder, slots: Mutex::default() }
    }

    pub(super) fn slot(&self, file: &str) -> Arc<tokio::sync::Mutex<Option<Known>>> {
        let mut slots = self.slots.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(slots.entry(file.to_owned()).or_default())
    }

    /// Size and time of the file; none: there is no such file.
    pub(super) async fn file(&self, path: &Path) -> anyhow::Result<Option<(u64, SystemTime)>> {
        match tokio::fs::metadata(path).await {
            Ok(metadata) => Ok(Some((metadata.len(), metadata.modified()?))),
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(None),
            Err(error) => Err(error).with_context(|| format!("looking at {}", path.display())),
        }
    }

    /// Removes all files but those of `needed` revisions, those that were fetched within the hour, and those of `newest`
    /// ones, newest first, for which there is room in `most_bytes` beside the others. Answers how many went.
    pub(super) async fn prune(
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
