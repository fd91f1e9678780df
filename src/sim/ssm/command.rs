//! Commands: what was sent, to which instances, and the status on each.

use std::collections::BTreeMap;
use std::time::Instant;

use serde_json::Value;

/// The only document that is simulated.
pub const DOCUMENT: &str = "AWS-RunShellScript";

/// How much of standard output GetCommandInvocation shows, characters.
pub(super) const SHOWN_STDOUT: usize = 24_000;
/// How much of standard error GetCommandInvocation shows, characters.
pub(super) const SHOWN_STDERR: usize = 8_000;
/// The status of a command on one instance: AWS's StatusDetails.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Details {
    /// The agent has not acknowledged the command yet.
    Pending,
    /// The agent has acknowledged the command, which need not run yet.
    InProgress,
    /// The command was cancelled, and the agent has not replied yet.
    Cancelling,
    /// The command ended with exit code 0.
    Success,
    /// The command ended with any other exit code.
    Failed,
    /// The command was cancelled.
    Cancelled,
    /// The command took longer than executionTimeout.
    ExecutionTimedOut,
    /// The agent did not acknowledge, or not answer, in time.
    DeliveryTimedOut,
    /// The command could not be delivered.
    Undeliverable,
    /// The command was not sent, because it had failed on other instances.
    Terminated,
}

impl Details {
    /// Returns the name in `StatusDetails`.
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

    /// Returns the name in `Status`.
    pub fn status(self) -> &'static str {
        match self {
            Self::ExecutionTimedOut | Self::DeliveryTimedOut => "TimedOut",
            Self::Undeliverable => "Failed",
            Self::Terminated => "Cancelled",
            other => other.name(),
        }
    }

    /// Whether the status is final.
    pub fn is_over(self) -> bool {
        !matches!(self, Self::Pending | Self::InProgress | Self::Cancelling)
    }

    /// Whether the status counts against MaxErrors.
    pub(super) fn is_error(self) -> bool {
        matches!(self, Self::Failed | Self::ExecutionTimedOut | Self::DeliveryTimedOut | Self::Undeliverable)
    }
}

/// A command on one instance.
#[derive(Clone, Debug)]
pub struct Invocation {
    /// Its status.
    pub details: Details,
    /// The exit code; -1 as long as there is none.
    pub(super) code: i64,
    /// The start of standard output.
    pub(super) stdout: String,
    /// The start of standard error.
    pub(super) stderr: String,
    /// When it started, milliseconds since the Unix epoch.
    pub(super) started: Option<i64>,
    /// When it ended, milliseconds since the Unix epoch.
    pub(super) ended: Option<i64>,
    /// When the message reaches the agent at the earliest.
    pub(super) deliver_at: Instant,
    /// Whether the message was put into the agent's queue.
    pub(super) sent: bool,
    /// Whether the agent has acknowledged the message.
    pub(super) delivered: bool,
}

/// A command.
#[derive(Clone, Debug)]
pub struct Command {
    pub(super) id: String,
    pub(super) comment: String,
    pub(super) parameters: Value,
    /// The lines of the script.
    pub(super) commands: Vec<String>,
    /// TimeoutSeconds.
    pub(super) timeout: i64,
    /// The document's executionTimeout, seconds.
    pub(super) execution_timeout: i64,
    pub(super) max_concurrency: String,
    pub(super) max_errors: String,
    /// CloudWatchOutputConfig.
    pub(super) output: Value,
    pub(super) targets: Value,
    /// When it was sent.
    pub(super) requested: Instant,
    /// When it was sent, milliseconds since the Unix epoch.
    pub(super) requested_ms: i64,
    /// From when ListCommands shows it.
    pub(super) listed_at: Instant,
    /// From when the other calls show it.
    pub(super) visible_at: Instant,
    /// The command on each instance.
    pub(super) invocations: BTreeMap<String, Invocation>,
}

impl Command {
    /// Returns the log group that the output goes to while the command runs, if it is uploaded.
    pub(super) fn output_group(&self) -> Option<String> {
        let enabled = self.output["CloudWatchOutputEnabled"] == true;
        let named = self.output["CloudWatchLogGroupName"].as_str().filter(|name| !name.is_empty());
        enabled.then(|| named.unwrap_or("/aws/ssm/AWS-RunShellScript").to_owned())
    }

    /// Whether the command has ended on all instances.
    pub(super) fn is_over(&self) -> bool {
        self.invocations.values().all(|i| i.details.is_over())
    }

    /// Returns the whole command's StatusDetails.
    pub(super) fn details(&self) -> &'static str {
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
    pub(super) list: Vec<Command>,
}

impl Commands {
    /// Returns the command with this id.
    pub(super) fn get(&mut self, id: &str) -> Option<&mut Command> {
        self.list.iter_mut().rev().find(|c| c.id == id)
    }

    /// Returns a command as agents get it: its script, executionTimeout in seconds, and whether its output is uploaded.
    pub(in crate::sim) fn for_agents(&self, id: &str) -> Option<(&[String], i64, bool)> {
        let command = self.list.iter().rev().find(|c| c.id == id)?;
        Some((&command.commands, command.execution_timeout, command.output_group().is_some()))
    }

    /// Returns the log group that a command's output goes to, if it is uploaded.
    pub(in crate::sim) fn output_group(&self, id: &str) -> Option<String> {
        self.list.iter().rev().find(|c| c.id == id)?.output_group()
    }
}
