//! Commits, and how one relates to another, as GitHub answers them.

use serde::Deserialize;

/// How one commit relates to another in the repository's history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Relation {
    /// The two are the same.
    Identical,
    /// The commit comes after the other one.
    Ahead,
    /// The commit comes before the other one.
    Behind,
    /// Each has commits that the other one lacks, or they have none in common.
    Diverged,
}

#[derive(Deserialize)]
pub(super) struct Comparison {
    pub(super) status: Relation,
}

#[derive(Deserialize)]
pub(super) struct RepositoryAnswer {
    pub(super) id: u64,
}

#[derive(Deserialize)]
pub(super) struct CommitAnswer {
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
