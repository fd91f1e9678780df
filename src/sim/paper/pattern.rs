//! How attempts on a group's paper instances go: how long they take, what they print, how often they fail.

use serde::Deserialize;

use crate::sim::wire::ApiError;

/// The most lines that a hook of a paper instance may print.
const MOST_LINES: u32 = 100_000;

/// How the attempts on a group's paper instances go. Seconds are the machine's, as those of a real hook are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pattern {
    /// How long a download takes on average; each takes between half as long and half as long again.
    pub download_seconds: f64,
    /// How long a hook takes on average; each takes between half as long and half as long again.
    pub hook_seconds: f64,
    /// The number of lines that a hook prints.
    pub lines: u32,
    /// The share of the instances on which a revision's hooks fail at every attempt, 0 to 1.
    pub failing_instances: f64,
    /// The share of the attempts in which a hook fails, 0 to 1: the next one may succeed.
    pub failing_attempts: f64,
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            download_seconds: 2.0,
            hook_seconds: 1.0,
            lines: 10,
            failing_instances: 0.0,
            failing_attempts: 0.0,
        }
    }
}

impl Pattern {
    /// Refuses numbers that are out of range.
    pub fn check(&self) -> Result<(), ApiError> {
        let seconds = [self.download_seconds, self.hook_seconds];
        let shares = [self.failing_instances, self.failing_attempts];
        if !seconds.iter().all(|s| (0.0..=86_400.0).contains(s)) {
            return Err(ApiError::validation("a paper pattern's seconds must be between 0 and 86400"));
        }
        if !shares.iter().all(|s| (0.0..=1.0).contains(s)) {
            return Err(ApiError::validation("a paper pattern's shares must be between 0 and 1"));
        }
        if self.lines > MOST_LINES {
            return Err(ApiError::validation(format!(
                "a paper pattern's lines must be {MOST_LINES} at most"
            )));
        }
        Ok(())
    }
}
