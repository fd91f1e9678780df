//! What all paper instances have in common: the seed of their random choices, and the scripts that they were sent.

use std::collections::VecDeque;
use std::sync::Arc;

use crate::revision::script::Rendered;

/// The number of scripts that are kept as they were read; the commands under way are of the last few.
const SCRIPTS: usize = 64;
/// What all paper instances have in common.
#[derive(Debug)]
pub struct Papers {
    /// The seed of their random choices.
    pub seed: u64,
    /// Scripts as they were read, by command or group, the newest first; `None` for a script that isn't drover's.
    scripts: VecDeque<(String, Option<Arc<Rendered>>)>,
}

impl Papers {
    /// Begins without any script.
    pub fn new(seed: u64) -> Self {
        Self { seed, scripts: VecDeque::new() }
    }

    /// Reads a script, once for all the instances that it goes to; `name` tells it apart from others.
    pub(super) fn read_script(&mut self, name: &str, text: impl FnOnce() -> String) -> Option<Arc<Rendered>> {
        if let Some((_, script)) = self.scripts.iter().find(|(known, _)| known == name) {
            return script.clone();
        }
        let script = crate::revision::script::read(&text()).map(Arc::new);
        self.scripts.truncate(SCRIPTS - 1);
        self.scripts.push_front((name.to_owned(), script.clone()));
        script
    }
}
