//! What follows the launch of an instance: it runs, its user-data has run, or it could not be started.

use std::sync::Arc;

use serde_json::json;

use crate::sim::instance::Host;
use crate::sim::state::{Effect, State};

impl State {
    /// Records that an instance's process tree runs: it goes into service, or waits for its group's launch hooks first.
    pub fn record_launch(&mut self, id: &str, host: Arc<Host>) {
        let limits = host.limits().to_vec();
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.host = Some(host);
        self.continue_launch(id, &limits);
    }

    /// Goes on with an instance that runs now; `limits` are what this machine can't give it, in words.
    pub(in crate::sim) fn continue_launch(&mut self, id: &str, limits: &[String]) {
        let ready = self.clock.now() + self.clock.wait(1.0);
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.ready_at = Some(ready);
        let detail = json!({"group": instance.group, "zone": instance.zone, "limits": limits});
        self.events.push(id, "instance-launched", detail);
        if instance.dead {
            self.effects.push(Effect::Terminate(id.to_owned()));
        } else {
            self.wait_for_hooks(id);
        }
    }

    /// Records that an instance's user-data has run.
    pub fn record_boot(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.booted = true;
            self.events.push(id, "instance-booted", json!({}));
        }
    }

    /// Records that an instance's process tree could not be started, and why.
    pub fn record_launch_failure(&mut self, id: &str, why: &str) {
        let Some(instance) = self.instances.get_mut(id) else { return };
        instance.dead = true;
        let group = instance.group.clone();
        self.events.push(id, "instance-launch-failed", json!({"why": why}));
        self.record_activity(&group, id, "Launching a new EC2 instance", why, "Failed");
        if let Some(group) = self.groups.get_mut(&group) {
            group.next_look = self.clock.now() + self.clock.wait(10.0);
        }
    }
}
