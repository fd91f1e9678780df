//! A simulated fleet without any I/O: it does what the planner orders, after as long as each step takes. Rehearsals run
//! on it, and so do the planner's tests.

mod behaviour;
mod effects;
mod fleet;

pub use behaviour::{AllSucceed, Behaviour, Pace};
pub use fleet::PaperFleet;
