//! What the passing of time changes, service by service.

use super::state::State;

impl State {
    /// Does everything that has become due.
    pub fn tick(&mut self) {
        self.end_outages();
        self.tick_targets();
        self.tick_groups();
        self.tick_commands();
        self.tick_papers();
    }
}
