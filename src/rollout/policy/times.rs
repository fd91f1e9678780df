//! Retries and deadlines: how often a failure is retried, and how long each wait may last.

use jiff::SignedDuration;
use serde::{Deserialize, Serialize};

/// Settings of retries: which failures are retried on the instance where they happened, how often and how fast.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Retry {
    /// Attempts in all after transient failures. Default 3.
    pub attempts: u32,
    /// Attempts in all after failures of unknown class. Default 2.
    pub attempts_unknown: u32,
    /// First pause of the exponential backoff. Default 5 s.
    pub base: SignedDuration,
    /// Longest pause. Default 2 min.
    pub cap: SignedDuration,
    /// Exit codes of hooks that are transient. Default 75 (EX_TEMPFAIL of sysexits.h).
    pub transient_exit_codes: Vec<i32>,
    /// Exit codes of hooks that are permanent. Default none besides 126 and 127.
    pub permanent_exit_codes: Vec<i32>,
    /// Further regular expressions; a match in a failed hook's last lines makes the failure transient.
    pub transient_patterns: Vec<String>,
}

impl Default for Retry {
    fn default() -> Self {
        Retry {
            attempts: 3,
            attempts_unknown: 2,
            base: SignedDuration::from_secs(5),
            cap: SignedDuration::from_mins(2),
            transient_exit_codes: vec![75],
            permanent_exit_codes: Vec::new(),
            transient_patterns: Vec::new(),
        }
    }
}

/// Deadlines of the waits. The defaults are the design's; those of drain and health are added to what the
/// target group itself says.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Deadlines {
    /// In the queue. Default 2 h.
    pub queued: SignedDuration,
    /// Download and unpack, per attempt. Default 10 min.
    pub staging: SignedDuration,
    /// An agent that can't be reached while its command runs, before it counts as lost. Default 5 min: Systems Manager
    /// itself notices within that.
    pub agent: SignedDuration,
    /// Past the deregistration delay. Default 60 s.
    pub drain: SignedDuration,
    /// Past 3 × health-check interval × healthy threshold. Default 60 s.
    pub health: SignedDuration,
    /// Halted, waiting for a person. Default 24 h.
    pub halted: SignedDuration,
    /// The whole deployment. Default 12 h.
    pub deployment: SignedDuration,
    /// A cancelled one, until everything is back. Default 1 h; what is not back by then is quarantined by name.
    pub cancelled: SignedDuration,
}

/// The longest time that a policy may name, 30 days: longer than anybody waits, and short enough to be added to a time.
pub const LONGEST: SignedDuration = SignedDuration::from_hours(30 * 24);

impl Default for Deadlines {
    fn default() -> Self {
        Deadlines {
            queued: SignedDuration::from_hours(2),
            staging: SignedDuration::from_mins(10),
            agent: SignedDuration::from_mins(5),
            drain: SignedDuration::from_secs(60),
            health: SignedDuration::from_secs(60),
            halted: SignedDuration::from_hours(24),
            deployment: SignedDuration::from_hours(12),
            cancelled: SignedDuration::from_hours(1),
        }
    }
}
