//! What drover asks of GitHub: which commit a name means, whether it belongs to the repository, its tarball.
//!
//! Imports octocrab and [`crate::config`]; no store, no engine.

mod app;
mod ask;

use crate::{
    config::GitHub,
    download::{SaveError, save},
};
use anyhow::Context as _;
use app::App;
use ask::{Client, Said, ask, ask_since};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http::StatusCode;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use octocrab::{Octocrab, models::AppId, params::repos::Commitish};
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};
use serde::{Deserialize, de::DeserializeOwned};
use std::{path::Path, sync::Arc, time::Duration};
use thiserror::Error;
use tower_http::follow_redirect::RequestUri;

/// GitHub answers within a second or two; a tarball's first byte takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);
/// For the whole of a tarball.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);
/// A name becomes a part of a URL's path; its slashes stay, as GitHub takes them.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// GitHub, as drover sees it.
#[derive(Clone, Debug)]
pub struct Repositories {
    access: Access,
}

/// As whom it is asked.
#[derive(Clone, Debug)]
enum Access {
    /// With a token, or without.
    Token(Arc<Client>),
    /// As an app that is installed on the repositories.
    App(Arc<App>),
}

/// How one commit stands to another in the repository's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Standing {
    /// It is the other one.
    Identical,
    /// It comes after the other one.
    Ahead,
    /// It comes before the other one.
    Behind,
    /// Each has commits that the other one lacks, or they have none in common.
    Diverged,
}

#[derive(Deserialize)]
struct Comparison {
    status: Standing,
}

#[derive(Deserialize)]
struct RepositoryAnswer {
    id: u64,
}

#[derive(Deserialize)]
struct CommitAnswer {
    sha: String,
    commit: CommitText,
}

#[derive(Deserialize)]
struct CommitText {
    message: String,
}

impl From<CommitAnswer> for Commit {
    fn from(answer: CommitAnswer) -> Commit {
        let title = answer.commit.message.lines().next().unwrap_or_default().to_owned();
        Commit { sha: answer.sha, title }
    }
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
    /// GitHub doesn't know the token, or not any more.
    #[error("{0}")]
    Credentials(String),
}

impl Repositories {
    /// A client for the configured API.
    pub fn connect(config: &GitHub) -> anyhow::Result<Repositories> {
        let mut builder = Octocrab::builder()
            .base_uri(config.api.as_str())?
            .set_connect_timeout(Some(Duration::from_secs(5)))
            .set_read_timeout(Some(TIMEOUT));
        let access = if let Some(app) = &config.app {
            let file = app.key.display();
            let key = std::fs::read(&app.key)
                .with_context(|| format!("github.app.key: reading the app's private key {file}"))?;
            builder = builder.app_from_rsa_pem(AppId(app.id), key).with_context(|| {
                format!("github.app.key: {file} is no RSA private key in PEM form: download one from the app's settings")
            })?;
            Access::App(Arc::new(App::new(builder.build()?)))
        } else {
            if let Some(token) = config.token() {
                builder = builder.personal_token(token);
            }
            Access::Token(Arc::new(Client::new(builder.build()?)))
        };
        Ok(Repositories { access })
    }

    /// The client to ask about a repository with.
    async fn client(&self, repository: &str) -> Result<Arc<Client>, GitHubError> {
        match &self.access {
            Access::Token(client) => Ok(Arc::clone(client)),
            Access::App(app) => app.client(repository).await,
        }
    }

    /// Asks for `path` of a repository; none: there is no such thing.
    async fn ask<T: DeserializeOwned>(
        &self,
        repository: &str,
        path: &str,
        what: &str,
    ) -> Result<Option<T>, GitHubError> {
        let client = self.client(repository).await?;
        let answer = ask(&client, path, what).await;
        match self.client_anew(repository, &answer).await? {
            Some(client) => ask(&client, path, what).await,
            None => answer,
        }
    }

    /// Another client to ask once more with, where an app's token is not taken any more.
    async fn client_anew<T>(
        &self,
        repository: &str,
        answer: &Result<T, GitHubError>,
    ) -> Result<Option<Arc<Client>>, GitHubError> {
        match (&self.access, answer) {
            (Access::App(app), Err(GitHubError::Credentials(_))) => {
                app.forget(repository).await;
                Ok(Some(self.client(repository).await?))
            }
            _ => Ok(None),
        }
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
        let commit = self.lookup(repository, revision).await?;
        let head = self.head(repository, branch).await?;
        let how = match self.standing(repository, &commit.sha, &head.sha).await? {
            Some(Standing::Behind | Standing::Identical) => return Ok(commit),
            Some(Standing::Ahead) => "ahead of it",
            Some(Standing::Diverged) => "diverged from it",
            None => "no common history",
        };
        Err(GitHubError::Revision(format!(
            "commit {} is not on branch {branch} of {repository} ({how}): it comes from a fork or was never merged",
            commit.sha
        )))
    }

    /// The commit that a person's word names. A branch goes before a tag of the same name, and both before an
    /// abbreviated SHA; `heads/…` and `tags/…` tell them apart.
    async fn lookup(&self, repository: &str, revision: &str) -> Result<Commit, GitHubError> {
        let what = format!("asking GitHub for '{revision}' of {repository}");
        let hex = looks_like_sha(revision);
        let spelled = revision.starts_with("heads/") || revision.starts_with("tags/");
        let names = match (hex, spelled) {
            (true, _) if revision.len() == 40 => vec![revision.to_owned()],
            (true, _) => vec![format!("heads/{revision}"), format!("tags/{revision}"), revision.to_owned()],
            (false, true) => {
                vec![revision.to_owned(), format!("heads/{revision}"), format!("tags/{revision}")]
            }
            (false, false) => vec![format!("heads/{revision}"), format!("tags/{revision}")],
        };
        for name in &names {
            let path = commit_path(repository, name)?;
            if let Some(answer) = self.ask::<CommitAnswer>(repository, &path, &what).await? {
                return Ok(answer.into());
            }
        }
        Err(GitHubError::Revision(if hex {
            format!(
                "no commit {revision} in {repository}: unknown, or an abbreviation of several; give the full SHA, and push it first"
            )
        } else {
            format!("no branch, tag or commit '{revision}' in {repository}, or no access to it")
        }))
    }

    /// How `sha` stands to `other`; none: they have no history in common, or GitHub doesn't know one of them (yet).
    pub async fn standing(
        &self,
        repository: &str,
        sha: &str,
        other: &str,
    ) -> Result<Option<Standing>, GitHubError> {
        if sha == other {
            return Ok(Some(Standing::Identical));
        }
        let what = format!("comparing {sha} with {other} of {repository}");
        // The commits between them don't matter here.
        let path = format!("{}/compare/{other}...{sha}?per_page=1", path(repository)?);
        let comparison = self.ask::<Comparison>(repository, &path, &what).await?;
        Ok(comparison.map(|comparison| comparison.status))
    }

    /// The head of a branch, never of a tag of that name.
    pub async fn head(&self, repository: &str, branch: &str) -> Result<Commit, GitHubError> {
        check_name(branch)?;
        let path = commit_path(repository, &format!("heads/{branch}"))?;
        let what = asking_for_head(repository, branch);
        let answer = self.ask::<CommitAnswer>(repository, &path, &what).await?;
        Ok(answer.ok_or_else(|| no_branch(repository, branch))?.into())
    }

    /// The head of a branch with its ETag; none: it is what the given ETag stands for. Such an answer costs no quota.
    pub async fn head_since(
        &self,
        repository: &str,
        branch: &str,
        etag: Option<&str>,
    ) -> Result<Option<(Commit, Option<String>)>, GitHubError> {
        check_name(branch)?;
        let path = commit_path(repository, &format!("heads/{branch}"))?;
        let what = asking_for_head(repository, branch);
        let client = self.client(repository).await?;
        let mut answer = ask_since::<CommitAnswer>(&client, &path, etag, &what).await;
        if let Some(client) = self.client_anew(repository, &answer).await? {
            answer = ask_since(&client, &path, etag, &what).await;
        }
        match answer? {
            Said::Yes(answer, etag) => Ok(Some((answer.into(), etag))),
            Said::Unchanged => Ok(None),
            Said::No => Err(no_branch(repository, branch)),
        }
    }

    /// GitHub's number of a repository, which stays when it is renamed or transferred.
    pub async fn id(&self, repository: &str) -> Result<u64, GitHubError> {
        let what = format!("asking GitHub for {repository}");
        let answer = self.ask::<RepositoryAnswer>(repository, &path(repository)?, &what).await?;
        let missing = || format!("there is no repository {repository}, or no access to it");
        answer.map(|answer| answer.id).ok_or_else(|| GitHubError::Revision(missing()))
    }

    /// GitHub's own link to the commit's tarball: good for some minutes, without a token.
    pub async fn archive_link(&self, repository: &str, sha: &str) -> Result<String, GitHubError> {
        let what = format!("asking GitHub for the archive link of {repository} at {sha}");
        let archive = tokio::time::timeout(TIMEOUT, self.archive(repository, sha, &what));
        let response =
            archive.await.map_err(|_| GitHubError::Unavailable(format!("{what}: no answer")))??;
        // Where the redirects ended; its body is not read.
        match response.extensions().get::<RequestUri>() {
            Some(RequestUri(uri)) if response.status().is_success() => Ok(uri.to_string()),
            _ => Err(GitHubError::Unavailable(format!("{what}: GitHub answered {}", response.status()))),
        }
    }

    /// Writes the commit's tarball to `path`, which appears only when it is whole.
    pub async fn download(&self, repository: &str, sha: &str, path: &Path) -> Result<(), GitHubError> {
        let what = format!("downloading {repository} at {sha}");
        let fetch = self.fetch(repository, sha, path, &what);
        tokio::time::timeout(DOWNLOAD_TIMEOUT, fetch).await.map_err(|_| {
            GitHubError::Unavailable(format!("{what}: not done within {} s", DOWNLOAD_TIMEOUT.as_secs()))
        })?
    }

    async fn fetch(&self, repository: &str, sha: &str, path: &Path, what: &str) -> Result<(), GitHubError> {
        let response = self.archive(repository, sha, what).await?;
        let status = response.status();
        if !status.is_success() {
            return Err(GitHubError::Unavailable(format!("{what}: GitHub answered {status}")));
        }
        let body = response.into_body().into_data_stream().map_err(|e| unavailable(what, &e));
        save(body, path).await.map_err(|error| match error {
            SaveError::Source(error) => error,
            SaveError::TooLarge => GitHubError::Revision(error.to_string()),
            SaveError::Disk(_) => GitHubError::Unavailable(format!("{what}: {error}")),
        })
    }

    /// The answer to a question for a commit's tarball, after its redirects; its body is not read yet.
    async fn archive(&self, repository: &str, sha: &str, what: &str) -> Result<Archive, GitHubError> {
        let (owner, name) = split(repository)?;
        let mut answer = archive(&self.client(repository).await?.api, owner, name, sha, what).await;
        if let Some(client) = self.client_anew(repository, &answer).await? {
            answer = archive(&client.api, owner, name, sha, what).await;
        }
        answer
    }
}

type Archive = http::Response<BoxBody<Bytes, octocrab::Error>>;

async fn archive(
    client: &Octocrab,
    owner: &str,
    name: &str,
    sha: &str,
    what: &str,
) -> Result<Archive, GitHubError> {
    let repository = client.repos(owner, name);
    repository.download_tarball(Commitish(sha.to_owned())).await.map_err(|e| unavailable(what, &e))
}

/// The part of the API's path that names a repository.
fn path(repository: &str) -> Result<String, GitHubError> {
    let (owner, name) = split(repository)?;
    Ok(format!("/repos/{owner}/{name}"))
}

/// The part of the API's path that names a commit, by SHA or by `heads/…` or `tags/…`.
fn commit_path(repository: &str, name: &str) -> Result<String, GitHubError> {
    Ok(format!("{}/commits/{}", path(repository)?, utf8_percent_encode(name, IN_PATH)))
}

fn asking_for_head(repository: &str, branch: &str) -> String {
    format!("asking GitHub for the head of {branch} of {repository}")
}

fn no_branch(repository: &str, branch: &str) -> GitHubError {
    GitHubError::Revision(format!("there is no branch {branch} in {repository}, or no access to it"))
}

fn split(repository: &str) -> Result<(&str, &str), GitHubError> {
    repository
        .split_once('/')
        .ok_or_else(|| GitHubError::Revision(format!("'{repository}' is no repository")))
}

fn looks_like_sha(revision: &str) -> bool {
    revision.len() >= 4 && revision.len() <= 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

/// What git allows in a name of a commit (git-check-ref-format), and no more.
fn check_name(revision: &str) -> Result<(), GitHubError> {
    let forbidden = |c: char| c.is_control() || c.is_whitespace() || "~^:?*[\\".contains(c);
    if revision.is_empty()
        || revision.len() > 255
        || revision.starts_with(['-', '/', '.'])
        || revision.ends_with(['/', '.'])
        || revision.contains("..")
        || revision.contains("//")
        || revision.contains("@{")
        || revision.chars().any(forbidden)
    {
        return Err(GitHubError::Revision(format!(
            "'{revision}' is no revision: give a full or abbreviated SHA, a branch or a tag"
        )));
    }
    Ok(())
}

fn unavailable(what: &str, error: &octocrab::Error) -> GitHubError {
    use std::error::Error as _;
    let words = match error {
        octocrab::Error::GitHub { source, .. } => {
            let words = format!("{what}: {} {}", source.status_code, source.message);
            return match source.status_code {
                StatusCode::UNAUTHORIZED => GitHubError::Credentials(words),
                _ => GitHubError::Unavailable(words),
            };
        }
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
        for name in ["", "-x", "a..b", "a b", "a?b", "../x", "a^b", "x/", "a//b", "a\nb"] {
            assert!(check_name(name).is_err(), "{name}");
        }
        for name in ["main", "feature/x#1", "100%", "v1.2.3", "0123abc", "release+1"] {
            assert!(check_name(name).is_ok(), "{name}");
        }
    }
}
