//! The integration tests, one crate: linking a binary of this size takes seconds.

mod client;
mod crashes;
mod deploys;
mod ground;
mod host;
mod house;
mod push;
mod refusals;
mod sim;
