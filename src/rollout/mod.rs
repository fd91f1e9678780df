//! The decisions of a deployment, and nothing else.
//!
//! [`plan`](plan::plan) takes a [`Snapshot`](snapshot::Snapshot) (what the store remembers and what the fleet shows)
//! and the time, and returns a [`Plan`](plan::Plan): what changes, which effects to perform, when to plan again, and in
//! words why things wait. The engine records and performs; it decides nothing.
//!
//! Pure: no tokio, sqlx, warp, AWS, octocrab, clock or randomness may be imported here. Time comes in as an
//! argument; the jitter of the backoff is seeded by the attempt's number.

pub mod adopt;
pub mod arrival;
pub mod class;
pub mod clusters;
pub mod event;
pub mod paper;
pub mod plan;
pub mod policy;
pub mod rehearse;
pub mod snapshot;
pub mod state;
pub mod verb;
