//! Where a deployment and each of its instances stand, and the one function by which an instance moves on.

mod fault;
mod instance;
mod names;
mod phase;
mod recorded;
pub mod transition;

pub use fault::{Cause, Failure, Fault};
pub use instance::{Instance, Membership};
pub use names::{DeploymentState, Goal, InstanceState};
pub use phase::{Back, Phase, Running, Stop, Wait};
