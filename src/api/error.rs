//! Errors.

use serde::{Deserialize, Serialize};

/// The body of every answer that refuses something.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorAnswer {
    /// What is wrong.
    pub error: ErrorDetail,
}

/// What is wrong, for programs and for people.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ErrorDetail {
    /// The kind of error, such as `unknown-group`; stable, for programs.
    #[serde(default)]
    pub code: String,
    /// What was tried, on what, and what to do, for people.
    pub message: String,
}
