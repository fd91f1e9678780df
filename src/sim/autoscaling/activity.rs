//! Scaling activities: the entries of a group's history.

use serde_json::{Value, json};

use super::arn::group_arn;

/// One activity in a group's history.
#[derive(Clone, Debug)]
pub struct Activity {
    pub(super) id: String,
    pub(super) description: String,
    pub(super) cause: String,
    pub(super) instance: String,
    pub(super) start: String,
    pub(super) end: Option<String>,
    pub(super) status: &'static str,
    /// Why it failed, if it did.
    pub(super) message: Option<String>,
}

impl Activity {
    /// Describes the activity of this group as AWS does.
    pub(super) fn json(&self, group: &str) -> Value {
        json!({
            "ActivityId": self.id,
            "AutoScalingGroupName": group,
            "AutoScalingGroupARN": group_arn(group),
            "Description": self.description,
            "Cause": self.cause,
            "StartTime": self.start,
            "EndTime": self.end,
            "StatusCode": self.status,
            "StatusMessage": self.message,
            "Progress": if self.end.is_some() { 100 } else { 50 },
            "Details": "{}",
        })
    }
}
