//! A health check to be made, and what it finds.

use std::time::Duration;

/// A health check to be made.
#[derive(Clone, Debug)]
pub struct Probe {
    /// ARN of the target group.
    pub target_group: String,
    /// The instance to be checked.
    pub instance: String,
    /// Its port.
    pub port: u16,
    /// The path of the GET.
    pub path: String,
    /// How long the check may take on this machine.
    pub timeout: Duration,
}

/// The result of a health check.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Found {
    /// The target answered with this status.
    Status(u16),
    /// The target did not answer in time.
    Nothing,
    /// The connection failed, or the answer was broken.
    Broken,
}
