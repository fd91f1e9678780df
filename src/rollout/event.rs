//! The lifecycle events of a deployment on one instance: CodeDeploy's names, in CodeDeploy's order.

use serde::{Deserialize, Serialize};
use std::{fmt, str::FromStr};

/// One lifecycle event. The order of the variants is the order in which they happen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[allow(missing_docs)]
pub enum LifecycleEvent {
    DownloadBundle,
    BeforeBlockTraffic,
    BlockTraffic,
    AfterBlockTraffic,
    ApplicationStop,
    BeforeInstall,
    Install,
    AfterInstall,
    ApplicationStart,
    ValidateService,
    BeforeAllowTraffic,
    AllowTraffic,
    AfterAllowTraffic,
}

use LifecycleEvent::*;

/// Every event, in order.
pub const ALL: [LifecycleEvent; 13] = [
    DownloadBundle,
    BeforeBlockTraffic,
    BlockTraffic,
    AfterBlockTraffic,
    ApplicationStop,
    BeforeInstall,
    Install,
    AfterInstall,
    ApplicationStart,
    ValidateService,
    BeforeAllowTraffic,
    AllowTraffic,
    AfterAllowTraffic,
];

/// The events of the one dispatch that deploys: from AfterBlockTraffic to BeforeAllowTraffic.
pub const RUN: [LifecycleEvent; 8] = [
    AfterBlockTraffic,
    ApplicationStop,
    BeforeInstall,
    Install,
    AfterInstall,
    ApplicationStart,
    ValidateService,
    BeforeAllowTraffic,
];

impl LifecycleEvent {
    /// The name as CodeDeploy and `appspec.yml` write it.
    pub fn name(self) -> &'static str {
        match self {
            DownloadBundle => "DownloadBundle",
            BeforeBlockTraffic => "BeforeBlockTraffic",
            BlockTraffic => "BlockTraffic",
            AfterBlockTraffic => "AfterBlockTraffic",
            ApplicationStop => "ApplicationStop",
            BeforeInstall => "BeforeInstall",
            Install => "Install",
            AfterInstall => "AfterInstall",
            ApplicationStart => "ApplicationStart",
            ValidateService => "ValidateService",
            BeforeAllowTraffic => "BeforeAllowTraffic",
            AllowTraffic => "AllowTraffic",
            AfterAllowTraffic => "AfterAllowTraffic",
        }
    }

    /// Whether a revision may hang hooks on it; the others are the system's own.
    pub fn takes_hooks(self) -> bool {
        !matches!(self, DownloadBundle | BlockTraffic | Install | AllowTraffic)
    }

    /// Whether its hooks are those of the release that runs, which the revision only replaces.
    pub fn is_of_the_former(self) -> bool {
        matches!(self, BeforeBlockTraffic | AfterBlockTraffic | ApplicationStop)
    }

    /// Returns the event at which a retry starts after this event failed: at the event itself, but ValidateService's at
    /// ApplicationStop, since validating the same broken process again proves nothing.
    pub fn retry_from(self) -> LifecycleEvent {
        match self {
            ValidateService | BeforeAllowTraffic | AllowTraffic => ApplicationStop,
            other => other,
        }
    }
}

impl fmt::Display for LifecycleEvent {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for LifecycleEvent {
    type Err = String;

    fn from_str(name: &str) -> Result<Self, String> {
        ALL.into_iter().find(|event| event.name() == name).ok_or_else(|| {
            let known: Vec<_> = ALL.iter().filter(|e| e.takes_hooks()).map(|e| e.name()).collect();
            format!("unknown lifecycle event '{name}'; hooks may hang on {}", known.join(", "))
        })
    }
}
