use super::attempt::Verdict;
use super::decide::Decision;
use super::*;
use crate::revision::script::{Kind, Rendered, Row};
use crate::sim::state::{Effect, Lifecycle, State};
use serde_json::{Value, json};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// Three paper instances, launched; nothing runs.
fn cloud() -> (State, Vec<String>) {
    let mut state = State::new(1000.0, 7);
    state.create_world(world(3, Pattern::default())).unwrap();
    let effects = std::mem::take(&mut state.effects);
    let launched =
        effects.iter().filter(|e| matches!(e, Effect::Launch(id) if state.launch_paper(id))).count();
    assert_eq!(launched, 3);
    let ids = state.members(GROUP);
    (state, ids)
}

fn until(state: &mut State, what: &str, holds: impl Fn(&mut State) -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds(state) {
        assert!(Instant::now() < deadline, "{what}");
        state.tick();
    }
}

fn send(state: &mut State, ids: &[String]) -> String {
    let params = json!({
        "DocumentName": "AWS-RunShellScript", "InstanceIds": ids, "Parameters": {"commands": ["true"]},
    });
    let answer = state.ssm("SendCommand", &params).unwrap();
    answer["Command"]["CommandId"].as_str().unwrap().to_owned()
}

/// The commands that have got a worker since the last time.
fn at_work(state: &mut State) -> Vec<String> {
    let effects = std::mem::take(&mut state.effects);
    let commands = effects.into_iter().filter_map(|effect| match effect {
        Effect::RunOnPaper { command, .. } => Some(command),
        _ => None,
    });
    commands.collect()
}

#[test]
fn they_go_into_service_become_healthy_and_speak_without_a_process() {
    let (mut state, ids) = cloud();
    until(&mut state, "healthy", |state| {
        let healthy = |t: &Value| t["state"] == "healthy";
        let world = state.describe_world();
        let targets = world["target_groups"][0]["targets"].as_array().unwrap().clone();
        targets.len() == 3 && targets.iter().all(healthy)
    });
    until(&mut state, "online", |state| {
        let asked = json!({"Filters": [{"Key": "PingStatus", "Values": ["Online"]}]});
        let answer = state.ssm("DescribeInstanceInformation", &asked).unwrap();
        answer["InstanceInformationList"].as_array().unwrap().len() == 3
    });
    assert!(!state.effects.iter().any(|e| matches!(e, Effect::HealthCheck(_) | Effect::Launch(_))));
    state.cut_network(&ids[0], None);
    until(&mut state, "unhealthy", |state| {
        state.describe_world()["target_groups"][0]["targets"][0]["reason"] == "Target.Timeout"
    });
}

#[test]
fn five_commands_get_a_worker_and_five_more_are_taken() {
    let (mut state, ids) = cloud();
    until(&mut state, "heard", |state| state.instances[&ids[0]].agent.last_ping.is_some());
    let sent: Vec<String> = (0..12).map(|_| send(&mut state, &ids[..1])).collect();
    let of = |state: &mut State, status: &str| {
        let list: Vec<Value> = sent
            .iter()
            .map(|id| state.ssm("GetCommandInvocation", &json!({"CommandId": id, "InstanceId": ids[0]})))
            .filter_map(Result::ok)
            .collect();
        list.iter().filter(|invocation| invocation["Status"] == status).count()
    };
    until(&mut state, "ten are taken", |state| of(state, "InProgress") == 10);
    assert_eq!(of(&mut state, "Pending"), 2);
    let begun = at_work(&mut state);
    assert_eq!(begun.len(), 5);
    state.finish_paper_command(&ids[0], &begun[0]);
    assert_eq!(at_work(&mut state).len(), 1);
    // One that waits is cancelled: it needs no worker to be replied to.
    let last = sent[9].clone();
    state.ssm("CancelCommand", &json!({"CommandId": last})).unwrap();
    until(&mut state, "it is replied to", |state| at_work(state).contains(&last));
}

#[test]
fn one_that_is_terminated_is_replaced() {
    let (mut state, ids) = cloud();
    until(&mut state, "in service", |state| {
        state.instances.values().all(|i| i.lifecycle == Lifecycle::InService)
    });
    assert!(state.kill_instance(&ids[0]));
    until(&mut state, "gone", |state| {
        for effect in std::mem::take(&mut state.effects) {
            match effect {
                Effect::Terminate(_) => state.carry_out_on_paper(&effect),
                Effect::Launch(id) => assert!(state.launch_paper(&id)),
                _ => {}
            }
        }
        let in_service = state.instances.values().filter(|i| i.lifecycle == Lifecycle::InService).count();
        state.instances[&ids[0]].lifecycle == Lifecycle::Terminated && in_service == 3
    });
}

#[test]
fn a_pattern_that_makes_no_sense_is_refused() {
    let (mut state, _) = cloud();
    for bad in [json!({"hook_seconds": -1.0}), json!({"failing_instances": 1.5}), json!({"lines": 1_000_000})]
    {
        let pattern: Pattern = serde_json::from_value(bad.clone()).unwrap();
        assert!(state.change_pattern(GROUP, pattern).is_err(), "{bad}");
    }
    assert!(state.change_pattern("other", Pattern::default()).is_err());
    let world = json!({"groups": [{"name": "g", "paper_pattern": {}}]});
    assert!(state.create_world(serde_json::from_value(world).unwrap()).is_err());
}

fn script(kind: Kind, number: i64) -> (Arc<Rendered>, Row) {
    let row = Row {
        instance: "i-1".into(),
        attempt: number,
        first: "AfterInstall".parse().unwrap(),
        nonce: "n".into(),
        token: "t".into(),
        good: None,
        zone: String::new(),
    };
    let script = Rendered {
        kind,
        sha: "b".repeat(40),
        build: String::new(),
        log_url: "http://127.0.0.1:1".into(),
        frames: false,
        keep: 2,
        log_max: 1 << 20,
        not_after: i64::MAX,
        events: vec!["AfterInstall".parse().unwrap()],
        hooks: Vec::new(),
        stop_from: "current".into(),
        stop_failure: "fall-back".into(),
        rows: vec![row.clone()],
    };
    (Arc::new(script), row)
}

fn decide(machine: &mut Machine, kind: Kind, number: i64) -> (Decision, String) {
    let (script, row) = script(kind, number);
    let mut says = String::new();
    (machine.decide(&script, &row, &mut says), says)
}

#[test]
fn an_attempt_runs_once_none_after_a_later_one_and_one_at_a_time() {
    let mut machine = Machine::new(Instant::now(), None);
    let Decision::Run(third) = decide(&mut machine, Kind::Run, 3).0 else { panic!("not run") };
    assert!(matches!(decide(&mut machine, Kind::Run, 3).0, Decision::Follow(_)));
    assert!(matches!(decide(&mut machine, Kind::StopNow, 3).0, Decision::Follow(_)));
    assert!(matches!(decide(&mut machine, Kind::Run, 2).0, Decision::Refused { highest: 3 }));
    assert!(matches!(decide(&mut machine, Kind::Run, 4).0, Decision::Busy(3)));
    third.finish(&Verdict { status: "succeeded", event: "AfterInstall", hook: "-", exit: 0, code: 0 }, "-");
    assert!(matches!(decide(&mut machine, Kind::Run, 3).0, Decision::Repeat(_)));
    // One that is stopped before it began never runs.
    let Decision::Repeat(fourth) = decide(&mut machine, Kind::StopNow, 4).0 else { panic!("not stopped") };
    assert!(fourth.ended.borrow().as_ref().unwrap().line.contains("status=stopped event=- hook=- exit=0"));
    assert!(matches!(decide(&mut machine, Kind::Run, 4).0, Decision::Repeat(_)));
    assert!(matches!(decide(&mut machine, Kind::Run, 3).0, Decision::Refused { highest: 4 }));
}

#[test]
fn an_attempt_whose_command_was_killed_is_interrupted() {
    let mut machine = Machine::new(Instant::now(), None);
    let Decision::Run(first) = decide(&mut machine, Kind::Run, 1).0 else { panic!("not run") };
    first.begin("AfterInstall", "hooks/after install");
    first.lose();
    let (Decision::Run(second), says) = decide(&mut machine, Kind::Run, 2) else { panic!("not run") };
    assert_eq!(says, "drover: attempt 1 had died and is recorded as interrupted\n");
    let line = first.ended.borrow().as_ref().unwrap().line.clone();
    assert!(
        line.contains("status=interrupted event=AfterInstall hook=hooks/after%20install exit=71"),
        "{line}"
    );
    second.lose();
    let Decision::Repeat(again) = decide(&mut machine, Kind::Run, 2).0 else { panic!("not repeated") };
    assert_eq!(again.ended.borrow().as_ref().unwrap().code, 71);
}

#[test]
fn a_failure_repeats_the_last_lines_of_its_hook() {
    let (script, row) = script(Kind::Run, 1);
    let attempt = attempt::Attempt::new(row, script);
    attempt.begin("AfterInstall", "hooks/x");
    let lines: String = (0..30).map(|n| format!("line {n}\n")).collect();
    assert_eq!(attempt.print(&lines), 0);
    attempt.end("AfterInstall", "hooks/x", 3);
    let verdict = Verdict { status: "failed", event: "AfterInstall", hook: "hooks/x", exit: 3, code: 1 };
    attempt.finish(&verdict, "-");
    let ended = attempt.ended.borrow().clone().unwrap();
    assert_eq!(ended.tail.lines().count(), 20);
    assert!(
        ended.tail.starts_with("drover: tail line 10\n") && ended.tail.ends_with("drover: tail line 29\n")
    );
    let log = attempt.bytes_from(0);
    assert_eq!(log.len(), ended.size);
    assert!(
        String::from_utf8_lossy(&log).starts_with("\u{1e}drover n begin event=AfterInstall hook=hooks/x at=")
    );
}
