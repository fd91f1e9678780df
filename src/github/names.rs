//! The names that people and the configuration give: checked, and put into paths of GitHub's API.

use super::error::GitHubError;
use percent_encoding::{AsciiSet, NON_ALPHANUMERIC, utf8_percent_encode};

/// A name becomes a part of a URL's path; its slashes stay, as GitHub takes them.
const IN_PATH: &AsciiSet = &NON_ALPHANUMERIC.remove(b'-').remove(b'_').remove(b'.').remove(b'~').remove(b'/');

/// Returns the part of the API's path that names a repository.
pub(super) fn path(repository: &str) -> Result<String, GitHubError> {
    let (owner, name) = split(repository)?;
    Ok(format!("/repos/{owner}/{name}"))
}

/// Returns the part of the API's path that names a commit, by SHA or by `heads/…` or `tags/…`.
pub(super) fn commit_path(repository: &str, name: &str) -> Result<String, GitHubError> {
    Ok(format!("{}/commits/{}", path(repository)?, utf8_percent_encode(name, IN_PATH)))
}

pub(super) fn split(repository: &str) -> Result<(&str, &str), GitHubError> {
    repository
        .split_once('/')
        .ok_or_else(|| GitHubError::Revision(format!("'{repository}' is no repository")))
}

pub(super) fn looks_like_sha(revision: &str) -> bool {
    revision.len() >= 4 && revision.len() <= 40 && revision.chars().all(|c| c.is_ascii_hexdigit())
}

/// Refuses a name of a commit that git doesn't allow (git-check-ref-format).
pub(super) fn check_name(revision: &str) -> Result<(), GitHubError> {
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
