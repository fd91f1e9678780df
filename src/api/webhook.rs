//! Answers to GitHub's webhooks.

use serde::{Deserialize, Serialize};

/// What became of a webhook's delivery.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "status", rename_all = "lowercase")]
pub enum WebhookAnswer {
    /// These groups will be deployed to.
    Accepted {
        /// GitHub's id of the delivery.
        delivery: String,
        /// The deployment groups.
        groups: Vec<String>,
    },
    /// The delivery, or its very body, came before.
    Duplicate {
        /// GitHub's id of the delivery.
        delivery: String,
    },
    /// It starts nothing.
    Ignored {
        /// Why not.
        reason: String,
    },
}
