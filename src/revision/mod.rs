//! What a revision is and what goes to a host: `appspec.yml`, the bundle, the script of a dispatch.
//!
//! Knows [`crate::rollout`]'s lifecycle events and nothing above it; no AWS, no store, no HTTP.

pub mod appspec;
pub mod bundle;
pub mod script;
