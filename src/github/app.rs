//! A GitHub App in place of a token: each repository is asked about as the app's installation on its owner, by a token that
//! GitHub gives for an hour and octocrab renews.

use super::{
    ask::{Client, ask},
    error::{GitHubError, unavailable},
    names::path,
};
use octocrab::{Octocrab, models::InstallationId};
use serde::Deserialize;
use std::{
    collections::HashMap,
    sync::Arc,
    time::{Duration, Instant},
};
use tokio::sync::Mutex;

/// How long an installation is remembered: an app may be removed and installed again, with another number.
const REMEMBERED: Duration = Duration::from_secs(600);

/// A GitHub App, and the clients of its installations.
#[derive(Debug)]
pub(super) struct App {
    itself: Client,
    /// The clients by repository, each with the time when it was found.
    installations: Mutex<HashMap<String, (Instant, Arc<Client>)>>,
}

#[derive(Deserialize)]
struct Installation {
    id: InstallationId,
}

impl App {
    /// `itself`: a client that signs in as the app, with its private key.
    pub(super) fn new(itself: Octocrab) -> App {
        App { itself: Client::new(itself), installations: Mutex::default() }
    }

    /// Returns the client for a repository. Callers whose client is known don't wait for GitHub.
    pub(super) async fn client(&self, repository: &str) -> Result<Arc<Client>, GitHubError> {
        {
            let mut known = self.installations.lock().await;
            known.retain(|_, (since, _)| since.elapsed() < REMEMBERED);
            if let Some((_, client)) = known.get(repository) {
                return Ok(Arc::clone(client));
            }
        }
        let what = format!("asking GitHub for the app's installation on {repository}");
        let asked = format!("{}/installation", path(repository)?);
        let found = ask::<Installation>(&self.itself, &asked, &what).await?;
        let Some(Installation { id }) = found else {
            let words = format!(
                "the GitHub App is not installed on {repository}: install it there, or there is no such repository"
            );
            return Err(GitHubError::Revision(words));
        };
        let client = self.itself.api.installation(id).map_err(|e| unavailable(&what, &e))?;
        // A copy of a client has no part in its token.
        let client = Arc::new(Client::new(client));
        let mut known = self.installations.lock().await;
        let (_, client) = known.entry(repository.to_owned()).or_insert((Instant::now(), client));
        Ok(Arc::clone(client))
    }

    /// Forgets the client of a repository, whose token GitHub doesn't accept any more.
    pub(super) async fn forget(&self, repository: &str) {
        self.installations.lock().await.remove(repository);
    }
}
