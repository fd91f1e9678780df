//! Paper instances: instances without namespaces and without processes, for fleets of thousands.
//!
//! Auto Scaling, the balancer and Systems Manager treat them as they treat the others. A paper instance's agent lives in the
//! cloud's own tick: it says that it is there, takes commands (five at work, five more waiting), acknowledges them and replies.
//! It carries out drover's scripts alone, and of these what shows outside of the host: the verdict on the attempt (run,
//! refused, busy, repeated …), hooks that take their time, print lines and may fail, the log on its way to the daemon or to
//! CloudWatch Logs, the result line and the exit code. Any other command fails with 127.
//!
//! An idle one is a few KB of state and no task; a command in work is one task, a log that is being pushed another.
//!
//! # Where it is kinder than the world, or simply less
//! - It downloads no bundle: the time that one takes passes, and the release is there. Files, permissions and secrets are
//!   neither written nor read, and hooks never ask for a reboot.
//! - Health checks pass without a request, as long as the instance runs and neither its network is cut nor a fault is on it.
//!   It serves nothing: the balancer answers 502 for it.
//! - Its log is pushed once a second, as the runner does it with wget, and all instances share one HTTP client that has at
//!   most `push::REQUESTS` requests under way.
//! - A hook whose command is cancelled or timed out ends with it; a real one would go on.
//! - It forgets all attempts but the newest `machine::ATTEMPTS`.

pub(super) mod attempt;
pub(super) mod carry;
pub(super) mod chance;
pub(super) mod decide;
pub(super) mod hooks;
pub(super) mod machine;
pub(super) mod output;
pub(super) mod push;
mod tick;

use std::collections::VecDeque;
use std::sync::Arc;

use serde::Deserialize;
use serde_json::{Value, json};

use super::state::State;
use super::wire::ApiError;
use super::world::World;
use crate::revision::script::Rendered;

pub use machine::Machine;
pub use push::Uplink;

/// Rendered scripts that are kept as read: the commands in work are of the last few.
const SCRIPTS: usize = 64;
/// A hook of a paper instance prints at most this many lines.
const MOST_LINES: u32 = 100_000;

/// How the attempts on a group's paper instances go. Seconds are the machine's, as those of a real hook are.
#[derive(Clone, Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Pattern {
    /// What a download takes on average; each takes between half of it and one and a half.
    pub download_seconds: f64,
    /// The same of a hook.
    pub hook_seconds: f64,
    /// Lines that a hook prints.
    pub lines: u32,
    /// Share of the instances on which a revision's hooks fail at every attempt, 0 to 1.
    pub failing_instances: f64,
    /// Share of the attempts in which a hook fails, 0 to 1: the next one may succeed.
    pub failing_attempts: f64,
}

impl Default for Pattern {
    fn default() -> Self {
        Self {
            download_seconds: 2.0,
            hook_seconds: 1.0,
            lines: 10,
            failing_instances: 0.0,
            failing_attempts: 0.0,
        }
    }
}

impl Pattern {
    /// Refuses what makes no sense.
    pub fn check(&self) -> Result<(), ApiError> {
        let seconds = [self.download_seconds, self.hook_seconds];
        let shares = [self.failing_instances, self.failing_attempts];
        if !seconds.iter().all(|s| (0.0..=86_400.0).contains(s)) {
            return Err(ApiError::validation("a paper pattern's seconds must be between 0 and 86400"));
        }
        if !shares.iter().all(|s| (0.0..=1.0).contains(s)) {
            return Err(ApiError::validation("a paper pattern's shares must be between 0 and 1"));
        }
        if self.lines > MOST_LINES {
            return Err(ApiError::validation(format!(
                "a paper pattern's lines must be {MOST_LINES} at most"
            )));
        }
        Ok(())
    }
}

/// What all paper instances share.
#[derive(Debug)]
pub struct Papers {
    /// Seed of their chance.
    pub seed: u64,
    /// Scripts as read, by command or group; none of those that aren't drover's.
    scripts: VecDeque<(String, Option<Arc<Rendered>>)>,
}

impl Papers {
    /// Of a cloud with this seed.
    pub fn new(seed: u64) -> Self {
        Self { seed, scripts: VecDeque::new() }
    }

    /// What a script says, read once for all the instances that it goes to; `name` tells it apart.
    fn read(&mut self, name: &str, text: impl FnOnce() -> String) -> Option<Arc<Rendered>> {
        if let Some((_, script)) = self.scripts.iter().find(|(known, _)| known == name) {
            return script.clone();
        }
        let script = crate::revision::script::read(&text()).map(Arc::new);
        self.scripts.truncate(SCRIPTS - 1);
        self.scripts.push_front((name.to_owned(), script.clone()));
        script
    }
}

/// The group and target group that `drover sim --paper` makes.
pub const GROUP: &str = "paper";

/// A world with one group of `count` paper instances behind a balancer.
pub fn world(count: u32, pattern: Pattern) -> World {
    let target_group = json!({"name": GROUP, "port": 80});
    let group = json!({
        "name": GROUP, "desired": count, "max": count.saturating_mul(2), "target_groups": [GROUP], "paper": true,
    });
    let described = json!({"target_groups": [target_group], "groups": [group]});
    let mut world: World = serde_json::from_value(described).unwrap_or_default();
    world.groups.iter_mut().for_each(|group| group.paper_pattern = Some(pattern.clone()));
    world
}

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

    /// What `drover sim --paper` has made: the group, its size, its target group and the balancer's address.
    pub fn describe_paper(&self) -> Value {
        let target_group = self.elb.target_groups.values().find(|g| g.name == GROUP);
        json!({
            "group": GROUP,
            "instances": self.groups.get(GROUP).map(|g| g.desired),
            "target_group": target_group.map(|g| g.arn.as_str()),
            "url": target_group.and_then(|g| g.address).map(|address| format!("http://{address}")),
        })
    }

    /// The pattern of an instance's group.
    fn pattern_of(&self, id: &str) -> Option<Pattern> {
        self.groups.get(&self.instances.get(id)?.group)?.paper.clone()
    }
}

#[cfg(test)]
mod tests;
