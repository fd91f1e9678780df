//! Systems Manager: Run Command, the agents' side of it, and Parameter Store.
//!
//! `command` and `agent_link` define what there is and don't import the state; the others implement calls and the passing
//! of time on it.

mod agent_link;
mod agents;
mod command;
mod delivery;
mod describe;
mod parameters;
mod send;

use serde_json::Value;

pub use agent_link::{AgentLink, Message};
pub use agents::{AgentRequest, Refused};
pub use command::{Command, Commands, DOCUMENT, Details, Invocation};

use super::state::State;
use super::wire::{Answer, ApiError, Params};

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
            "PutParameter" => self.put_parameter(p),
            _ => Err(ApiError::refused("UnknownOperationException", "")),
        }
    }
}

#[cfg(test)]
mod tests;
