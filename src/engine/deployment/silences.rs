//! What is known of agents that are silent in mid-command.

use jiff::Timestamp;
use std::collections::HashMap;

/// What is known of silent agents; a restart begins to count afresh.
#[derive(Default)]
pub(super) struct Silences {
    /// When the agents were last asked for.
    pub(super) looked: Option<Timestamp>,
    /// By attempt.
    pub(super) since: HashMap<i64, Silence>,
}

/// An agent that is away.
pub(super) struct Silence {
    pub(super) since: Timestamp,
    /// How much of the attempt's log there was then.
    pub(super) bytes: i64,
    /// When it was last found away.
    pub(super) seen: Timestamp,
}
