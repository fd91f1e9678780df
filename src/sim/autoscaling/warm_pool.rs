//! A group's warm pool in name only: it holds no instance.

use serde_json::{Value, json};

/// The states that a pool's instances can be kept in.
pub(super) const POOL_STATES: [&str; 3] = ["Stopped", "Running", "Hibernated"];

/// A group's warm pool.
#[derive(Clone, Debug)]
pub struct WarmPool {
    pub(super) min: i64,
    pub(super) state: String,
    /// MaxGroupPreparedCapacity, where it is given.
    pub(super) prepared: Option<i64>,
    /// Whether scale-in returns instances to it, where it is given.
    pub(super) reuse: Option<bool>,
}

impl Default for WarmPool {
    fn default() -> Self {
        Self { min: 0, state: "Stopped".to_owned(), prepared: None, reuse: None }
    }
}

impl WarmPool {
    /// Describes the pool as AWS's WarmPoolConfiguration.
    pub(super) fn json(&self) -> Value {
        json!({
            "MinSize": self.min,
            "PoolState": self.state,
            "MaxGroupPreparedCapacity": self.prepared,
            "InstanceReusePolicy": self.reuse.map(|reuse| json!({"ReuseOnScaleIn": reuse})),
        })
    }
}
