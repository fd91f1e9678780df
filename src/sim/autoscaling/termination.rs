//! The end of an instance: its targets drain, then its process tree goes.

use serde_json::json;

use crate::sim::state::{Lifecycle, State};

impl State {
    /// Begins to take an instance out of its group for good: first its targets drain.
    pub fn begin_terminating(&mut self, id: &str, why: &str) {
        self.move_to(id, Lifecycle::Terminating, "instance-terminating", json!({"why": why}));
        if let Some(instance) = self.instances.get_mut(id) {
            instance.actions.clear();
        }
        for arn in self.elb.groups_of(id) {
            self.deregister(&arn, id, None);
        }
    }

    /// Records that an instance's process tree, or the paper instance in its place, is gone.
    pub fn record_host_gone(&mut self, id: &str) {
        if let Some(instance) = self.instances.get_mut(id) {
            instance.host = None;
            instance.paper = None;
        }
    }
}
