//! What is ordered of paper instances: their launch, other patterns, the control API's verbs and faults, their end.

use serde_json::{Value, json};

use super::chance::unit;
use super::machine::{Armed, Machine};
use super::pattern::Pattern;
use crate::sim::state::{Effect, State};
use crate::sim::wire::ApiError;

impl State {
    /// Gives a group's paper instances another pattern; attempts under way keep theirs.
    pub fn change_pattern(&mut self, group: &str, pattern: Pattern) -> Result<Value, ApiError> {
        pattern.check()?;
        let known = self.groups.get_mut(group).and_then(|g| g.paper.as_mut());
        let missing =
            || ApiError::validation(format!("there is no group of paper instances named '{group}'"));
        *known.ok_or_else(missing)? = pattern;
        Ok(json!({}))
    }

    /// Boots an instance if it is a paper instance, with what its user-data installs; returns whether it is one.
    pub(in crate::sim) fn launch_paper(&mut self, id: &str) -> bool {
        let now = self.clock.now();
        let group = self.instances.get(id).and_then(|i| self.groups.get(&i.group));
        let Some(group) = group.filter(|group| group.paper.is_some()) else { return false };
        let text = group.user_data.clone().unwrap_or_default();
        let first = self.papers.read_script(&format!("user-data of {}", group.name), || text);
        let mut machine = Machine::new(now, first);
        // The agents of a fleet don't speak all at once.
        let phase = unit(self.papers.seed, &["ping", id]);
        machine.next_ping = now + self.clock.wait(phase);
        let Some(instance) = self.instances.get_mut(id) else { return false };
        instance.paper = Some(Box::new(machine));
        self.continue_launch(id, &[]);
        self.record_boot(id);
        true
    }

    /// Stops or starts the agent of a paper instance; returns false for any other verb, and where there is no such
    /// instance.
    pub(in crate::sim) fn order_paper_agent(&mut self, id: &str, verb: &str) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        let Some(machine) = instance.paper.as_deref_mut() else { return false };
        match verb {
            "stop-agent" => machine.agent_runs = false,
            "start-agent" => machine.agent_runs = true,
            _ => return false,
        }
        true
    }

    /// Carries out on a paper instance the effect that is meant for a process tree. A cut network needs nothing here: the
    /// state knows of it.
    pub(in crate::sim) fn carry_out_on_paper(&mut self, effect: &Effect) {
        match effect {
            Effect::Terminate(id) => self.record_host_gone(id),
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
