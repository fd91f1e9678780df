//! An attempt on one instance, and how it ended.

use crate::rollout::{event::LifecycleEvent, state::Fault};
use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// An attempt on one instance: one row of a dispatch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    /// Its number; see the store.
    pub number: i64,
    /// When its dispatch was recorded.
    pub created_at: Timestamp,
    /// How it ended, once that is known.
    pub outcome: Option<Outcome>,
}

/// How an attempt ended.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Outcome {
    /// Every event it was to run succeeded.
    Succeeded {
        /// The release that is current on the host, as the host says.
        current: Option<String>,
    },
    /// The attempt stopped as it was asked to, after the event named.
    Stopped(Option<LifecycleEvent>),
    /// The attempt failed.
    Failed(Fault),
    /// Its dispatch was refused as a whole; nothing was sent for this instance. Doesn't count.
    NotSent {
        /// Whether it is to be sent alone next time, because an id among those of the dispatch was the reason.
        alone: bool,
    },
}

impl Outcome {
    /// In words, one line.
    pub fn words(&self) -> String {
        match self {
            Outcome::Succeeded { .. } => "succeeded".into(),
            Outcome::Stopped(Some(event)) => format!("stopped after {event}"),
            Outcome::Stopped(None) => "stopped before the first event".into(),
            Outcome::Failed(fault) => fault.words(),
            Outcome::NotSent { .. } => "not sent".into(),
        }
    }
}
