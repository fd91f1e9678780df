use super::*;
use crate::sim::world::World;
use serde_json::json;
use std::time::{Duration, Instant};

/// Three instances whose agents said hello; nothing runs.
fn cloud() -> (State, Vec<String>) {
    let mut state = State::new(1000.0, 7);
    let world: World = serde_json::from_value(json!({"groups": [{"name": "web", "min": 3}]})).unwrap();
    state.create_world(world).unwrap();
    let ids = state.members("web");
    for id in &ids {
        agent(&mut state, "hello", json!({"instance_id": id, "version": "3.3", "platform": "sim"}));
    }
    (state, ids)
}

fn agent(state: &mut State, verb: &str, request: Value) {
    state.answer_agent(verb, &serde_json::from_value(request).unwrap()).unwrap();
}

fn send(state: &mut State, ids: &[String], more: Value) -> Result<String, ApiError> {
    let mut params = json!({
        "DocumentName": DOCUMENT, "InstanceIds": ids,
        "Parameters": {"commands": ["true"], "executionTimeout": ["4"]},
    });
    params.as_object_mut().unwrap().extend(more.as_object().unwrap().clone());
    let answer = state.ssm("SendCommand", &params)?;
    Ok(answer["Command"]["CommandId"].as_str().unwrap().to_owned())
}

/// The agent's next message, acknowledged.
fn take(state: &mut State, id: &str) -> Value {
    let deadline = Instant::now() + Duration::from_secs(5);
    loop {
        let messages = state.poll_messages(id).unwrap();
        if let Some(message) = messages.first() {
            agent(state, "ack", json!({"instance_id": id, "message_id": message["id"]}));
            return message.clone();
        }
        assert!(Instant::now() < deadline, "no message for {id}");
    }
}

fn details(state: &mut State, command: &str, id: &str) -> Details {
    state.commands.get(command).unwrap().invocations[id].details
}

fn reply(state: &mut State, command: &str, id: &str, code: i64) {
    let status = if code == 0 { "Success" } else { "Failed" };
    let stdout = "x".repeat(30_000);
    agent(
        state,
        "reply",
        json!({"instance_id": id, "command_id": command, "status": status, "exit_code": code, "stdout": stdout}),
    );
}

#[test]
fn a_command_is_in_progress_once_acknowledged_and_shows_truncated_output_once_over() {
    let (mut state, ids) = cloud();
    let command = send(&mut state, &ids[..1], json!({})).unwrap();
    let ask = json!({"CommandId": command, "InstanceId": ids[0]});
    assert_eq!(state.ssm("GetCommandInvocation", &ask).unwrap_err().code, "InvocationDoesNotExist");
    assert_eq!(state.ssm("ListCommandInvocations", &ask).unwrap()["CommandInvocations"], json!([]));
    let message = take(&mut state, &ids[0]);
    assert_eq!((&message["kind"], &message["execution_timeout"]), (&json!("run"), &json!(3600)));
    assert_eq!(details(&mut state, &command, &ids[0]), Details::InProgress);
    reply(&mut state, &command, &ids[0], 0);
    reply(&mut state, &command, &ids[0], 1);
    state.commands.get(&command).unwrap().visible_at = state.clock.now();
    let got = state.ssm("GetCommandInvocation", &ask).unwrap();
    assert_eq!((&got["Status"], &got["ResponseCode"]), (&json!("Success"), &json!(0)));
    assert_eq!(got["StandardOutputContent"].as_str().unwrap().len(), 24_000);
}

#[test]
fn after_one_error_too_many_the_rest_is_terminated() {
    let (mut state, ids) = cloud();
    let command = send(&mut state, &ids, json!({"MaxConcurrency": "1"})).unwrap();
    take(&mut state, &ids[0]);
    assert!(state.poll_messages(&ids[1]).unwrap().is_empty());
    reply(&mut state, &command, &ids[0], 1);
    state.tick_commands();
    assert_eq!(details(&mut state, &command, &ids[1]), Details::Terminated);
    assert_eq!(details(&mut state, &command, &ids[2]), Details::Terminated);
}

#[test]
fn what_is_not_delivered_in_time_times_out_and_is_never_delivered() {
    let (mut state, ids) = cloud();
    let command = send(&mut state, &ids[..1], json!({"TimeoutSeconds": 30})).unwrap();
    let deadline = Instant::now() + Duration::from_secs(5);
    while details(&mut state, &command, &ids[0]) == Details::Pending && Instant::now() < deadline {
        state.tick_commands();
    }
    assert_eq!(details(&mut state, &command, &ids[0]), Details::DeliveryTimedOut);
    assert!(state.poll_messages(&ids[0]).unwrap().is_empty());
}

#[test]
fn cancelling_withdraws_what_waits_and_tells_the_agent_of_what_runs() {
    let (mut state, ids) = cloud();
    let command = send(&mut state, &ids[..2], json!({})).unwrap();
    take(&mut state, &ids[0]);
    state.ssm("CancelCommand", &json!({"CommandId": command})).unwrap();
    assert_eq!(details(&mut state, &command, &ids[1]), Details::Cancelled);
    assert_eq!(details(&mut state, &command, &ids[0]), Details::Cancelling);
    assert_eq!(take(&mut state, &ids[0])["kind"], "cancel");
}

#[test]
fn a_call_with_a_bad_value_is_refused_whole() {
    let (mut state, mut ids) = cloud();
    let long = "x".repeat(101);
    for (more, code) in [
        (json!({"Comment": long}), "ValidationException"),
        (json!({"TimeoutSeconds": 29}), "ValidationException"),
        (json!({"DocumentName": "Other"}), "InvalidDocument"),
        (json!({"Parameters": {}}), "InvalidParameters"),
        (json!({"MaxErrors": "x"}), "ValidationException"),
    ] {
        assert_eq!(send(&mut state, &ids, more).unwrap_err().code, code);
    }
    ids.push("i-00000000000000000".to_owned());
    assert_eq!(send(&mut state, &ids, json!({})).unwrap_err().code, "InvalidInstanceId");
    assert!(state.commands.list.is_empty());
}
