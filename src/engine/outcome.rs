//! How attempts ended: from the runner's own words, pushed or printed, or else from Systems Manager's.

use crate::{
    engine::{Engine, record::json},
    fleet::commands::Invocation,
    logs::ingest::{Ingest, IngestError},
    rollout::{
        event::LifecycleEvent,
        snapshot::Outcome,
        state::{Cause, Fault},
    },
    store::{AttemptRow, StoreError},
};
use jiff::{SignedDuration, Timestamp};
use tracing::info;

/// The line that the runner ends with: `drover: result attempt=… status=… event=… hook=… exit=… … current=…`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunnerResult {
    attempt: i64,
    status: String,
    event: Option<LifecycleEvent>,
    hook: Option<String>,
    exit: i32,
    current: Option<String>,
    bytes: u64,
    sha256: String,
}

impl RunnerResult {
    /// Finds the line in what the runner printed.
    pub fn find(text: &str) -> Option<RunnerResult> {
        let line = text.lines().rev().find_map(|line| line.trim().strip_prefix("drover: result "))?;
        let field = |name: &str| {
            line.split(' ')
                .find_map(|part| part.strip_prefix(name)?.strip_prefix('='))
                .filter(|value| *value != "-")
        };
        Some(RunnerResult {
            attempt: field("attempt")?.parse().ok()?,
            status: field("status")?.to_owned(),
            event: field("event").and_then(|name| name.parse().ok()),
            hook: field("hook").map(str::to_owned),
            exit: field("exit").and_then(|code| code.parse().ok()).unwrap_or(1),
            current: field("current").map(str::to_owned),
            bytes: field("bytes").and_then(|count| count.parse().ok()).unwrap_or(0),
            sha256: field("sha256").unwrap_or_default().to_owned(),
        })
    }

    /// The attempt it speaks of.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// Whether Systems Manager says the same of the command's end: the runner fails with a code of its own, and an agent that
    /// saw another end than the words say saw another run.
    pub(super) fn agrees_with(&self, invocation: &Invocation) -> bool {
        let succeeded =
            invocation.status == "success" && invocation.response_code.is_none_or(|code| code == 0);
        (self.status == "succeeded") == succeeded
    }

    /// Size of its log in bytes, and the checksum of it.
    pub fn log(&self) -> (u64, String) {
        (self.bytes, self.sha256.clone())
    }

    pub(super) fn outcome(self, first_event: &str, tail: Vec<String>) -> Outcome {
        let event =
            self.event.or_else(|| first_event.parse().ok()).unwrap_or(LifecycleEvent::ApplicationStop);
        let cause = match self.status.as_str() {
            "succeeded" => return Outcome::Succeeded { current: self.current },
            "stopped" => return Outcome::Stopped(self.event),
            "interrupted" => Cause::Interrupted,
            "busy" => Cause::Busy,
            "refused" => Cause::Refused,
            "late" => came_too_late(),
            _ => match self.exit {
                // The runner's own exit codes; see its head.
                _ if event == LifecycleEvent::DownloadBundle && self.exit == 74 => Cause::Download,
                73 if self.hook.is_none() => Cause::HostCannot,
                124 => Cause::HookTimeout,
                code => Cause::Exit(code),
            },
        };
        Outcome::Failed(Fault { event, hook: self.hook, cause, tail })
    }
}

/// The end of an attempt's log.
pub enum End<'a> {
    /// All of it may have come: its size and checksum tell.
    Whole {
        /// Of the host's file, in bytes.
        size: u64,
        /// Of the host's file, hexadecimal.
        sha256: &'a str,
    },
    /// What is missing doesn't come any more.
    Cut {
        /// What is missing begins here.
        wanted: u64,
        /// Of the host's file, in bytes.
        size: u64,
    },
}

/// `drover: tail …` lines of what the runner printed.
pub(super) fn printed_tail(text: &str) -> Vec<String> {
    text.lines().filter_map(|line| line.strip_prefix("drover: tail ")).map(str::to_owned).collect()
}

/// The event that an attempt was to begin with.
pub(super) fn first_event(attempt: &AttemptRow) -> LifecycleEvent {
    attempt.first_event.parse().unwrap_or(LifecycleEvent::ApplicationStop)
}

/// Of an attempt whose agent has been away for so long.
pub(super) fn outcome_of_silence(attempt: &AttemptRow, silent_for: SignedDuration) -> Outcome {
    let event = first_event(attempt);
    let words =
        format!("it could not be reached for {} s, and nothing came of its hooks", silent_for.as_secs());
    Outcome::Failed(Fault { event, hook: None, cause: Cause::AgentLost(words), tail: Vec::new() })
}

/// A command that reached its host after the time until which it was good, since the daemon was away or AWS was slow, has run
/// nothing there: another one is sent in its place.
fn came_too_late() -> Cause {
    Cause::Undelivered("the command reached the host too late, or the host's clock is wrong".into())
}

/// How the runner ended, from its exit code alone (see its head): of a command that the agent itself saw to its end.
pub(super) fn outcome_of_code(invocation: &Invocation, event: LifecycleEvent) -> Option<Outcome> {
    let code = invocation.response_code?;
    let cause = match (invocation.status.as_str(), code) {
        ("success", 0) => return Some(Outcome::Succeeded { current: None }),
        ("failed", 72) => return Some(Outcome::Stopped(None)),
        ("failed", 70) => Cause::Refused,
        ("failed", 71) => Cause::Interrupted,
        ("failed", 73) => Cause::HostCannot,
        ("failed", 74) => Cause::Download,
        ("failed", 75) => Cause::Busy,
        ("failed", 76) => came_too_late(),
        _ => return None,
    };
    Some(Outcome::Failed(Fault { event, hook: None, cause, tail: Vec::new() }))
}

impl Engine {
    /// The log of an attempt is there, all of it or all that will come, and the host says how it ended: both are written
    /// down together. The first word stands.
    pub async fn attempt_ended(
        &self,
        ingest: &mut Ingest,
        end: End<'_>,
        result: Option<RunnerResult>,
    ) -> Result<(), IngestError> {
        let number = ingest.attempt();
        let attempt = self.store.attempt(number).await?.ok_or(IngestError::Unknown)?;
        let mut words = String::new();
        let outcome = |tail: Vec<String>| {
            let result = result.filter(|result| result.attempt == number)?;
            let outcome = result.outcome(&attempt.first_event, tail);
            words = outcome.words();
            Some(json(&outcome))
        };
        let first = match end {
            End::Whole { size, sha256 } => self.logs.complete(ingest, size, sha256, outcome).await?,
            End::Cut { wanted, size } => self.logs.give_up(ingest, wanted, size, outcome).await?,
        };
        if first {
            let (deployment, instance) = (attempt.deployment, &attempt.instance);
            info!(deployment, instance, attempt = number, "ended: {words}");
        }
        self.wake(attempt.deployment);
        Ok(())
    }

    /// False where the attempt has an outcome already.
    pub(super) async fn record_outcome(
        &self,
        attempt: &AttemptRow,
        outcome: &Outcome,
    ) -> Result<bool, StoreError> {
        let mut tx = self.store.write().await?;
        let now = Timestamp::now().as_millisecond();
        let first = tx.set_outcome(attempt.number, &json(outcome), now).await?;
        tx.commit().await?;
        Ok(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::rollout::{
        class::{Class, classify},
        policy::Retry,
    };

    #[test]
    fn the_exit_code_says_it_where_the_words_are_cut_off() {
        let of = |status: &str, response_code| {
            let output = "x".repeat(2500);
            let invocation =
                Invocation { instance: "i-1".into(), status: status.into(), output, response_code };
            outcome_of_code(&invocation, LifecycleEvent::ApplicationStart)
        };
        assert_eq!(of("success", Some(0)), Some(Outcome::Succeeded { current: None }));
        assert_eq!(of("failed", Some(72)), Some(Outcome::Stopped(None)));
        let Some(Outcome::Failed(late)) = of("failed", Some(76)) else { panic!("late") };
        assert_eq!(classify(&late, &Retry::default()), Class::Transient, "it is sent again");
        let Some(Outcome::Failed(fault)) = of("failed", Some(75)) else { panic!("busy") };
        assert_eq!(fault.cause, Cause::Busy);
        // The agent was lost, or a hook failed, and nobody says which.
        assert_eq!(
            (of("terminated", Some(143)), of("failed", Some(1)), of("success", None)),
            (None, None, None)
        );
    }
}
