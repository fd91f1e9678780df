//! A GitHub App in place of a token: each repository is asked about as the app's installation on its owner, by a token that
//! GitHub gives for an hour and octocrab renews.

use super::{
    GitHubError,
    ask::{Limits, ask},
    path,
};
use octocrab::{Octocrab, models::InstallationId};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// An app may be removed and installed again meanwhile, with another number.
const REMEMBERED: Duration = Duration::from_secs(600);

/// An app, and the clients of its installations.
#[derive(Debug)]
pub(super) struct App {
    itself: Octocrab,
    /// By repository, and since when.
    installations: Mutex<HashMap<String, (Instant, Arc<Octocrab>)>>,
}

#[derive(Deserialize)]
struct Installation {
    id: InstallationId,
}

impl App {
    /// `itself`: a client that signs in as the app, with its private key.
    pub(super) fn new(itself: Octocrab) -> App {
        App { itself, installations: Mutex::default() }
    }

    /// The client for a repository.
    pub(super) async fn client(
        &self,
        limits: &Limits,
        repository: &str,
    ) -> Result<Arc<Octocrab>, GitHubError> {
        let mut known = self.installations.lock().await;
        known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
        if let Some((_, client)) = known.get(repository) {
            return Ok(Arc::clone(client));
        }
        let what = format!("asking GitHub for the app's installation on {repository}");
        let asked = format!("{}/installation", path(repository)?);
        let found = ask::<Installation>(&self.itself, limits, &asked, &what).await?;
        let Some(Installation { id }) = found else {
            let words = format!(
                "the GitHub App is not installed on {repository}: install it there, or there is no such repository"
            );
            return Err(GitHubError::Revision(words));
        };
        // A copy of a client has no part in its token.
        let client = Arc::new(self.itself.installation(id).map_err(|e| super::unavailable(&what, &e))?);
        known.insert(repository.to_owned(), (Instant::now(), Arc::clone(&client)));
        Ok(client)
    }

    /// Its token is not taken any more: the next question begins afresh.
    pub(super) async fn forget(&self, repository: &str) {
        self.installations.lock().await.remove(repository);
    }
}
