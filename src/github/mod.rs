//! Asks GitHub which commit a name means, whether it belongs to the repository, and for its tarball.
//!
//! Imports octocrab and [`crate::config`]; no store, no engine.

mod app;
mod archive;
mod ask;
mod commit;
mod error;
mod names;

pub use commit::{Commit, Relation};
pub use error::GitHubError;

use crate::config::GitHub;
use anyhow::Context as _;
use app::App;
use ask::{Answer, Client, ask, ask_if_changed};
use commit::{CommitAnswer, Comparison, RepositoryAnswer};
use names::{check_name, commit_path, looks_like_sha, path};
use octocrab::{Octocrab, models::AppId};
use serde::de::DeserializeOwned;
use std::{sync::Arc, time::Duration};

/// GitHub answers within a second or two; a tarball's first byte takes longer.
const TIMEOUT: Duration = Duration::from_secs(30);

/// GitHub, as drover sees it.
#[derive(Clone, Debug)]
pub struct Repositories {
    access: Access,
}

/// The identity with which GitHub is asked.
#[derive(Clone, Debug)]
enum Access {
    /// A token, or none.
    Token(Arc<Client>),
    /// An app that is installed on the repositories.
    App(Arc<App>),
}

impl Repositories {
    /// Makes a client for the configured API.
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

    /// Returns the client to ask about a repository with.
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
        match self.renewed_client(repository, &answer).await? {
            Some(client) => ask(&client, path, what).await,
            None => answer,
        }
    }

    /// Returns a new client to repeat the question with, if GitHub doesn't accept the app's token any more.
    async fn renewed_client<T>(
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
        let how = match self.relation(repository, &commit.sha, &head.sha).await? {
            Some(Relation::Behind | Relation::Identical) => return Ok(commit),
            Some(Relation::Ahead) => "ahead of it",
            Some(Relation::Diverged) => "diverged from it",
            None => "no common history",
        };
        Err(GitHubError::Revision(format!(
            "commit {} is not on branch {branch} of {repository} ({how}): it comes from a fork or was never merged",
            commit.sha
        )))
    }

    /// Returns the commit that a person names. A branch goes before a tag of the same name, and both before an
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

    /// Returns how `sha` relates to `other`; none: they have no history in common, or GitHub doesn't know one of them
    /// (yet).
    pub async fn relation(
        &self,
        repository: &str,
        sha: &str,
        other: &str,
    ) -> Result<Option<Relation>, GitHubError> {
        if sha == other {
            return Ok(Some(Relation::Identical));
        }
        let what = format!("comparing {sha} with {other} of {repository}");
        // The commits between them don't matter here.
        let path = format!("{}/compare/{other}...{sha}?per_page=1", path(repository)?);
        let comparison = self.ask::<Comparison>(repository, &path, &what).await?;
        Ok(comparison.map(|comparison| comparison.status))
    }

    /// Returns the head of a branch, never of a tag of that name.
    pub async fn head(&self, repository: &str, branch: &str) -> Result<Commit, GitHubError> {
        check_name(branch)?;
        let path = commit_path(repository, &format!("heads/{branch}"))?;
        let what = asking_for_head(repository, branch);
        let answer = self.ask::<CommitAnswer>(repository, &path, &what).await?;
        Ok(answer.ok_or_else(|| no_branch(repository, branch))?.into())
    }

    /// Returns the head of a branch with its ETag; none if it hasn't changed since the given ETag. Such an answer costs no
    /// quota.
    pub async fn head_if_changed(
        &self,
        repository: &str,
        branch: &str,
        etag: Option<&str>,
    ) -> Result<Option<(Commit, Option<String>)>, GitHubError> {
        check_name(branch)?;
        let path = commit_path(repository, &format!("heads/{branch}"))?;
        let what = asking_for_head(repository, branch);
        let client = self.client(repository).await?;
        let mut answer = ask_if_changed::<CommitAnswer>(&client, &path, etag, &what).await;
        if let Some(client) = self.renewed_client(repository, &answer).await? {
            answer = ask_if_changed(&client, &path, etag, &what).await;
        }
        match answer? {
            Answer::Found(answer, etag) => Ok(Some((answer.into(), etag))),
            Answer::Unchanged => Ok(None),
            Answer::NotFound => Err(no_branch(repository, branch)),
        }
    }

    /// Returns GitHub's number of a repository, which stays when it is renamed or transferred.
    pub async fn id(&self, repository: &str) -> Result<u64, GitHubError> {
        let what = format!("asking GitHub for {repository}");
        let answer = self.ask::<RepositoryAnswer>(repository, &path(repository)?, &what).await?;
        let missing = || format!("there is no repository {repository}, or no access to it");
        answer.map(|answer| answer.id).ok_or_else(|| GitHubError::Revision(missing()))
    }
}

fn asking_for_head(repository: &str, branch: &str) -> String {
    format!("asking GitHub for the head of {branch} of {repository}")
}

fn no_branch(repository: &str, branch: &str) -> GitHubError {
    GitHubError::Revision(format!("there is no branch {branch} in {repository}, or no access to it"))
}
