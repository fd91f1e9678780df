//! The engine: load → observe → plan → record → perform → record, one task and one value a deployment (`deployment/`).
//!
//! It decides nothing: [`crate::rollout`] does. It is level-triggered: whatever woke it, it has a plan made afresh from the
//! whole state, so that a start is an ordinary tick. Every effect on a group passes through `effects`, and every command
//! through `deployment::dispatch`; both write it down first.
//!
//! What comes in goes to `intake/`; what belongs to an Auto Scaling group rather than to a deployment is in `groups/`.
//! `core` is the one struct that all of them extend, `run` its loops, `schedule` decides whose turn it is.

mod core;
mod crash;
mod deployment;
mod effects;
mod error;
mod estimate;
mod groups;
mod intake;
mod marks;
mod memory;
mod outcome;
mod plan;
mod planned;
mod record;
mod retention;
mod revisions;
mod run;
mod schedule;
mod secrets;
mod uploads;
mod verbs;

pub use self::core::{Engine, Parts};
pub use error::{GroupError, SubmitError};
pub use groups::preconditions::{Findings, examine};
pub use intake::{Push, Received};
pub use outcome::{End as LogEnd, RunnerResult};
pub use record::{policy, readable_instances, standing};
pub use secrets::{Secrets, same};
