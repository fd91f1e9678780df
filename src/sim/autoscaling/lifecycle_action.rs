//! Lifecycle actions: what an instance in `Pending:Wait` waits for, one for each hook on launches of its group.

use std::time::Instant;

use crate::sim::wire::{ApiError, Params};

/// The result that a lifecycle action ends with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ActionResult {
    /// The instance may go into service, as far as this hook goes.
    Continue,
    /// The instance is terminated.
    Abandon,
}

impl ActionResult {
    /// Returns the name that AWS uses.
    pub fn name(self) -> &'static str {
        match self {
            Self::Continue => "CONTINUE",
            Self::Abandon => "ABANDON",
        }
    }

    /// Reads a result from a parameter of a call.
    pub(super) fn read(p: Params<'_>, parameter: &str) -> Result<Self, ApiError> {
        match p.need(parameter)? {
            "CONTINUE" => Ok(Self::Continue),
            "ABANDON" => Ok(Self::Abandon),
            other => Err(p.error(format!("'{other}' is no {parameter}: use CONTINUE or ABANDON"))),
        }
    }
}

/// A lifecycle action under way.
#[derive(Clone, Debug)]
pub struct LifecycleAction {
    /// AWS's LifecycleActionToken, which is in the event `instance-pending-wait`.
    pub token: String,
    /// When it ends with the hook's default result, unless a heartbeat is recorded before.
    pub heartbeat: Instant,
    /// When it ends in any case, however many heartbeats are recorded.
    pub global: Instant,
}
