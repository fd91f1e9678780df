//! `[github]`: how GitHub is asked, and how often.

use jiff::SignedDuration;
use serde::Deserialize;
use std::path::PathBuf;

/// GitHub.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct GitHub {
    /// API URL. Default `https://api.github.com`.
    pub api: String,
    /// Environment variable that holds the token (contents: read). Default `GITHUB_TOKEN`.
    pub token_env: String,
    /// A GitHub App to authenticate as, instead of a token.
    pub app: Option<GitHubApp>,
    /// Environment variable that holds the webhook's secret. Default `DROVER_WEBHOOK_SECRET`; where it is empty, webhooks
    /// are refused and branches are polled instead.
    pub webhook_secret_env: String,
    /// How often the branches of groups with `auto_deploy` are polled; `"0s"` never. Default every 30 s where there is no
    /// webhook secret, else every 5 min, for deliveries that were lost. A branch that hasn't moved costs none of GitHub's
    /// 5,000 requests an hour (its answer is conditional).
    pub poll_branches: Option<SignedDuration>,
}

impl Default for GitHub {
    fn default() -> Self {
        GitHub {
            api: "https://api.github.com".into(),
            token_env: "GITHUB_TOKEN".into(),
            app: None,
            webhook_secret_env: "DROVER_WEBHOOK_SECRET".into(),
            poll_branches: None,
        }
    }
}

/// A GitHub App: installed on the repositories, with the permission to read contents.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GitHubApp {
    /// Its App ID, from its settings page.
    pub id: u64,
    /// The file of its private key, as GitHub gave it (PEM).
    pub key: PathBuf,
}

/// Without a webhook, branches are polled this often.
const POLL_BRANCHES: SignedDuration = SignedDuration::from_secs(30);
/// Beside a webhook, this often.
const CATCH_UP: SignedDuration = SignedDuration::from_mins(5);

impl GitHub {
    /// Returns the token from the environment.
    pub fn token(&self) -> Option<String> {
        std::env::var(&self.token_env).ok().filter(|token| !token.is_empty())
    }

    /// Returns the webhook's secret from the environment.
    pub fn webhook_secret(&self) -> Option<String> {
        std::env::var(&self.webhook_secret_env).ok().filter(|secret| !secret.is_empty())
    }

    /// Returns how often branches are polled, if at all.
    pub fn polling(&self) -> Option<SignedDuration> {
        let default = if self.webhook_secret().is_some() { CATCH_UP } else { POLL_BRANCHES };
        Some(self.poll_branches.unwrap_or(default)).filter(|pause| !pause.is_zero())
    }
}
