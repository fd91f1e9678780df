//! Answers as AWS gives them at times: a moment old, or with something missing. Auto Scaling and the load balancer promise no
//! more than eventual consistency.

use serde_json::Value;

use crate::sim::faults::Kind;
use crate::sim::state::State;

/// The actions whose answers may be distorted.
const READS: [&str; 2] = ["DescribeAutoScalingGroups", "DescribeTargetHealth"];

/// Returns the answer as a caller gets it: as it is, as it was a while ago, or without what a fault names. The second part
/// is the fault's name, if one struck.
pub(super) fn distort(
    state: &mut State,
    action: &str,
    params: &Value,
    answer: Value,
) -> (Value, Option<String>) {
    if !READS.contains(&action) {
        return (answer, None);
    }
    let key = (action.to_owned(), params.to_string());
    let clock = state.clock;
    state.reads.keep(key.clone(), &answer, clock);
    let kinds = [Kind::StaleRead, Kind::PartialRead];
    let named = instances_in(&answer);
    let Some(fault) = state.faults.strike(&kinds, action, &named, &mut state.chance) else {
        return (answer, None);
    };
    let name = Some(fault.kind.name());
    if fault.kind == Kind::StaleRead {
        let age = clock.wait(fault.seconds.unwrap_or(5.0));
        return (state.reads.answer_of(&key, age, clock.now()).unwrap_or(answer), name);
    }
    (leave_out(answer, fault.matches.instance.as_deref()), name)
}

/// Returns the ids of the instances in an answer.
fn instances_in(answer: &Value) -> Vec<String> {
    let list = |value: &Value| value.as_array().cloned().unwrap_or_default();
    let in_groups =
        list(&answer["AutoScalingGroups"]).into_iter().flat_map(|group| list(&group["Instances"]));
    let ids = in_groups.filter_map(|instance| instance["InstanceId"].as_str().map(str::to_owned));
    let targets = list(&answer["TargetHealthDescriptions"]).into_iter();
    ids.chain(targets.filter_map(|target| target["Target"]["Id"].as_str().map(str::to_owned))).collect()
}

/// Returns the answer without an instance, or, where none is named, with nothing in it.
fn leave_out(mut answer: Value, instance: Option<&str>) -> Value {
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
