//! The agents of paper instances, as far as time and the service move them: pings, deliveries, workers.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Value, json};

use super::machine::{Armed, Machine};
use crate::revision::script::Rendered;
use crate::sim::ssm::{AgentRequest, Refused};
use crate::sim::state::{Effect, State};

/// How often an agent says that it is there, in the cloud's seconds.
const PING: f64 = 5.0;
/// How long it waits before it tries again to reach the service, in the cloud's seconds.
const PAUSE: f64 = 1.0;
const SHORTEST: Duration = Duration::from_millis(50);

impl State {
    /// One look at all paper instances.
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
        due.iter().for_each(|id| self.tend_agent(id));
    }

    /// What an agent does when it wakes.
    fn tend_agent(&mut self, id: &str) {
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
            self.call("hello", hello);
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
            self.call("ack", json!({"instance_id": id, "message_id": message.id}));
            if taken == Some(Some(true)) {
                let progress =
                    json!({"instance_id": id, "command_id": message.command, "started_at": started});
                self.call("progress", progress);
            }
        }
        self.give_work(id);
    }

    /// Gives free workers what waits for them.
    fn give_work(&mut self, id: &str) {
        while let Some(Some((command, cancelled))) = self.paper_machine(id, Machine::next_at_work) {
            let instance = id.to_owned();
            self.effects.push(Effect::RunOnPaper { instance, command, cancelled });
        }
    }

    /// A command has been replied to: another one gets its worker.
    pub(super) fn paper_done(&mut self, id: &str, command: &str) {
        self.paper_machine(id, |machine| machine.done(command));
        if self.paper_machine(id, |machine| machine.has_waiting()) == Some(true) {
            self.give_work(id);
        }
    }

    fn call(&mut self, verb: &str, body: Value) {
        if let Ok(request) = serde_json::from_value::<AgentRequest>(body) {
            // It was admitted in this very moment.
            let _ = self.agent_call(verb, &request);
        }
    }

    /// A call of an agent; it can't make one while it is stopped.
    pub(super) fn paper_call(&mut self, verb: &str, request: &AgentRequest) -> Result<(), Refused> {
        self.reach_service(&request.instance_id)?;
        self.agent_call(verb, request).map(drop)
    }

    /// Whether a paper instance's agent runs and can reach the service now.
    pub(super) fn reach_service(&mut self, id: &str) -> Result<(), Refused> {
        match self.paper_machine(id, |machine| machine.agent_runs) {
            Some(true) => self.admit_agent(id),
            Some(false) => Err(Refused::Offline),
            None => Err(Refused::Unknown),
        }
    }

    /// Reads or changes a paper instance.
    pub(super) fn paper_machine<R>(&mut self, id: &str, work: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        Some(work(self.instances.get_mut(id)?.paper.as_deref_mut()?))
    }

    /// A command as its instances see it: the script as read, executionTimeout, whether its output is uploaded.
    pub(super) fn paper_command(&mut self, id: &str) -> Option<(Option<Arc<Rendered>>, u64, bool)> {
        let (text, timeout, uploads) = self.commands.for_agents(id)?;
        let script = self.papers.read(id, || text.join("\n"));
        Some((script, u64::try_from(timeout).unwrap_or_default(), uploads))
    }

    /// Boots a paper instance: what its user-data installs is there at once.
    /// False where it is to be another one.
    pub(in crate::sim) fn launch_paper(&mut self, id: &str) -> bool {
        let now = self.clock.now();
        let group = self.instances.get(id).and_then(|i| self.groups.get(&i.group));
        let Some(group) = group.filter(|group| group.paper.is_some()) else { return false };
        let text = group.user_data.clone().unwrap_or_default();
        let first = self.papers.read(&format!("user-data of {}", group.name), || text);
        let mut machine = Machine::new(now, first);
        // The agents of a fleet don't speak all at once.
        let phase = super::chance::unit(self.papers.seed, &["ping", id]);
        machine.next_ping = now + self.clock.wait(phase);
        let Some(instance) = self.instances.get_mut(id) else { return false };
        instance.paper = Some(Box::new(machine));
        self.came_up(id, &[]);
        self.booted(id);
        true
    }

    /// A control verb of a paper instance; false where it has no such thing.
    pub(in crate::sim) fn order_paper(&mut self, id: &str, verb: &str) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        let Some(machine) = instance.paper.as_deref_mut() else { return false };
        match verb {
            "stop-agent" => machine.agent_runs = false,
            "start-agent" => machine.agent_runs = true,
            _ => return false,
        }
        true
    }

    /// Carries out on a paper instance what would be done to a process tree. A cut network is known to the state already.
    pub(in crate::sim) fn carry_out_on_paper(&mut self, effect: &Effect) {
        match effect {
            Effect::Terminate(id) => self.host_gone(id),
            Effect::ArmFault { instance, event, exit, message, times } => {
                let armed = Armed {
                    event: event.clone(),
                    exit: i64::from(*exit),
                    message: message.clone(),
                    times: *times,
                };
                self.paper_machine(instance, |machine| machine.armed.push(armed));
            }
            _ => {}
        }
    }
}
