//! Systems Manager: Run Command, the agents' side of it, and Parameter Store.

mod agents;
mod delivery;
mod describe;
mod send;

use std::collections::{BTreeMap, VecDeque};
use std::time::Instant;

use serde_json::{Value, json};

pub use agents::{AgentRequest, Refused};

use super::state::{Instance, State};
use super::wire::{Answer, ApiError, Params};

/// The only document that is simulated.
pub const DOCUMENT: &str = "AWS-RunShellScript";

/// A message that waits for an agent.
#[derive(Clone, Debug)]
pub struct Message {
    id: String,
    command: String,
    cancel: bool,
    visible_at: Instant,
    leased_until: Option<Instant>,
}

impl Message {
    fn is_due(&self, now: Instant) -> bool {
        self.visible_at <= now && self.leased_until.is_none_or(|until| until <= now)
    }
}

/// What the service knows of an instance's agent.
#[derive(Debug, Default)]
pub struct AgentLink {
    /// When it was last heard, if ever.
    pub last_ping: Option<(Instant, i64)>,
    /// It can't reach the service until then.
    pub offline_until: Option<Instant>,
    version: String,
    platform: String,
    queue: VecDeque<Message>,
}

impl AgentLink {
    /// Whether a message waits for the agent.
    pub fn has_message(&self, now: Instant) -> bool {
        self.queue.iter().any(|message| message.is_due(now))
    }
}

/// Where a command stands on one instance: AWS's StatusDetails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// Not yet acknowledged by the agent.
    Pending,
    /// Acknowledged; not necessarily running.
    InProgress,
    /// Cancelled, the agent hasn't said so yet.
    Cancelling,
    /// Exit code 0.
    Success,
    /// Any other exit code.
    Failed,
    /// Cancelled.
    Cancelled,
    /// Longer than executionTimeout.
    ExecutionTimedOut,
    /// Not acknowledged, or not answered, in time.
    DeliveryTimedOut,
    /// Could not be delivered.
    Undeliverable,
    /// Not sent, because others failed before.
    Terminated,
}

impl Details {
    /// The name in `StatusDetails`.
    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "Pending",
            Self::InProgress => "InProgress",
            Self::Cancelling => "Cancelling",
            Self::Success => "Success",
            Self::Failed => "Failed",
            Self::Cancelled => "Cancelled",
            Self::ExecutionTimedOut => "ExecutionTimedOut",
            Self::DeliveryTimedOut => "DeliveryTimedOut",
            Self::Undeliverable => "Undeliverable",
            Self::Terminated => "Terminated",
        }
    }

    /// The name in `Status`.
    pub fn status(self) -> &'static str {
        match self {
            Self::ExecutionTimedOut | Self::DeliveryTimedOut => "TimedOut",
            Self::Undeliverable => "Failed",
            Self::Terminated => "Cancelled",
            other => other.name(),
        }
    }

    /// Whether nothing follows.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress | Self::Cancelling)
    }

    /// Whether it counts against MaxErrors.
    fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut | Self::DeliveryTimedOut | Self::Undeliverable)
    }
}

/// A command on one instance.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Where it stands.
    pub details: Details,
    code: i64,
    stdout: String,
    stderr: String,
    started: Option<i64>,
    ended: Option<i64>,
    deliver_at: Instant,
    sent: bool,
    delivered: bool,
}

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    id: String,
    comment: String,
    parameters: Value,
    commands: Vec<String>,
    timeout: i64,
    execution_timeout: i64,
    max_concurrency: String,
    max_errors: String,
    output: Value,
    targets: Value,
    requested: Instant,
    requested_ms: i64,
    listed_at: Instant,
    visible_at: Instant,
    invocations: BTreeMap<String, Invocation>,
}

impl Command {
    /// The log group that its output goes to while it runs.
    fn uploads(&self) -> Option<String> {
        let enabled = self.output["CloudWatchOutputEnabled"] == true;
        let named = self.output["CloudWatchLogGroupName"].as_str().filter(|name| !name.is_empty());
        enabled.then(|| named.unwrap_or("/aws/ssm/AWS-RunShellScript").to_owned())
    }

    fn is_over(&self) -> bool {
        self.invocations.values().all(|i| i.details.is_over())
    }

    /// The whole command's StatusDetails.
    fn details(&self) -> &'static str {
        let any = |wanted: Details| self.invocations.values().any(|i| i.details == wanted);
        if !self.is_over() {
            return match () {
                () if any(Details::Cancelling) => "Cancelling",
                () if self.invocations.values().all(|i| i.details == Details::Pending) => "Pending",
                () => "InProgress",
            };
        }
        match () {
            () if any(Details::Failed) || any(Details::Terminated) => "Failed",
            () if any(Details::Undeliverable) => "Undeliverable",
            () if any(Details::ExecutionTimedOut) => "ExecutionTimedOut",
            () if any(Details::DeliveryTimedOut) => "DeliveryTimedOut",
            () if any(Details::Cancelled) => "Cancelled",
            () => "Success",
        }
    }
}

/// All commands, oldest first.
#[derive(Debug, Default)]
pub struct Commands {
    list: Vec<Command>,
}

impl Commands {
    fn get(&mut self, id: &str) -> Option<&mut Command> {
        self.list.iter_mut().rev().find(|c| c.id == id)
    }

    /// A command as agents get it: its script, executionTimeout, and whether its output is uploaded.
    pub(super) fn for_agents(&self, id: &str) -> Option<(&[String], i64, bool)> {
        let command = self.list.iter().rev().find(|c| c.id == id)?;
        Some((&command.commands, command.execution_timeout, command.uploads().is_some()))
    }
}

impl State {
    /// Answers a call of the Systems Manager API.
    pub fn ssm(&mut self, action: &str, params: &Value) -> Answer {
        let p = Params::new(params, "ValidationException");
        match action {
            "DescribeInstanceInformation" => self.describe_instance_information(p),
            "SendCommand" => self.send_command(p),
            "CancelCommand" => self.cancel_command(p),
            "ListCommands" => self.list_commands(p),
            "ListCommandInvocations" => self.list_command_invocations(p),
            "GetCommandInvocation" => self.get_command_invocation(p),
            "GetParameter" => self.get_parameter(p),
            "GetParameters" => self.get_parameters(p),
            "PutParameter" => {
                let (name, value) = (p.need("Name")?.to_owned(), p.need("Value")?.to_owned());
                let kind = p.str("Type").unwrap_or("String").to_owned();
                if self.parameters.contains_key(&name) && p.bool("Overwrite") != Some(true) {
                    return Err(ApiError::refused("ParameterAlreadyExists", "The parameter already exists."));
                }
                self.parameters.insert(name, (kind, value));
                Ok(json!({"Version": 1, "Tier": "Standard"}))
            }
            _ => Err(ApiError::refused("UnknownOperationException", "")),
        }
    }

    /// The log group that a command's output goes to.
    pub(super) fn output_group(&mut self, command: &str) -> Option<String> {
        self.commands.get(command)?.uploads()
    }

    fn parameter_json(&self, name: &str, decrypt: bool) -> Option<Value> {
        let (kind, value) = self.parameters.get(name)?;
        let shown = if kind == "SecureString" && !decrypt { "AQICAHencrypted" } else { value };
        Some(json!({"Name": name, "Type": kind, "Value": shown, "Version": 1, "DataType": "text"}))
    }

    /// A parameter's value as an instance gets it, which AmazonSSMManagedInstanceCore allows for all of them; or what the AWS
    /// CLI would say.
    pub fn parameter_of_instance(&mut self, name: &str) -> Result<String, String> {
        let said = |code: &str, words: &str| {
            format!("An error occurred ({code}) when calling the GetParameter operation: {words}")
        };
        let faults = [crate::sim::faults::Kind::Throttle];
        if self.faults.strike(&faults, "GetParameter", &[], &mut self.chance).is_some() {
            return Err(said("ThrottlingException", "Rate exceeded"));
        }
        let arn = format!(
            "arn:aws:ssm:{0}:{1}:parameter/{2}",
            crate::sim::state::REGION,
            crate::sim::state::ACCOUNT,
            name.trim_start_matches('/')
        );
        if self.instance_policy.denies("ssm:GetParameter", &arn) {
            let words = format!("User is not authorized to perform: ssm:GetParameter on resource: {arn}");
            return Err(said("AccessDeniedException", &words));
        }
        let found = self.parameters.get(name).map(|(_, value)| value.clone());
        found.ok_or_else(|| said("ParameterNotFound", ""))
    }

    fn get_parameter(&mut self, p: Params<'_>) -> Answer {
        let name = p.need("Name")?;
        let parameter = self.parameter_json(name, p.bool("WithDecryption").unwrap_or_default());
        parameter.map(|v| json!({"Parameter": v})).ok_or_else(|| ApiError::refused("ParameterNotFound", ""))
    }

    fn get_parameters(&mut self, p: Params<'_>) -> Answer {
        let names = p.strings("Names");
        if names.is_empty() || names.len() > 10 {
            return Err(p.error("Member must have length between 1 and 10"));
        }
        let decrypt = p.bool("WithDecryption").unwrap_or_default();
        let found: Vec<Value> = names.iter().filter_map(|n| self.parameter_json(n, decrypt)).collect();
        let missing: Vec<&String> = names.iter().filter(|n| !self.parameters.contains_key(*n)).collect();
        Ok(json!({"Parameters": found, "InvalidParameters": missing}))
    }

    /// Whether an agent was heard lately.
    pub(super) fn is_online(&self, instance: &Instance) -> bool {
        let now = self.clock.now();
        let patience = self.clock.wait_at_least(15.0, std::time::Duration::from_secs(3));
        instance.agent.last_ping.is_some_and(|(at, _)| now < at + patience)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::sim::world::World;
    use std::time::Duration;

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
        state.agent_call(verb, &serde_json::from_value(request).unwrap()).unwrap();
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
            let messages = state.agent_poll(id).unwrap();
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
        assert!(state.agent_poll(&ids[1]).unwrap().is_empty());
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
        assert!(state.agent_poll(&ids[0]).unwrap().is_empty());
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
}
