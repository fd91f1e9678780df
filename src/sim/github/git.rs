//! Asks the git command line about a repository on disk.
//!
//! The repository is only read. Objects of its forks are seen through `GIT_ALTERNATE_OBJECT_DIRECTORIES`, as GitHub
//! keeps one object store for a network of forks; their refs are not.

use std::collections::{HashMap, HashSet};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use tokio::process::Command;

/// A git repository and the object stores of its forks.
#[derive(Clone, Debug)]
pub struct Git {
    path: PathBuf,
    alternates: OsString,
    /// The past state that the API still shows, if it lags.
    past: Arc<Mutex<Option<Past>>>,
}

/// A repository as it was, for the time in which GitHub's API doesn't know a pushed commit though the webhook was sent.
#[derive(Debug, Default)]
struct Past {
    /// Commits by `refs/…`.
    refs: HashMap<String, String>,
    commits: HashSet<String>,
}

impl Git {
    /// Opens a repository; an error names the path.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let git = Self { path: path.to_owned(), alternates: OsString::new(), past: Arc::default() };
        anyhow::ensure!(
            git.text(&["rev-parse", "--git-dir"]).await.is_some(),
            "can't read a git repository at {}: give the path of one that has at least one commit",
            path.display()
        );
        Ok(git)
    }

    /// Adds a fork's objects.
    pub async fn add_fork(&mut self, fork: &Path) -> anyhow::Result<()> {
        let other = Self::open(fork).await?;
        let objects = other.text(&["rev-parse", "--path-format=absolute", "--git-path", "objects"]).await;
        let objects =
            objects.ok_or_else(|| anyhow::anyhow!("can't find the objects of {}", fork.display()))?;
        if !self.alternates.is_empty() {
            self.alternates.push(":");
        }
        self.alternates.push(objects);
        Ok(())
    }

    /// Runs git and returns its standard output, if it succeeded.
    pub async fn bytes(&self, args: &[&str]) -> Option<Vec<u8>> {
        let mut command = Command::new("git");
        command.arg("-c").arg("safe.directory=*").arg("-C").arg(&self.path).args(args);
        for name in ["GIT_DIR", "GIT_WORK_TREE", "GIT_INDEX_FILE", "GIT_OBJECT_DIRECTORY"] {
            command.env_remove(name);
        }
        command.env("GIT_ALTERNATE_OBJECT_DIRECTORIES", &self.alternates).env("LC_ALL", "C");
        let output = command.stdin(std::process::Stdio::null()).kill_on_drop(true).output().await.ok()?;
        output.status.success().then_some(output.stdout)
    }

    /// Runs git as [`Self::bytes`] does and returns its standard output as trimmed text.
    pub async fn text(&self, args: &[&str]) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(args).await?).trim_end().to_owned())
    }

    /// Shows the repository as it is at this moment from now on; or, with `false`, as it is whenever it is asked for.
    pub async fn set_lag(&self, lags: bool) {
        let past = if lags {
            let refs = self.text(&["for-each-ref", "--format=%(refname) %(objectname)"]).await;
            let refs = refs.unwrap_or_default();
            let split =
                |line: &str| line.split_once(' ').map(|(name, sha)| (name.to_owned(), sha.to_owned()));
            let commits = self.text(&["rev-list", "--all"]).await.unwrap_or_default();
            let commits = commits.lines().map(str::to_owned).collect();
            Some(Past { refs: refs.lines().filter_map(split).collect(), commits })
        } else {
            None
        };
        *self.past.lock().unwrap_or_else(PoisonError::into_inner) = past;
    }

    /// Returns the commit that a full or abbreviated SHA, a branch or a tag names; an ambiguous abbreviation names none. A
    /// tag goes before a branch of its name, as in git.
    pub async fn commit(&self, reference: &str) -> Option<String> {
        let found = self.find_present(reference).await?;
        let past = self.past.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(past) = past.as_ref() else { return Some(found) };
        let named = [
            format!("refs/{reference}"),
            format!("refs/tags/{reference}"),
            format!("refs/heads/{reference}"),
        ];
        let shown = named.iter().find_map(|name| past.refs.get(name)).cloned();
        shown.or_else(|| past.commits.contains(&found).then_some(found))
    }

    /// Finds a commit in the repository as it is now.
    async fn find_present(&self, reference: &str) -> Option<String> {
        if reference.is_empty()
            || reference.starts_with('-')
            || reference.contains([':', '^', '~', '@', ' ', '*'])
        {
            return None;
        }
        let hex = reference.chars().all(|c| c.is_ascii_hexdigit());
        let full = hex && reference.len() == 40;
        if !full {
            let names = match reference {
                "HEAD" => vec!["HEAD".to_owned()],
                name if name.starts_with("heads/") || name.starts_with("tags/") => {
                    vec![format!("refs/{name}")]
                }
                name if name.starts_with("refs/") => vec![name.to_owned()],
                name => vec![format!("refs/tags/{name}"), format!("refs/heads/{name}")],
            };
            for name in names {
                let spec = format!("{name}^{{commit}}");
                if let Some(sha) =
                    self.text(&["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).await
                {
                    return Some(sha);
                }
            }
        }
        if !hex || !(4..=40).contains(&reference.len()) {
            return None;
        }
        let spec = format!("{reference}^{{commit}}");
        self.text(&["rev-parse", "--verify", "--quiet", "--end-of-options", &spec]).await
    }
}
