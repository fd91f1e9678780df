//! What befalls an instance from outside of its group: it dies, or its network is cut for a time.

use serde_json::json;

use super::state::{Effect, State};

impl State {
    /// Ends the failing health checks and the network cuts whose time is over.
    pub(super) fn end_outages(&mut self) {
        let now = self.clock.now();
        for instance in self.instances.values_mut() {
            if instance.health_fault.is_some_and(|(_, until)| until <= now) {
                instance.health_fault = None;
            }
            if let Some(Some(until)) = instance.cut
                && until <= now
            {
                instance.cut = None;
                self.effects.push(Effect::Restore(instance.id.clone()));
                self.events.push(&instance.id, "network-restored", json!({}));
            }
        }
    }

    /// Kills an instance without its group's doing; returns whether it was alive.
    pub fn kill_instance(&mut self, id: &str) -> bool {
        let Some(instance) = self.instances.get_mut(id) else { return false };
        if instance.dead {
            return false;
        }
        instance.dead = true;
        self.events.push(id, "instance-killed", json!({}));
        self.effects.push(Effect::Terminate(id.to_owned()));
        true
    }

    /// Cuts an instance's network, for `seconds` or until [`Self::restore_network`]; returns whether there is such an
    /// instance.
    pub fn cut_network(&mut self, id: &str, seconds: Option<f64>) -> bool {
        let until = seconds.map(|s| self.clock.now() + self.clock.wait(s));
        let Some(instance) = self.instances.get_mut(id) else { return false };
        instance.cut = Some(until);
        self.effects.push(Effect::Cut(id.to_owned()));
        self.events.push(id, "network-cut", json!({"seconds": seconds}));
        true
    }

    /// Restores an instance's network.
    pub fn restore_network(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.cut = None;
        }
        self.effects.push(Effect::Restore(id.to_owned()));
        self.events.push(id, "network-restored", json!({}));
    }
}
