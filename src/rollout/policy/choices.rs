//! Settings of a policy that are one of a few words.

use serde::{Deserialize, Serialize};
use std::str::FromStr;

/// How one batch follows another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Mode {
    /// Wait for the whole batch.
    Batch,
    /// Keep a batch's number in work, starting the next as one finishes.
    Window,
}

impl FromStr for Mode {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text {
            "batch" => Ok(Mode::Batch),
            "window" => Ok(Mode::Window),
            other => Err(format!("'{other}' is no mode: write \"batch\" or \"window\"")),
        }
    }
}

/// The choice of zones from which a batch takes its instances.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Zones {
    /// Wherever they are.
    #[default]
    Any,
    /// From all zones in turn.
    Spread,
    /// From one zone, until that zone is through.
    OneAtATime,
}

/// What a deployment does when it may not continue by itself.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum OnFailure {
    /// The deployment waits for a person.
    #[default]
    Halt,
    /// The deployment brings what it changed back to the last good revision; without one it waits for a person.
    Rollback,
}

/// The release whose hooks run at ApplicationStop and at BeforeBlockTraffic and AfterBlockTraffic.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum StopFrom {
    /// Those of the release that runs, as in CodeDeploy.
    #[default]
    Current,
    /// Those of the revision that is deployed.
    New,
}

impl StopFrom {
    /// Returns the word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            StopFrom::Current => "current",
            StopFrom::New => "new",
        }
    }
}

/// What is done on an instance where the hooks of these events have failed twice, or are missing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum StopFailure {
    /// The hooks of the new revision are tried.
    #[default]
    FallBack,
    /// The attempt continues without them.
    Ignore,
    /// The attempt fails.
    Fail,
}

impl StopFailure {
    /// Returns the word for it in the configuration.
    pub fn name(self) -> &'static str {
        match self {
            StopFailure::FallBack => "fall-back",
            StopFailure::Ignore => "ignore",
            StopFailure::Fail => "fail",
        }
    }
}
