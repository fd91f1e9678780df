//! The agents' side of Systems Manager: their requests `hello`, `poll`, `ack`, `progress`, `upload`, `reply`, `reboot`.

use std::time::Duration;

use serde::Deserialize;
use serde_json::{Value, json};

use super::command::{DOCUMENT, Details, SHOWN_STDERR, SHOWN_STDOUT};
use crate::sim::account::REGION;
use crate::sim::state::{Effect, Instance, State};

/// How long an agent may keep a message without acknowledging it before it is delivered again, in the cloud's seconds.
const LEASE: f64 = 10.0;

/// A request of an agent; which fields it has depends on its verb.
#[derive(Debug, Deserialize)]
pub struct AgentRequest {
    /// The instance whose agent this is.
    pub instance_id: String,
    #[serde(default)]
    version: String,
    #[serde(default)]
    platform: String,
    #[serde(default)]
    message_id: String,
    #[serde(default)]
    command_id: String,
    #[serde(default)]
    status: String,
    #[serde(default)]
    exit_code: Option<i64>,
    #[serde(default)]
    stream: String,
    #[serde(default)]
    text: String,
    #[serde(default)]
    stdout: String,
    #[serde(default)]
    stderr: String,
    #[serde(default)]
    started_at: Value,
    #[serde(default)]
    ended_at: Value,
}

/// Why an agent gets no answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refused {
    /// A fault, or a cut network, keeps the agent offline.
    Offline,
    /// There is no such instance.
    Unknown,
}

/// A message on its way to an agent.
pub(in crate::sim) struct Leased {
    /// Its id, by which the agent acknowledges it.
    pub(in crate::sim) id: String,
    /// The command's id.
    pub(in crate::sim) command: String,
    /// Whether it cancels the command instead of running it.
    pub(in crate::sim) cancel: bool,
}

/// Reads a time, in milliseconds since the epoch, from a number or an RFC 3339 text.
fn read_time(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_f64().map(|f| if f < 1e11 { (f * 1000.0) as i64 } else { f as i64 }),
        Value::String(s) => s.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond()),
        _ => None,
    }
}

impl State {
    /// Refuses an agent that can't reach the service now.
    pub(in crate::sim) fn admit_agent(&mut self, id: &str) -> Result<(), Refused> {
        let now = self.clock.now();
        let instance = self.instances.get_mut(id).ok_or(Refused::Unknown)?;
        if instance.agent.offline_until.is_some_and(|until| until > now) || instance.cut.is_some() {
            return Err(Refused::Offline);
        }
        instance.agent.offline_until = None;
        Ok(())
    }

    /// Returns the messages that wait for an agent; those that it doesn't acknowledge come again.
    pub(in crate::sim) fn lease_messages(&mut self, id: &str) -> Vec<Leased> {
        let now = self.clock.now();
        let lease = now + self.clock.wait_at_least(LEASE, Duration::from_secs(2));
        let Some(instance) = self.instances.get_mut(id) else { return Vec::new() };
        let due = instance.agent.queue.iter_mut().filter(|message| message.is_due(now));
        due.map(|message| {
            message.leased_until = Some(lease);
            Leased { id: message.id.clone(), command: message.command.clone(), cancel: message.cancel }
        })
        .collect()
    }

    /// Answers an agent's `poll` with its messages, which it has to acknowledge.
    pub fn poll_messages(&mut self, id: &str) -> Result<Vec<Value>, Refused> {
        self.admit_agent(id)?;
        let mut messages = Vec::new();
        for message in self.lease_messages(id) {
            let Some(command) = self.commands.get(&message.command) else { continue };
            messages.push(json!({
                "id": message.id,
                "kind": if message.cancel { "cancel" } else { "run" },
                "command_id": command.id,
                "commands": if message.cancel { Vec::new() } else { command.commands.clone() },
                "execution_timeout": command.execution_timeout,
                "document_name": DOCUMENT,
                "region": REGION,
                "uploads": command.output_group().is_some(),
            }));
        }
        Ok(messages)
    }

    /// Answers any other request of an agent.
    pub fn answer_agent(&mut self, verb: &str, request: &AgentRequest) -> Result<Value, Refused> {
        let id = &request.instance_id;
        self.admit_agent(id)?;
        match verb {
            "hello" => self.agent_hello(request),
            "ack" => self.agent_ack(id, &request.message_id),
            "progress" => {
                let started = read_time(&request.started_at).unwrap_or_else(|| self.clock.unix_ms());
                let known = self.commands.get(&request.command_id).and_then(|c| c.invocations.get_mut(id));
                if let Some(invocation) = known
                    && invocation.started.is_none()
                {
                    invocation.started = Some(started);
                    let detail = json!({"command_id": request.command_id, "started_at": started});
                    self.events.push(id, "command-started", detail);
                }
            }
            "upload" => {
                let done = self.upload_output(id, &request.command_id, &request.stream, &request.text);
                return Ok(json!({ "uploaded": done }));
            }
            "reply" => self.agent_reply(request),
            "reboot" => {
                self.events.push(id, "instance-reboot", json!({"by": "agent"}));
                self.effects.push(Effect::Reboot(id.clone()));
            }
            _ => return Err(Refused::Unknown),
        }
        Ok(json!({}))
    }

    fn agent_hello(&mut self, request: &AgentRequest) {
        let heard = (self.clock.now(), self.clock.unix_ms());
        let Some(instance) = self.instances.get_mut(&request.instance_id) else { return };
        if instance.agent.last_ping.is_none() {
            self.events.push(&request.instance_id, "agent-online", json!({"version": request.version}));
        }
        instance.agent.last_ping = Some(heard);
        instance.agent.version.clone_from(&request.version);
        instance.agent.platform.clone_from(&request.platform);
    }

    fn agent_ack(&mut self, id: &str, message_id: &str) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        let Some(at) = instance.agent.queue.iter().position(|m| m.id == message_id) else { return };
        let Some(message) = instance.agent.queue.remove(at) else { return };
        let known = self.commands.get(&message.command).and_then(|c| c.invocations.get_mut(id));
        if message.cancel {
            return;
        }
        if let Some(invocation) = known {
            invocation.delivered = true;
            if invocation.details == Details::Pending {
                invocation.details = Details::InProgress;
            }
            self.events.push(id, "command-delivered", json!({"command_id": message.command}));
        }
    }

    /// Records an agent's reply. The first one counts; one after a time-out, or a repeated one, changes nothing.
    fn agent_reply(&mut self, request: &AgentRequest) {
        let id = &request.instance_id;
        let now = self.clock.unix_ms();
        let known = self.commands.get(&request.command_id).and_then(|c| c.invocations.get_mut(id));
        let Some(invocation) = known.filter(|i| !i.details.is_over()) else { return };
        invocation.details = match request.status.as_str() {
            "Success" => Details::Success,
            "TimedOut" => Details::ExecutionTimedOut,
            "Cancelled" => Details::Cancelled,
            _ => Details::Failed,
        };
        invocation.delivered = true;
        invocation.code = request.exit_code.unwrap_or(-1);
        // One character more than is ever shown, so that the cut is still seen.
        invocation.stdout = request.stdout.chars().take(SHOWN_STDOUT + 1).collect();
        invocation.stderr = request.stderr.chars().take(SHOWN_STDERR + 1).collect();
        invocation.started = read_time(&request.started_at).or(invocation.started);
        invocation.ended = Some(read_time(&request.ended_at).unwrap_or(now));
        let detail = json!({
            "command_id": request.command_id,
            "status": invocation.details.name(),
            "exit_code": invocation.code,
            "started_at": invocation.started,
            "ended_at": invocation.ended,
        });
        self.withdraw_command(id, &request.command_id);
        self.events.push(id, "command-ended", detail);
    }

    /// Whether an instance's agent was heard lately.
    pub(in crate::sim) fn is_agent_online(&self, instance: &Instance) -> bool {
        let now = self.clock.now();
        let patience = self.clock.wait_at_least(15.0, Duration::from_secs(3));
        instance.agent.last_ping.is_some_and(|(at, _)| now < at + patience)
    }
}
