//! What became of commands, as Systems Manager says: the word of last resort, where the host's own doesn't come.

use super::{Deployment, listing::For};
use crate::{
    engine::{
        outcome::{RunnerResult, first_event, outcome_of_code, printed_tail},
        record::time,
    },
    fleet::commands::Invocation,
    rollout::{
        snapshot::Outcome,
        state::{Cause, Fault},
    },
    store::{AttemptRow, DeploymentRow},
};
use jiff::{SignedDuration, Timestamp};
use std::sync::Arc;
use tracing::info;

/// A command that is over leaves its log this long to come in before its outcome counts without it.
const LOG_GRACE: SignedDuration = SignedDuration::from_secs(5);
/// When a command was seen to be over is of no use any more after this.
const FORGOTTEN: SignedDuration = SignedDuration::from_hours(1);

impl Deployment<'_> {
    /// Asks Systems Manager about every command with attempts that have no outcome yet, and takes what it has said of them
    /// since the last time.
    pub(super) async fn read_invocations(&mut self, row: &DeploymentRow) -> anyhow::Result<()> {
        let open: Vec<AttemptRow> =
            self.members.iter().flat_map(|members| members.open_attempts()).cloned().collect();
        let mut looked = Ok(());
        for (what, listed) in self.listing.take().await {
            let Ok(invocations) = listed else { continue };
            match what {
                For::Stop(attempt) => self.read_stop(attempt, &invocations).await?,
                For::Dispatch(dispatch) => self.read_dispatch(&dispatch, &open, &invocations).await?,
            }
        }
        if open.is_empty() && self.stops.is_empty() {
            self.listing.rest();
            return Ok(());
        }
        let config = &self.engine.config.server;
        let poll = config.poll.unsigned_abs();
        if self.listing.is_due(poll, self.engine.public_url.is_some()) {
            let commands = self.engine.store.open_commands(row.id).await?;
            let sent = |attempt: &&AttemptRow| commands.iter().any(|(id, _)| *id == attempt.dispatch);
            looked = self.look_for_lost_agents(row, &open.iter().filter(sent).collect::<Vec<_>>()).await;
            let oldest = open.iter().map(|attempt| time(attempt.created_at)).min();
            let stops = self.stops.iter().map(|(attempt, command)| (For::Stop(*attempt), command.clone()));
            let commands = commands.into_iter().map(|(dispatch, command)| (For::Dispatch(dispatch), command));
            let commands: Vec<_> = commands.chain(stops).collect();
            if !commands.is_empty() {
                let oldest = oldest.unwrap_or(time(row.since));
                self.listing.begin(&self.engine.fleet, commands, oldest, Arc::clone(&self.notify));
            }
        }
        match self.listing.failed() {
            Some(error) => looked.and(Err(error.into())),
            None => looked,
        }
    }

    async fn read_dispatch(
        &mut self,
        dispatch: &str,
        open: &[AttemptRow],
        invocations: &[Invocation],
    ) -> anyhow::Result<()> {
        for attempt in open.iter().filter(|attempt| attempt.dispatch == dispatch) {
            let invocation = invocations.iter().find(|i| i.instance == attempt.instance);
            if let Some(outcome) = invocation.and_then(|invocation| self.outcome_of(attempt, invocation)) {
                self.take_outcome(attempt, &outcome, invocation).await?;
            }
        }
        Ok(())
    }

    /// What became of the command that asks an attempt to stop. One that didn't get through is said, and sent again by the
    /// planner.
    async fn read_stop(&mut self, attempt: i64, invocations: &[Invocation]) -> anyhow::Result<()> {
        let Some(over) = invocations.iter().find(|invocation| invocation.is_over()) else { return Ok(()) };
        self.stops.remove(&attempt);
        // It was told, whatever it answered; else nobody was.
        if !["success", "failed"].contains(&over.status.as_str()) {
            let words = format!("the request to stop did not get through: {}; asking again", over.status);
            self.engine.logs.note(self.id, Some(&over.instance), &words).await?;
        }
        Ok(())
    }

    /// An attempt has ended, as Systems Manager says; the first word stands.
    pub(super) async fn take_outcome(
        &mut self,
        attempt: &AttemptRow,
        outcome: &Outcome,
        invocation: Option<&Invocation>,
    ) -> anyhow::Result<()> {
        if !self.engine.record_outcome(attempt, outcome).await? {
            return Ok(());
        }
        if let Some(members) = &mut self.members {
            members.note_outcome(attempt.number, outcome);
        }
        info!(instance = attempt.instance, attempt = attempt.number, "ended: {}", outcome.words());
        let saw_its_end = invocation.is_some_and(|invocation| invocation.response_code.is_some());
        if attempt.log_complete == 0 && saw_its_end {
            let text = format!(
                "the log of attempt {} has not come to its end: how it ended is known by Systems Manager alone",
                attempt.number
            );
            self.engine.logs.note(self.id, Some(&attempt.instance), &text).await?;
        }
        Ok(())
    }

    /// When an attempt's command was first seen to be over.
    fn first_seen_over(&mut self, attempt: i64) -> Timestamp {
        let now = Timestamp::now();
        // The grace for a log is seconds: what is older has its outcome.
        self.over.retain(|_, since| now < *since + FORGOTTEN);
        *self.over.entry(attempt).or_insert(now)
    }

    fn outcome_of(&mut self, attempt: &AttemptRow, invocation: &Invocation) -> Option<Outcome> {
        if !invocation.is_over() {
            return None;
        }
        if self.engine.public_url.is_none()
            && attempt.log_complete == 0
            && Timestamp::now() < self.first_seen_over(attempt.number) + self.engine.upload_grace()
        {
            return None;
        }
        let printed = RunnerResult::find(&invocation.output)
            .filter(|result| result.attempt() == attempt.number && result.agrees_with(invocation));
        if let Some(result) = printed {
            // Its log is usually a moment behind; the outcome comes with it.
            if attempt.log_complete == 0
                && Timestamp::now() < self.first_seen_over(attempt.number) + LOG_GRACE
            {
                return None;
            }
            return Some(result.outcome(&attempt.first_event, printed_tail(&invocation.output)));
        }
        let event = first_event(attempt);
        // What it printed is cut to its beginning, and its log hasn't come: its exit code says it all the same.
        if let Some(outcome) = outcome_of_code(invocation, event) {
            return Some(outcome);
        }
        let words = match invocation.output.lines().last() {
            Some(line) => format!("Systems Manager says {}: {line}", invocation.status),
            None => format!("Systems Manager says {}", invocation.status),
        };
        let age = Timestamp::now().duration_since(time(attempt.created_at)).as_secs();
        let cause = match invocation.status.as_str() {
            "deliverytimedout" | "undeliverable" | "ratelimitexceeded" | "rateexceeded" => {
                Cause::Undelivered(words)
            }
            "accessdenied" | "invalidplatform" => Cause::Undelivered(words),
            _ => Cause::AgentLost(format!("{words}, after {age} s, without a word of the runner")),
        };
        Some(Outcome::Failed(Fault { event, hook: None, cause, tail: Vec::new() }))
    }
}
