//! An instance refresh in name only: it is in progress until it is cancelled, and replaces nothing.

use serde_json::{Value, json};

/// An instance refresh.
#[derive(Clone, Debug)]
pub struct Refresh {
    pub(super) id: String,
    pub(super) strategy: String,
    pub(super) preferences: Option<Value>,
    /// How many instances there were to be replaced when it was started.
    pub(super) instances: usize,
    pub(super) start: String,
    /// When it was cancelled, if it was.
    pub(super) end: Option<String>,
}

impl Refresh {
    /// Whether it has not been cancelled.
    pub(super) fn is_under_way(&self) -> bool {
        self.end.is_none()
    }

    /// Describes the refresh as AWS does.
    pub(super) fn json(&self, group: &str) -> Value {
        let cancelled = self.end.is_some();
        json!({
            "InstanceRefreshId": self.id,
            "AutoScalingGroupName": group,
            "Status": if cancelled { "Cancelled" } else { "InProgress" },
            "StatusReason": cancelled.then_some("Cancelled due to user request."),
            "StartTime": self.start,
            "EndTime": self.end,
            "PercentageComplete": 0,
            "InstancesToUpdate": self.instances,
            "Preferences": self.preferences,
            "Strategy": self.strategy,
        })
    }
}
