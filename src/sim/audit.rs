//! The audit log (every API call) and the event log (everything that happened to an instance).

use serde::Serialize;
use serde_json::{Value, json};

/// One API call.
#[derive(Clone, Debug, Serialize)]
pub struct Call {
    /// Position, from 1.
    pub seq: u64,
    /// When it arrived, milliseconds since the Unix epoch.
    pub at: i64,
    /// Signing name of the service, or `github`.
    pub service: String,
    /// The action.
    pub action: String,
    /// Whether the action changes anything.
    pub mutating: bool,
    /// The decoded parameters.
    pub params: Value,
    /// HTTP status; 0 where the response was lost on purpose.
    pub status: u16,
    /// The error's code, if it failed.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub error_code: Option<String>,
    /// As in the response's header.
    pub request_id: String,
    /// The fault that met this call, if any.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub fault: Option<String>,
}

/// Every call since the start.
#[derive(Debug, Default)]
pub struct Audit {
    calls: Vec<Call>,
}

impl Audit {
    /// Appends a call; its `seq` is given here.
    pub fn push(&mut self, mut call: Call) {
        call.seq = self.calls.len() as u64 + 1;
        self.calls.push(call);
    }

    /// The calls after position `after`.
    pub fn after(&self, after: u64) -> Value {
        let skip = usize::try_from(after).unwrap_or(usize::MAX).min(self.calls.len());
        json!({"calls": &self.calls[skip..]})
    }
}

/// Whether an action changes anything: all that don't only read.
pub fn mutates(action: &str) -> bool {
    !["Describe", "List", "Get", "Compare", "Download"].iter().any(|prefix| action.starts_with(prefix))
}

/// One thing that happened.
#[derive(Clone, Debug, Serialize)]
pub struct Event {
    /// Position, from 1.
    pub seq: u64,
    /// Milliseconds since the Unix epoch.
    pub at: i64,
    /// The instance, or empty where it concerns none.
    pub instance: String,
    /// What happened, such as `target-state`.
    pub kind: String,
    /// Its particulars.
    pub detail: Value,
}

/// Everything since the start.
#[derive(Debug, Default)]
pub struct Events {
    events: Vec<Event>,
}

impl Events {
    /// Appends an event.
    pub fn push(&mut self, instance: &str, kind: &str, detail: Value) {
        let seq = self.events.len() as u64 + 1;
        let at = jiff::Timestamp::now().as_millisecond();
        self.events.push(Event { seq, at, instance: instance.to_owned(), kind: kind.to_owned(), detail });
    }

    /// The events after position `after`.
    pub fn after(&self, after: u64) -> Value {
        let skip = usize::try_from(after).unwrap_or(usize::MAX).min(self.events.len());
        json!({"events": &self.events[skip..]})
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn reading_is_no_change() {
        assert!(mutates("SendCommand") && mutates("EnterStandby") && mutates("CreateOrUpdateTags"));
        assert!(
            !mutates("DescribeTargetHealth") && !mutates("ListCommands") && !mutates("GetCommandInvocation")
        );
    }

    #[test]
    fn events_are_read_from_a_position() {
        let mut events = Events::default();
        events.push("i-1", "a", json!({}));
        events.push("i-1", "b", json!({}));
        assert_eq!(events.after(1)["events"][0]["seq"], 2);
        assert_eq!(events.after(9)["events"].as_array().unwrap().len(), 0);
    }
}
