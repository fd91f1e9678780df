//! Asks the git command line about a repository on disk.
//!
//! The repository is only read. Objects of its forks are seen through `GIT_ALTERNATE_OBJECT_DIRECTORIES`, as GitHub
//! keeps one object store for a network of forks; their refs are not.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use tokio::process::Command;

/// A git repository and the object stores of its forks.
#[derive(Clone, Debug)]
pub struct Git {
    path: PathBuf,
    alternates: OsString,
}

impl Git {
    /// Opens a repository; an error names the path.
    pub async fn open(path: &Path) -> anyhow::Result<Self> {
        let git = Self { path: path.to_owned(), alternates: OsString::new() };
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

    /// Runs git; its standard output where it succeeded.
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

    /// As [`Self::bytes`], as trimmed text.
    pub async fn text(&self, args: &[&str]) -> Option<String> {
        Some(String::from_utf8_lossy(&self.bytes(args).await?).trim_end().to_owned())
    }

    /// The commit that a full or abbreviated SHA, a branch or a tag names; an ambiguous abbreviation names none.
    pub async fn commit(&self, reference: &str) -> Option<String> {
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
                name => vec![format!("refs/heads/{name}"), format!("refs/tags/{name}")],
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
