//! Why things fail: the cause, the place and the last output, and how that is told to people.

use crate::rollout::event::LifecycleEvent;
use serde::{Deserialize, Serialize};

/// Why an attempt failed: what happened, where, and the last lines of its output.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Fault {
    /// The event that failed.
    pub event: LifecycleEvent,
    /// The hook's location in the revision, if a hook failed.
    pub hook: Option<String>,
    /// What happened.
    pub cause: Cause,
    /// The last lines of output, newest last; empty where there was none.
    pub tail: Vec<String>,
}

/// What made an attempt fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Cause {
    /// A hook's exit code.
    Exit(i32),
    /// A hook ran past its time-out and was stopped.
    HookTimeout,
    /// The bundle couldn't be fetched, checked or unpacked.
    Download,
    /// Systems Manager couldn't deliver the command.
    Undelivered(String),
    /// The agent, or the whole process tree under it, was lost.
    AgentLost(String),
    /// The runner died in the middle of the event, as the host's own journal says.
    Interrupted,
    /// The hooks have finished, and the host reports another release as current than the one that was expected.
    WrongRelease {
        /// The release that is current.
        current: String,
        /// The release that was expected.
        wanted: String,
    },
    /// Another attempt holds the host's lock.
    Busy,
    /// The host has seen a newer attempt.
    Refused,
    /// The host can't run it: no space left, a tool missing, no permission.
    HostCannot,
    /// Not healthy behind the balancer in time.
    Unhealthy(String),
    /// A wait ended at its deadline; holds what it waited for.
    Deadline(String),
}

/// Shortens a revision for people to read.
pub(super) fn short(sha: &str) -> &str {
    sha.get(..12).unwrap_or(sha)
}

impl Fault {
    /// Describes it in one line.
    pub fn words(&self) -> String {
        let what = match &self.hook {
            Some(hook) => format!("{} hook {hook}", self.event),
            None => self.event.to_string(),
        };
        let how = match &self.cause {
            Cause::Exit(126) => "is not executable (exit code 126)".into(),
            Cause::Exit(127) => "was not found, or a command in it was not (exit code 127)".into(),
            Cause::Exit(code) => format!("failed with exit code {code}"),
            Cause::HookTimeout => "ran past its time-out and was stopped".into(),
            Cause::Download => "could not fetch or unpack the bundle".into(),
            Cause::Undelivered(why) => format!("was not delivered by Systems Manager: {why}"),
            Cause::AgentLost(why) => format!("lost the agent: {why}"),
            Cause::Interrupted => "was interrupted: the runner died in the middle of it".into(),
            Cause::WrongRelease { current, wanted } => {
                format!("left {} as the current release, not {}", short(current), short(wanted))
            }
            Cause::Busy => "found another attempt still at work on the host".into(),
            Cause::Refused => "was refused by the host, which has seen a newer attempt".into(),
            Cause::HostCannot => "could not run on the host".into(),
            Cause::Unhealthy(why) => format!("did not become healthy: {why}"),
            Cause::Deadline(what) => format!("waited too long: {what}"),
        };
        match self.tail.last() {
            Some(line) => format!("{what} {how}: {}", line.trim()),
            None => format!("{what} {how}"),
        }
    }
}

/// The end of an instance that failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Failure {
    /// What went wrong the last time.
    pub fault: Fault,
    /// Kept out of the balancer until a person decides. False where the instance still serves its old release
    /// (staging failed, BeforeBlockTraffic failed) or already serves the new one (AfterAllowTraffic failed).
    pub quarantined: bool,
}
