//! A commit's tarball: GitHub's own link to it, and the download.

use super::{
    Repositories, TIMEOUT,
    error::{GitHubError, unavailable},
    names::split,
};
use crate::download::{SaveError, save};
use bytes::Bytes;
use futures_util::TryStreamExt as _;
use http_body_util::{BodyExt as _, combinators::BoxBody};
use octocrab::{Octocrab, params::repos::Commitish};
use std::{path::Path, time::Duration};
use tower_http::follow_redirect::RequestUri;

/// For the whole of a tarball.
const DOWNLOAD_TIMEOUT: Duration = Duration::from_secs(300);

impl Repositories {
    /// Returns GitHub's own link to the commit's tarball, which is valid for some minutes, without a token.
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

    /// Returns GitHub's answer to a request for a commit's tarball, after its redirects; its body is not read yet.
    async fn archive(&self, repository: &str, sha: &str, what: &str) -> Result<Archive, GitHubError> {
        let (owner, name) = split(repository)?;
        let mut answer = archive(&self.client(repository).await?.api, owner, name, sha, what).await;
        if let Some(client) = self.renewed_client(repository, &answer).await? {
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
