//! Former answers to calls that read, kept so that a stale read can give one of them again.

use super::clock::Clock;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// How long answers are kept, in the cloud's seconds: a stale read gives no older one.
const KEPT_SECONDS: f64 = 120.0;

/// Former answers, by action and parameters; kept from the first `stale-read` on.
#[derive(Default)]
pub struct FormerReads {
    /// Whether answers are kept.
    is_wanted: bool,
    former: HashMap<(String, String), VecDeque<(Instant, Value)>>,
}

impl FormerReads {
    /// Keeps answers from now on.
    pub fn start_keeping(&mut self) {
        self.is_wanted = true;
    }

    /// Keeps an answer, if answers are kept, and forgets those that are too old.
    pub(super) fn keep(&mut self, key: (String, String), answer: &Value, clock: Clock) {
        if !self.is_wanted {
            return;
        }
        let now = clock.now();
        let kept: Duration = clock.wait(KEPT_SECONDS);
        let former = self.former.entry(key).or_default();
        former.push_back((now, answer.clone()));
        while former.front().is_some_and(|(at, _)| *at + kept < now) {
            former.pop_front();
        }
    }

    /// Returns the answer of so long ago, or the first one that is known.
    pub(super) fn answer_of(&self, key: &(String, String), age: Duration, now: Instant) -> Option<Value> {
        let former = self.former.get(key)?;
        let then = former.iter().rev().find(|(at, _)| *at + age <= now).or_else(|| former.front())?;
        Some(then.1.clone())
    }
}
