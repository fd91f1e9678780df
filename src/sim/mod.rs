//! The simulated cloud: a house of its own, which knows nothing of the engine or the store.

pub mod balancer;
pub mod instance;
pub mod load;
pub mod sample;
