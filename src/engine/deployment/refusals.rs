//! The pace of effects that AWS refuses.

use crate::{
    fleet::FleetError,
    rollout::{class, plan::Effect, policy::Retry, snapshot::Refused},
};
use jiff::{SignedDuration, Timestamp};
use std::collections::{BTreeMap, HashMap};

/// Effects that were refused in a row, by key.
#[derive(Default)]
pub(super) struct Refusals(HashMap<String, Refused>);

impl Refusals {
    /// Those that count still.
    pub(super) fn current(&self) -> BTreeMap<String, Refused> {
        let now = Timestamp::now();
        let current = self.0.iter().filter(|(_, refused)| refused.is_current(now));
        current.map(|(key, refused)| (key.clone(), refused.clone())).collect()
    }

    /// Keeps count, for the pause before the next try; true if it was not refused.
    pub(super) fn note(&mut self, deployment: i64, effect: &Effect, done: Result<(), FleetError>) -> bool {
        let key = effect.key();
        let Err(error) = done else {
            self.0.remove(&key);
            return true;
        };
        let now = Timestamp::now();
        let before = self.0.get(&key).filter(|before| before.is_current(now));
        let times = before.map_or(0, |before| before.times) + 1;
        let since = before.map_or(now, |before| before.since);
        let pace = Retry {
            base: SignedDuration::from_millis(500),
            cap: SignedDuration::from_secs(20),
            ..Retry::default()
        };
        let until = now + class::backoff(&pace, times, deployment.unsigned_abs());
        let (message, of_the_account) = (error.to_string(), error.is_of_the_account());
        self.0.insert(key, Refused { times, until, since, of_the_account, message });
        false
    }
}
