//! The agents' side: hello, poll, acknowledge, progress, reply, reboot.

use serde::Deserialize;
use serde_json::{Value, json};

use super::{DOCUMENT, Details, describe};
use crate::sim::state::{Effect, REGION, State};

/// How long an agent may keep a message without acknowledging it before it is delivered again, in the cloud's seconds.
const LEASE: f64 = 10.0;

/// Any request of an agent.
#[derive(Debug, Deserialize)]
pub struct AgentRequest {
    /// Whose agent.
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
    /// A fault keeps it offline.
    Offline,
    /// No such instance.
    Unknown,
}

/// A message on its way to an agent.
pub(in crate::sim) struct Leased {
    /// What it is acknowledged by.
    pub(in crate::sim) id: String,
    /// The command.
    pub(in crate::sim) command: String,
    /// Cancels the command instead of running it.
    pub(in crate::sim) cancel: bool,
}

/// A time in milliseconds since the epoch, from a number or an RFC 3339 text.
fn time(value: &Value) -> Option<i64> {
    match value {
        Value::Number(n) => n.as_f64().map(|f| if f < 1e11 { (f * 1000.0) as i64 } else { f as i64 }),
        Value::String(s) => s.parse::<jiff::Timestamp>().ok().map(|t| t.as_millisecond()),
        _ => None,
    }
}

impl State {
    /// Whether this agent can reach the service now.
    pub(in crate::sim) fn admit_agent(&mut self, id: &str) -> Result<(), Refused> {
        let now = self.clock.now();
        let instance = self.instances.get_mut(id).ok_or(Refused::Unknown)?;
        if instance.agent.offline_until.is_some_and(|until| until > now) || instance.cut.is_some() {
            return Err(Refused::Offline);
        }
        instance.agent.offline_until = None;
        Ok(())
    }

    /// The messages that wait for an agent; unless it acknowledges them, they come again.
    pub(in crate::sim) fn lease_messages(&mut self, id: &str) -> Vec<Leased> {
        let now = self.clock.now();
        let lease = now + self.clock.wait_at_least(LEASE, std::time::Duration::from_secs(2));
        let Some(instance) = self.instances.get_mut(id) else { return Vec::new() };
        let due = instance.agent.queue.iter_mut().filter(|message| message.is_due(now));
        due.map(|message| {
            message.leased_until = Some(lease);
            Leased { id: message.id.clone(), command: message.command.clone(), cancel: message.cancel }
        })
        .collect()
    }

    /// The messages for an agent, which it has to acknowledge.
    pub fn agent_poll(&mut self, id: &str) -> Result<Vec<Value>, Refused> {
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
                "uploads": command.uploads().is_some(),
            }));
        }
        Ok(messages)
    }

    /// Takes one of the other requests in.
    pub fn agent_call(&mut self, verb: &str, request: &AgentRequest) -> Result<Value, Refused> {
        let id = &request.instance_id;
        self.admit_agent(id)?;
        match verb {
            "hello" => self.agent_hello(request),
            "ack" => self.agent_ack(id, &request.message_id),
            "progress" => {
                let started = time(&request.started_at).unwrap_or_else(|| self.clock.unix_ms());
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
                let done = self.agent_upload(id, &request.command_id, &request.stream, &request.text);
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

    /// The first reply counts; one after a time-out, or a repeated one, changes nothing.
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
        invocation.stdout = request.stdout.chars().take(describe::STDOUT + 1).collect();
        invocation.stderr = request.stderr.chars().take(describe::STDERR + 1).collect();
        invocation.started = time(&request.started_at).or(invocation.started);
        invocation.ended = Some(time(&request.ended_at).unwrap_or(now));
        let detail = json!({
            "command_id": request.command_id,
            "status": invocation.details.name(),
            "exit_code": invocation.code,
            "started_at": invocation.started,
            "ended_at": invocation.ended,
        });
        self.withdraw(id, &request.command_id);
        self.events.push(id, "command-ended", detail);
    }
}
