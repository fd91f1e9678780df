//! The states of a deployment and of each of its instances, and the one function that changes an instance's state.

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
