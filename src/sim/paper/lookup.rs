//! Finds paper instances, their patterns, and the commands that they are sent.

use std::sync::Arc;

use super::machine::Machine;
use super::pattern::Pattern;
use crate::revision::script::Rendered;
use crate::sim::state::State;

impl State {
    /// Reads or changes a paper instance; returns `None` where there is none with this id.
    pub(super) fn paper_machine<R>(&mut self, id: &str, work: impl FnOnce(&mut Machine) -> R) -> Option<R> {
        Some(work(self.instances.get_mut(id)?.paper.as_deref_mut()?))
    }

    /// Returns a command as its instances see it: the script as it was read, executionTimeout in seconds, and whether the
    /// output is uploaded.
    pub(super) fn paper_command(&mut self, id: &str) -> Option<(Option<Arc<Rendered>>, u64, bool)> {
        let (text, timeout, uploads) = self.commands.for_agents(id)?;
        let script = self.papers.read_script(id, || text.join("\n"));
        Some((script, u64::try_from(timeout).unwrap_or_default(), uploads))
    }

    /// Returns the pattern of an instance's group.
    pub(super) fn pattern_of(&self, id: &str) -> Option<Pattern> {
        self.groups.get(&self.instances.get(id)?.group)?.paper.clone()
    }
}
