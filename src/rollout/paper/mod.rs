//! A fleet on paper: it does what the planner tells it, after as long as such things take. Rehearsals run on it, and so
//! do the planner's tests.

mod behaviour;
mod effects;
mod fleet;

pub use behaviour::{AllSucceed, Behaviour, Pace};
pub use fleet::PaperFleet;
