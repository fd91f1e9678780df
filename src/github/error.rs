//! What can go wrong when GitHub is asked.

use http::StatusCode;
use thiserror::Error;

/// Why GitHub's answer can't be used.
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

/// Converts an error of the client, whose message begins with `what`.
pub(super) fn unavailable(what: &str, error: &octocrab::Error) -> GitHubError {
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
