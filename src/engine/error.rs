//! Why what a person asks for is refused, in words for that person.

use crate::{fleet::FleetError, github::GitHubError, rollout::verb::Verb, store::StoreError};
use thiserror::Error;

/// Why a request about deployments is refused.
#[derive(Debug, Error)]
pub enum SubmitError {
    /// No such group.
    #[error("no deployment group '{name}' is configured; there are: {known}")]
    UnknownGroup {
        /// What was asked for.
        name: String,
        /// What there is.
        known: String,
    },
    /// No such deployment.
    #[error("there is no deployment {0}")]
    UnknownDeployment(i64),
    /// The revision.
    #[error(transparent)]
    Revision(#[from] GitHubError),
    /// The policy that would result.
    #[error("this policy can't work: {0}")]
    Policy(String),
    /// The fleet as it is, or the revision's content.
    #[error("{0}")]
    CanNot(String),
    /// It can't be told just now.
    #[error("{0}; try again")]
    Passing(String),
    /// Too late.
    #[error("deployment {id} has ended already: {state}")]
    Ended {
        /// Which.
        id: i64,
        /// How.
        state: String,
    },
    /// No such instance is kept out.
    #[error("{0} is not in quarantine: 'drover quarantine list' shows which are")]
    NotQuarantined(String),
    /// Not to this deployment as it is.
    #[error("can't {verb} deployment {id}: {why}")]
    Refused {
        /// Which.
        id: i64,
        /// What was asked.
        verb: Verb,
        /// Why not.
        why: String,
    },
    /// The store.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Why something can't be done to a group.
#[derive(Debug, Error)]
pub enum GroupError {
    /// As with a submission: no such group, the store.
    #[error(transparent)]
    Submit(#[from] SubmitError),
    /// Not as the group is.
    #[error("{0}")]
    Refused(String),
    /// AWS.
    #[error(transparent)]
    Aws(#[from] FleetError),
    /// Anything else that may pass.
    #[error("{0:#}")]
    Passing(anyhow::Error),
}

impl From<StoreError> for GroupError {
    fn from(error: StoreError) -> Self {
        SubmitError::Store(error).into()
    }
}

impl From<anyhow::Error> for GroupError {
    fn from(error: anyhow::Error) -> Self {
        GroupError::Passing(error)
    }
}
