//! The JSON 1.1 protocol: the action in `X-Amz-Target`, JSON in and out.

use serde_json::{Value, json};

use super::ApiError;

/// The action's name out of `AmazonSSM.SendCommand`.
pub fn action(target: &str) -> String {
    target.rsplit('.').next().unwrap_or_default().to_owned()
}

/// The error document.
pub fn failure(error: &ApiError) -> Value {
    if error.message.is_empty() {
        json!({"__type": error.code})
    } else {
        json!({"__type": error.code, "message": error.message, "Message": error.message})
    }
}

/// An answer's body: what isn't there is left out, as the services do it.
pub fn success(value: &Value) -> Value {
    match value {
        Value::Object(members) => members
            .iter()
            .filter(|(_, member)| !member.is_null())
            .map(|(name, member)| (name.clone(), success(member)))
            .collect(),
        Value::Array(items) => items.iter().map(success).collect(),
        other => other.clone(),
    }
}
