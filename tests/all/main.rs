//! The integration tests, one crate: linking a binary of this size takes seconds.

mod client;
mod crashes;
mod database;
mod denied;
mod deploys;
mod door;
mod ground;
mod host;
mod house;
mod matrix;
mod outbound;
mod page;
mod paper;
mod push;
mod races;
mod refusals;
mod rehearsal;
mod revisions;
mod safety;
mod samples;
mod sim;
mod soak;
mod truth;
mod verbs;
