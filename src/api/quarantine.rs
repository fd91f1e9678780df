//! Quarantined instances: failed, and kept out of the balancer.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// What a person asks of a quarantined instance.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum QuarantineVerb {
    /// Back into service with whatever is on it.
    Release,
    /// Deployed to once more.
    Retry,
    /// Gone for good.
    Terminate,
}

impl QuarantineVerb {
    /// All there are.
    pub const ALL: [QuarantineVerb; 3] =
        [QuarantineVerb::Release, QuarantineVerb::Retry, QuarantineVerb::Terminate];

    /// Its name in paths and on the command line.
    pub fn name(self) -> &'static str {
        match self {
            QuarantineVerb::Release => "release",
            QuarantineVerb::Retry => "retry",
            QuarantineVerb::Terminate => "terminate",
        }
    }
}

impl fmt::Display for QuarantineVerb {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.name())
    }
}

impl FromStr for QuarantineVerb {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Self::ALL.into_iter().find(|verb| verb.name() == text).ok_or_else(|| format!("'{text}' is no verb"))
    }
}

/// A quarantined instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantinedInstance {
    /// Its EC2 instance id.
    pub instance: String,
    /// Its Auto Scaling group.
    pub auto_scaling_group: String,
    /// The deployment in which it failed.
    pub deployment: i64,
    /// How it failed, in words.
    pub reason: String,
    /// Since when it is kept out.
    pub since: Timestamp,
    /// `release` or `terminate`, where a person has asked for that.
    pub requested: Option<String>,
}

/// The quarantined instances.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantineList {
    /// The instances.
    pub instances: Vec<QuarantinedInstance>,
}

/// What was done with a quarantined instance.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct QuarantineAnswer {
    /// That in words.
    pub message: String,
    /// The deployment that does it, if one does.
    pub deployment: Option<i64>,
}
