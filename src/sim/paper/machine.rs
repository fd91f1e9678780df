//! A paper instance: the commands that its agent has taken, its releases, and the attempts that it remembers.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use tokio_util::sync::CancellationToken;

use super::attempt::Attempt;
use crate::revision::script::Rendered;

/// The number of commands that the agent runs at the same time.
const WORKERS: usize = 5;
/// The number of commands that it takes beyond those.
const BUFFER: usize = 5;
/// The number of attempts that are remembered; the runner keeps fifty.
pub(super) const ATTEMPTS: usize = 4;
/// The number of commands that are recognized when they come once more.
const SEEN: usize = 16;

/// A failure that the next hooks of an event have, as ordered by the fault `hook-exit`.
#[derive(Debug)]
pub(super) struct Armed {
    pub(super) event: String,
    pub(super) exit: i64,
    pub(super) message: String,
    pub(super) times: u32,
}

/// A command that the agent has acknowledged and not yet replied to.
#[derive(Debug)]
struct Taken {
    command: String,
    cancelled: CancellationToken,
    /// Whether it has a worker.
    at_work: bool,
}

/// A release on the instance's disk.
#[derive(Clone, Debug)]
pub(super) struct Release {
    /// The script that installed it, with its SHA, build and hooks.
    pub(super) script: Arc<Rendered>,
}

/// A paper instance, without what the state holds of every instance.
#[derive(Debug)]
pub struct Machine {
    /// Cancelled when the instance is gone.
    pub(super) gone: CancellationToken,
    /// Whether its agent runs.
    pub(super) agent_runs: bool,
    /// When its agent says next that it is there.
    pub(super) next_ping: Instant,
    /// Until when its agent doesn't try to reach the service, because it failed to.
    pub(super) quiet_until: Instant,
    taken: Vec<Taken>,
    seen: VecDeque<String>,
    /// The release that is current.
    pub(super) current: Option<Release>,
    /// All releases, the newest first.
    pub(super) releases: Vec<Release>,
    /// The highest attempt number that was seen here.
    pub(super) highest: i64,
    /// The attempts that are remembered, the newest first.
    pub(super) attempts: VecDeque<Arc<Attempt>>,
    pub(super) armed: Vec<Armed>,
}

impl Machine {
    /// Makes an instance that has just been booted; `first` is what its user-data has installed.
    pub(super) fn new(now: Instant, first: Option<Arc<Rendered>>) -> Self {
        let current = first.map(|script| Release { script });
        Self {
            gone: CancellationToken::new(),
            agent_runs: true,
            next_ping: now,
            quiet_until: now,
            taken: Vec::new(),
            seen: VecDeque::new(),
            releases: current.iter().cloned().collect(),
            highest: 0,
            attempts: VecDeque::new(),
            armed: Vec::new(),
            current,
        }
    }

    /// Whether the agent knows this command already.
    pub(super) fn knows(&self, command: &str) -> bool {
        self.seen.iter().any(|seen| seen == command)
    }

    /// Takes a command, if there is room; returns whether it has.
    pub(super) fn take(&mut self, command: &str) -> bool {
        if self.taken.len() >= WORKERS + BUFFER {
            return false;
        }
        let cancelled = CancellationToken::new();
        self.taken.push(Taken { command: command.to_owned(), cancelled, at_work: false });
        self.seen.truncate(SEEN - 1);
        self.seen.push_front(command.to_owned());
        true
    }

    /// Cancels a command that was taken.
    pub(super) fn cancel(&mut self, command: &str) {
        if let Some(taken) = self.taken.iter().find(|taken| taken.command == command) {
            taken.cancelled.cancel();
        }
    }

    /// Gives a worker to the next command that waits, if one is free, and returns that command; a cancelled command needs
    /// no free worker.
    pub(super) fn start_next(&mut self) -> Option<(String, CancellationToken)> {
        let free = self.taken.iter().filter(|taken| taken.at_work).count() < WORKERS;
        let mut waiting = self.taken.iter_mut().filter(|taken| !taken.at_work);
        let next = waiting.find(|taken| free || taken.cancelled.is_cancelled())?;
        next.at_work = true;
        Some((next.command.clone(), next.cancelled.clone()))
    }

    /// Frees the worker of a command that has been replied to.
    pub(super) fn finish(&mut self, command: &str) {
        self.taken.retain(|taken| taken.command != command);
    }

    /// Whether a command waits for a worker.
    pub(super) fn has_waiting(&self) -> bool {
        self.taken.iter().any(|taken| !taken.at_work)
    }

    /// Returns the current release's SHA, as a result names it.
    pub(super) fn current_sha(&self) -> String {
        self.current.as_ref().map_or_else(|| "-".to_owned(), |release| release.script.sha.clone())
    }

    /// Whether this build of the revision is complete here.
    pub(super) fn has(&self, script: &Rendered) -> bool {
        self.releases.iter().any(|r| r.script.sha == script.sha && r.script.build == script.build)
    }

    /// Whether another build of the revision is the current release.
    pub(super) fn runs_another_build(&self, script: &Rendered) -> bool {
        self.current.as_ref().is_some_and(|r| r.script.sha == script.sha && r.script.build != script.build)
    }

    /// Adds a release.
    pub(super) fn add(&mut self, script: &Arc<Rendered>) {
        self.releases.retain(|release| release.script.sha != script.sha);
        self.releases.insert(0, Release { script: Arc::clone(script) });
    }

    /// Makes the script's release the current one.
    pub(super) fn switch(&mut self, script: &Arc<Rendered>) {
        let found = self.releases.iter().find(|release| release.script.sha == script.sha);
        self.current = found.cloned().or_else(|| Some(Release { script: Arc::clone(script) }));
    }

    /// Removes old releases, but neither the current one nor `good`, the last good one.
    pub(super) fn prune(&mut self, keep: usize, good: Option<&str>) {
        let current = self.current_sha();
        let mut kept = 0;
        self.releases.retain(|release| {
            kept += 1;
            let sha = release.script.sha.as_str();
            kept <= keep || sha == current || good == Some(sha)
        });
    }

    /// Returns the exit code and message of the failure that this event was ordered to have, and counts it.
    pub(super) fn strike(&mut self, event: &str) -> Option<(i64, String)> {
        let at = self.armed.iter().position(|armed| armed.event == event)?;
        let armed = &mut self.armed[at];
        armed.times = armed.times.saturating_sub(1);
        let struck = (armed.exit, armed.message.clone());
        if armed.times == 0 {
            self.armed.remove(at);
        }
        Some(struck)
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.gone.cancel();
    }
}
