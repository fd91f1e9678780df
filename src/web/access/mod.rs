//! Who may come in: the gate before every request, the page's sessions, tokens, and the slowing of wrong ones.
//!
//! May import what the routes work with and refusals, but no handler.

mod gate;
mod pace;
mod sessions;
mod tokens;

pub use gate::{Caller, Stop};
pub use pace::Failures;
pub use sessions::{same_origin, visit};
pub use tokens::first_token;
