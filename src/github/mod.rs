//! What drover asks of GitHub: which commit a name means, whether it belongs to the repository, its tarball.
//!
//! Imports octocrab and [`crate::config`]; no store, no engine.

use crate::config::GitHub;
use futures_util::{StreamExt as _, TryStreamExt as _};
use http_body_util::BodyExt as _;
use octocrab::{Octocrab, models::commits::GithubCommitStatus, params::repos::Commitish};
use std::{path::Path, time::Duration};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;
use tower_http::follow_redirect::RequestUri;

/// GitHub answers within a second or two; a tarball's first byte takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For the whole of a tarball.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);

/// GitHub, as drover sees it.
#[derive(Clone, Debug)]
pub struct Repositories {
    api: Octocrab,
}

/// A commit that belongs to the repository.
#[derive(Clone, Debug)]
pub struct Commit {
    /// Full SHA.
    pub sha: String,
    /// First line of its message.
    pub title: String,
}

/// Why a revision can't be deployed.
#[derive(Debug, Error)]
pub enum GitHubError {
    /// The person gave something that names no commit of this repository.
    #[error("{0}")]
    Revision(String),
    /// GitHub can't be reached or doesn't let us.
    #[error("{0}")]
    Unavailable(String),
}

impl Repositories {
    /// A client for the configured API.
    pub fn connect(config: &GitHub) -> anyhow::Result<Repositories> {
        let mut builder = Octocrab::builder()
            .base_uri(config.api.as_str())?
            .set_connect_timeout(Some(Duration::from_secs(5)))
            .set_read_timeout(Some(TIMEOUT));
        if let Some(token) = std::env::var(&config.token_env).ok().filter(|token| !token.is_empty()) {
            builder = builder.personal_token(token);
        }
        Ok(Repositories { api: builder.build()? })
    }

    /// Resolves a full or abbreviated SHA, a branch or a tag, and proves that the commit is on `branch`: GitHub serves
    /// commits of forks through the parent repository.
    pub async fn resolve(
        &self,
        repository: &str,
        revision: &str,
        branch: &str,
    ) -> Result<Commit, GitHubError> {
        check_name(revision)?;
        let (owner, name) = split(repository)?;
        let commit = self.api.commits(owner, name).get(revision).await.map_err(|e| match status(&e) {
            Some(422 | 404) if looks_like_sha(revision) => GitHubError::Revision(format!(
                "no commit {revision} in {repository}: unknown, or an abbreviation of several; give the full SHA, and push it first"
            )),
            Some(422 | 404) => {
                GitHubError::Revision(format!("no branch, tag or commit '{revision}' in {repository}, or no access to it"))
            }
            _ => unavailable(&format!("asking GitHub for '{revision}' of {repository}"), &e),
        })?;
        let sha = commit.sha;
        let comparison = self.api.commits(owner, name).compare(branch, sha.clone()).send().await;
        let refused = |how: &str| {
            GitHubError::Revision(format!(
                "commit {sha} is not on branch {branch} of {repository} ({how}): it comes from a fork or was never merged"
            ))
        };
        match comparison {
            Ok(comparison) => match comparison.status {
                GithubCommitStatus::Behind | GithubCommitStatus::Identical => {}
                GithubCommitStatus::Ahead => return Err(refused("ahead of it")),
                _ => return Err(refused("diverged from it")),
            },
            Err(e) if status(&e) == Some(404) => return Err(refused("no common history")),
            Err(e) => return Err(unavailable(&format!("comparing {sha} with {branch} of {repository}"), &e)),
        }
        let title = commit.commit.message.lines().next().unwrap_or_default().to_owned();
        Ok(Commit { sha, title })
    }

    /// The head of a branch.
    pub async fn head(&self, repository: &str, branch: &str) -> Result<Commit, GitHubError> {
        check_name(branch)?;
        let (owner, name) = split(repository)?;
        let what = format!("asking GitHub for the head of {branch} of {repository}");
        let commit = self.api.commits(owner, name).get(branch).await.map_err(|e| unavailable(&what, &e))?;
        let title = commit.commit.message.lines().next().unwrap_or_default().to_owned();
        Ok(Commit { sha: commit.sha, title })
    }

    /// GitHub's own link to the commit's tarball: good for some minutes, without a token.
    pub async fn archive_link(&self, repository: &str, sha: &str) -> Result<String, GitHubError> {
        let (owner, name) = split(repository)?;
        let what = format!("asking GitHub for the archive link of {repository} at {sha}");
        let repository = self.api.repos(owner, name);
        let download = repository.download_tarball(Commitish(sha.to_owned()));
        let response = tokio::time::timeout(TIMEOUT, download)
            .await
            .map_err(|_| GitHubError::Unavailable(format!("{what}: no answer")))?
            .map_err(|e| unavailable(&what, &e))?;
        // Where the redirects ended; its body is not read.
        match response.extensions().get::<RequestUri>() {
            Some(RequestUri(uri)) if response.status().is_success() => Ok(uri.to_string()),
            _ => Err(GitHubError::Unavailable(format!("{what}: GitHub answered {}", response.status()))),
        }
    }

    /// Writes the commit's tarball to `path`, which appears only when it is whole.
    pub async fn download(&self, repository: &str, sha: &str, path: &Path) -> Result<(), GitHubError> {
        let (owner, name) = split(repository)?;
        let what = format!("downloading {repository} at {sha}");
        let fetch = async {
            let response = self
                .api
                .repos(owner, name)
                .download_tarball(Commitish(sha.to_owned()))
                .await
                .map_err(|e| unavailable(&what, &e))?;
            let status = response.status();
            if !status.is_success() {
                return Err(GitHubError::Unavailable(format!("{what}: GitHub answered {status}")));
            }
            let failed = |e: std::io::Error| {
                GitHubError::Unavailable(format!("{what}: writing {}: {e}", path.display()))
            };
            let part = path.with_extension("part");
            let mut file = tokio::fs::File::create(&part).await.map_err(failed)?;
            let mut body =
                response.into_body().into_data_stream().map_err(|e| unavailable(&what, &e)).boxed();
            while let Some(bytes) = body.next().await {
                file.write_all(&bytes?).await.map_err(failed)?;
            }
            file.sync_all().await.map_err(failed)?;
            tokio::fs::rename(&part, path).await.map_err(failed)
        };
        tokio::time::timeout(DOWNLOAD_TIMEOUT, fetch).await.map_err(|_| {
            GitHubError::Unavailable(format!("{what}: not done within {} s", DOWNLOAD_TIMEOUT.as_secs()))
        })?
    }
}

fn split(repository: &str) -> Result<(&str, &str), GitHubError> {
    repository
        .split_once('/')
        .ok_or_else(|| GitHubError::Revision(format!("'{repository}' is no repository")))
}

fn looks_like_sha(revision: &str) -> bool {
    revision.len() >= 4 && revision.len() <= 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

/// What git allows in a name of a commit, and no more: it becomes part of a URL.
fn check_name(revision: &str) -> Result<(), GitHubError> {
    let sound = |c: char| c.is_alphanumeric() || "-_./+@".contains(c);
    if revision.is_empty()
        || revision.len() > 255
        || revision.starts_with(['-', '/', '.'])
        || revision.ends_with('/')
        || revision.contains("..")
        || !revision.chars().all(sound)
    {
        return Err(GitHubError::Revision(format!(
            "'{revision}' is no revision: give a full or abbreviated SHA, a branch or a tag"
        )));
    }
    Ok(())
}

fn status(error: &octocrab::Error) -> Option<u16> {
    match error {
        octocrab::Error::GitHub { source, .. } => Some(source.status_code.as_u16()),
        _ => None,
    }
}

fn unavailable(what: &str, error: &octocrab::Error) -> GitHubError {
    use std::error::Error as _;
    let words = match error {
        octocrab::Error::GitHub { source, .. } => format!("{} {}", source.status_code, source.message),
        other => {
            let mut words = other.to_string();
            let mut inner = other.source();
            while let Some(error) = inner {
                words = error.to_string();
                inner = error.source();
            }
            words
        }
    };
    GitHubError::Unavailable(format!("{what}: {words}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_that_are_no_revision_never_reach_github() {
        for name in ["", "-x", "a..b", "a b", "a?b", "../x", "a#b", "x/"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["main", "feature/x", "v1.2.3", "0123abc", "release+1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
