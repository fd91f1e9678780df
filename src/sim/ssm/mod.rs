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
mod tests;
