//! A fleet on paper: it does what the planner tells it, after as long as such things take. Rehearsals run on it, and so
//! do the planner's tests.

mod effects;
mod fate;
mod fleet;

pub use fate::{Fate, Fortune, Pace};
pub use fleet::PaperFleet;
