//! The agents of paper instances: their pings, the messages that they fetch, and the workers that run their commands.

use std::time::Duration;

use serde_json::{Value, json};

use super::machine::Machine;
use crate::sim::ssm::{AgentRequest, Refused};
use crate::sim::state::{Effect, State};

/// How often an agent says that it is there, in the cloud's seconds.
const PING: f64 = 5.0;
/// How long an agent waits before it tries again to reach the service, in the cloud's seconds.
const PAUSE: f64 = 1.0;
/// The shortest of both on this machine.
const SHORTEST: Duration = Duration::from_millis(50);

impl State {
    /// Lets the agents act that have something to do.
    pub(in crate::sim) fn tick_papers(&mut self) {
        let now = self.clock.now();
        let due: Vec<String> = self
            .instances
            .values()
            .filter(|i| !i.dead)
            .filter(|i| {
                i.paper.as_ref().is_some_and(|m| {
                    let waits = m.next_ping <= now || i.agent.has_message(now);
                    m.agent_runs && m.quiet_until <= now && waits
                })
            })
            .map(|i| i.id.clone())
            .collect();
        due.iter().for_each(|id| self.run_agent(id));
    }

    /// Lets an agent say that it is there, fetch its messages and give them to its workers.
    fn run_agent(&mut self, id: &str) {
        let now = self.clock.now();
        if self.admit_agent(id).is_err() {
            let until = now + self.clock.wait_at_least(PAUSE, SHORTEST);
            self.paper_machine(id, |machine| machine.quiet_until = until);
            return;
        }
        if self.paper_machine(id, |machine| machine.next_ping <= now) == Some(true) {
            let hello = json!({"instance_id": id, "version": "3.3.0.0", "platform": "Linux"});
            let next = now + self.clock.wait_at_least(PING, SHORTEST);
            self.paper_machine(id, |machine| machine.next_ping = next);
            self.call_service("hello", hello);
        }
        let started = self.clock.unix_ms();
        for message in self.lease_messages(id) {
            let taken = self.paper_machine(id, |machine| match message.cancel {
                true => {
                    machine.cancel(&message.command);
                    None
                }
                false if machine.knows(&message.command) => None,
                false => Some(machine.take(&message.command)),
            });
            // One that there is no room for comes again.
            if taken == Some(Some(false)) {
                continue;
            }
            self.call_service("ack", json!({"instance_id": id, "message_id": message.id}));
            if taken == Some(Some(true)) {
                let progress =
                    json!({"instance_id": id, "command_id": message.command, "started_at": started});
                self.call_service("progress", progress);
            }
        }
        self.start_workers(id);
    }

    /// Gives the commands that wait to free workers.
    fn start_workers(&mut self, id: &str) {
        while let Some(Some((command, cancelled))) = self.paper_machine(id, Machine::start_next) {
            let instance = id.to_owned();
            self.effects.push(Effect::RunOnPaper { instance, command, cancelled });
        }
    }

    /// Records that a command has been replied to: another one gets its worker.
    pub(super) fn finish_paper_command(&mut self, id: &str, command: &str) {
        self.paper_machine(id, |machine| machine.finish(command));
        if self.paper_machine(id, |machine| machine.has_waiting()) == Some(true) {
            self.start_workers(id);
        }
    }

    /// Makes a request of an agent that was admitted in this very moment.
    fn call_service(&mut self, verb: &str, body: Value) {
        if let Ok(request) = serde_json::from_value::<AgentRequest>(body) {
            let _ = self.answer_agent(verb, &request);
        }
    }

    /// Makes a request of a paper instance's agent, which can't make one while it is stopped.
    pub(super) fn call_from_paper(&mut self, verb: &str, request: &AgentRequest) -> Result<(), Refused> {
        self.admit_paper_agent(&request.instance_id)?;
        self.answer_agent(verb, request).map(drop)
    }

    /// Refuses a paper instance's agent that is stopped or can't reach the service now.
    pub(super) fn admit_paper_agent(&mut self, id: &str) -> Result<(), Refused> {
        match self.paper_machine(id, |machine| machine.agent_runs) {
            Some(true) => self.admit_agent(id),
            Some(false) => Err(Refused::Offline),
            None => Err(Refused::Unknown),
        }
    }
}
