//! What GitHub's API answers: JSON, a redirection, bytes, or an error.

use serde_json::{Value, json};

/// An answer of the API.
#[derive(Debug)]
pub enum Reply {
    /// JSON with this status.
    Json(u16, Value),
    /// A redirection to this path on the same host.
    Redirect(String),
    /// A redirection to this path, because the repository has another name now.
    Moved(String),
    /// Bytes of this media type.
    Bytes(&'static str, Vec<u8>),
}

/// Makes an error as GitHub writes it.
pub fn error(status: u16, message: &str) -> Reply {
    Reply::Json(
        status,
        json!({"message": message, "documentation_url": "https://docs.github.com/rest", "status": status.to_string()}),
    )
}

/// Makes the error that something is not there, or not for this caller.
pub(super) fn not_found() -> Reply {
    error(404, "Not Found")
}
