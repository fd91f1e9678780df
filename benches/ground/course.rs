//! What happened to each instance of a rollout, from the simulated cloud's event log alone.

use serde_json::Value;
use std::collections::BTreeMap;

/// What happened to an instance, in milliseconds of the event log.
#[derive(Debug, Default)]
pub struct Course {
    pub draining: i64,
    pub unused: i64,
    pub started: i64,
    pub ended: i64,
    pub returned: i64,
    pub healthy: i64,
}

impl Course {
    /// Its drain, its hooks, and its time from the way out of standby to healthy.
    pub fn critical(&self) -> i64 {
        (self.unused - self.draining) + (self.ended - self.started) + (self.healthy - self.returned)
    }
}

/// Of each instance that was taken out, from the simulated cloud's events.
pub fn courses(events: &[Value]) -> BTreeMap<String, Course> {
    let mut courses: BTreeMap<String, Course> = BTreeMap::new();
    for event in events {
        let Some(instance) = event["instance"].as_str() else { continue };
        let at = event["at"].as_i64().unwrap_or_default();
        let course = courses.entry(instance.to_owned()).or_default();
        match (event["kind"].as_str(), event["detail"]["to"].as_str()) {
            (Some("target-state"), Some("draining")) => course.draining = at,
            (Some("target-state"), Some("unused")) => course.unused = at,
            (Some("target-state"), Some("healthy")) => course.healthy = at,
            (Some("instance-exiting-standby"), _) => course.returned = at,
            (Some("command-started"), _) => course.started = at,
            (Some("command-ended"), _) => course.ended = at,
            _ => {}
        }
    }
    courses.retain(|_, course| course.draining > 0);
    courses
}

/// Consecutive instances by the time they were taken out, `size` at a time.
pub fn batches(courses: &BTreeMap<String, Course>, size: usize) -> Vec<Vec<&Course>> {
    let mut in_turn: Vec<&Course> = courses.values().collect();
    in_turn.sort_by_key(|course| course.draining);
    in_turn.chunks(size).map(<[&Course]>::to_vec).collect()
}
