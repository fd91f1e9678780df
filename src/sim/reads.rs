//! Reads as AWS's are at times: a moment old, or with something missing. Auto Scaling and the load balancer promise no more
//! than eventual consistency.

use super::clock::Clock;
use super::faults::Kind;
use super::state::State;
use serde_json::Value;
use std::{
    collections::{HashMap, VecDeque},
    time::{Duration, Instant},
};

/// What these faults are about.
const READS: [&str; 2] = ["DescribeAutoScalingGroups", "DescribeTargetHealth"];
/// Answers are kept for so long of the cloud's time: the oldest that a stale read may give.
const KEPT_SECONDS: f64 = 120.0;

/// Former answers, by action and parameters; kept from the first `stale-read` on.
#[derive(Default)]
pub struct Reads {
    wanted: bool,
    former: HashMap<(String, String), VecDeque<(Instant, Value)>>,
}

impl Reads {
    /// Answers are kept from now on.
    pub fn keep(&mut self) {
        self.wanted = true;
    }

    fn note(&mut self, key: (String, String), answer: &Value, clock: Clock) {
        if !self.wanted {
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

    /// What was answered so long ago, or the first that is known.
    fn of(&self, key: &(String, String), age: Duration, now: Instant) -> Option<Value> {
        let former = self.former.get(key)?;
        let then = former.iter().rev().find(|(at, _)| *at + age <= now).or_else(|| former.front())?;
        Some(then.1.clone())
    }
}

/// The answer as it is given: as it is, of a while ago, or without what the fault names. The second is the fault's name.
pub fn distort(state: &mut State, action: &str, params: &Value, answer: Value) -> (Value, Option<String>) {
    if !READS.contains(&action) {
        return (answer, None);
    }
    let key = (action.to_owned(), params.to_string());
    let clock = state.clock;
    state.reads.note(key.clone(), &answer, clock);
    let kinds = [Kind::StaleRead, Kind::PartialRead];
    let named = names(&answer);
    let Some(fault) = state.faults.strike(&kinds, action, &named, &mut state.chance) else {
        return (answer, None);
    };
    let name = Some(fault.kind.name());
    if fault.kind == Kind::StaleRead {
        let age = clock.wait(fault.seconds.unwrap_or(5.0));
        return (state.reads.of(&key, age, clock.now()).unwrap_or(answer), name);
    }
    (without(answer, fault.matches.instance.as_deref()), name)
}

/// The instances in an answer.
fn names(answer: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let in_groups =
        list(&answer["AutoScalingGroups"]).into_iter().flat_map(|group| list(&group["Instances"]));
    let ids = in_groups.filter_map(|instance| instance["InstanceId"].as_str().map(str::to_owned));
    let targets = list(&answer["TargetHealthDescriptions"]).into_iter();
    ids.chain(targets.filter_map(|target| target["Target"]["Id"].as_str().map(str::to_owned))).collect()
}

/// The answer without an instance, or with nothing in it.
fn without(mut answer: Value, instance: Option<&str>) -> Value {
    let Some(id) = instance else {
        for list in ["AutoScalingGroups", "TargetHealthDescriptions"] {
            if let Some(list) = answer[list].as_array_mut() {
                list.clear();
            }
        }
        return answer;
    };
    if let Some(groups) = answer["AutoScalingGroups"].as_array_mut() {
        for group in groups {
            if let Some(instances) = group["Instances"].as_array_mut() {
                instances.retain(|instance| instance["InstanceId"] != id);
            }
        }
    }
    if let Some(targets) = answer["TargetHealthDescriptions"].as_array_mut() {
        targets.retain(|target| target["Target"]["Id"] != id);
    }
    answer
}
