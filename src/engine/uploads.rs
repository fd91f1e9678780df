//! Logs without inbound traffic: the agents upload what the runner prints to CloudWatch Logs, and it is read from there.

use super::{Engine, RunnerResult};
use crate::{
    logs::{
        frames::{Frames, Item},
        ingest::{Ingest, IngestError},
    },
    store::DeploymentRow,
};
use std::{
    collections::{HashMap, HashSet},
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};
use tracing::warn;

/// Streams read in a second: 30 % of the 25 GetLogEvents that AWS allows an account and region (10 in the smallest
/// regions, which throttling tells).
const READS_PER_SECOND: u32 = 7;
/// A stream is read this often at most: the agent uploads once a second.
const READ_EVERY: Duration = Duration::from_millis(900);

/// How far the log of one attempt has been read.
struct Reading {
    token: Option<String>,
    frames: Frames,
    last: Instant,
}

/// A log that is being read: its deployment, attempt and command.
type Key = (i64, i64, String);

/// All that is being read.
#[derive(Default)]
pub(super) struct Readings {
    open: Mutex<HashMap<Key, Reading>>,
}

impl Readings {
    fn take(&self, key: &Key) -> Option<Reading> {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).remove(key)
    }

    fn put(&self, key: Key, reading: Reading) {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).insert(key, reading);
    }

    /// Of this deployment's, those of these attempts alone; others' are theirs.
    pub(super) fn keep(&self, deployment: i64, attempts: &HashSet<i64>) {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        open.retain(|(whose, attempt, _), _| *whose != deployment || attempts.contains(attempt));
    }

    /// How many are being read, whosever.
    fn count(&self) -> usize {
        self.open.lock().unwrap_or_else(PoisonError::into_inner).len()
    }
}

impl Engine {
    /// Makes the log group, once a start; where that is not allowed it must have been made by hand.
    pub(super) async fn ensure_log_group(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        let group = self.config.aws.log_group.clone();
        if self.public_url.is_some() || self.log_group_made.load(std::sync::atomic::Ordering::Relaxed) {
            return Ok(());
        }
        let now = jiff::Timestamp::now().as_millisecond();
        let request = serde_json::json!({ "logGroupName": group }).to_string();
        let key = format!("CreateLogGroup:{group}");
        let intent = self.store.intend(row.id, "CreateLogGroup", &key, &request, now).await?;
        let made = self.fleet.create_log_group(&group).await;
        let words = made.as_ref().err().map(ToString::to_string);
        let now = jiff::Timestamp::now().as_millisecond();
        self.store.finish_intent(intent, words.as_deref(), now).await?;
        if let Some(words) = words {
            let text =
                format!("{words}; without the log group {group} there is no live log: make it by hand");
            self.logs.note(row.id, None, &text).await?;
        }
        self.log_group_made.store(true, std::sync::atomic::Ordering::Relaxed);
        Ok(())
    }

    /// Reads what has come of the logs of commands that are under way.
    pub(super) async fn read_uploads(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        if self.public_url.is_some() {
            return Ok(());
        }
        let attempts = self.store.attempts(row.id).await?;
        let mut open = Vec::new();
        for (dispatch, command) in self.store.open_commands(row.id).await? {
            let here = attempts.iter().filter(|attempt| {
                attempt.dispatch == dispatch && attempt.outcome.is_none() && attempt.log_complete == 0
            });
            open.extend(here.map(|attempt| (attempt.number, attempt.instance.clone(), command.clone())));
        }
        self.readings.keep(row.id, &open.iter().map(|(attempt, ..)| *attempt).collect());
        // All deployments together have one allowance.
        let count = u32::try_from(open.len().max(self.readings.count())).unwrap_or(u32::MAX);
        let every = READ_EVERY.max(Duration::from_secs(1) * count / READS_PER_SECOND);
        for (attempt, instance, command) in open {
            let key = (row.id, attempt, command);
            let reading = self.readings.take(&key);
            let mut reading = match reading {
                Some(reading) if reading.last.elapsed() < every => {
                    self.readings.put(key, reading);
                    continue;
                }
                Some(reading) => reading,
                None => Reading {
                    token: None,
                    frames: Frames::new(&self.secrets.nonce(attempt)),
                    last: Instant::now(),
                },
            };
            reading.last = Instant::now();
            let group = &self.config.aws.log_group;
            let token = reading.token.clone();
            match self.fleet.command_output(group, &key.2, &instance, token).await {
                Ok(read) => {
                    reading.token = read.token;
                    let mut items = Vec::new();
                    for message in read.messages {
                        reading.frames.event(&message, |item| items.push(item));
                    }
                    self.take_uploaded(attempt, items).await?;
                }
                Err(error) => warn!(instance, "the log can't be read: {error}"),
            }
            self.readings.put(key, reading);
        }
        Ok(())
    }

    async fn take_uploaded(&self, attempt: i64, items: Vec<Item>) -> anyhow::Result<()> {
        if items.is_empty() {
            return Ok(());
        }
        let ingest = match self.logs.receive(attempt, &self.secrets.nonce(attempt)).await {
            Ok(ingest) => ingest,
            Err(IngestError::Complete) => return Ok(()),
            Err(error) => return Err(error.into()),
        };
        let mut ingest = ingest.lock().await;
        let mut result = None;
        for item in items {
            match item {
                Item::Bytes { offset, bytes } => self.take_piece(&mut ingest, offset, &bytes).await?,
                Item::Result(line) => result = RunnerResult::find(&line),
            }
        }
        self.logs.flush(&mut ingest).await?;
        let Some(result) = result.filter(|result| result.attempt() == attempt) else { return Ok(()) };
        let (size, sha256) = result.log();
        let tail = match self.logs.complete(&mut ingest, size, &sha256).await {
            Err(IngestError::Offset { wanted }) => self.logs.give_up(&mut ingest, wanted, size).await?,
            other => other?,
        };
        drop(ingest);
        Ok(self.attempt_ended(result, tail).await?)
    }

    /// Pieces come again after a reboot or a second delivery: only what is new is taken.
    async fn take_piece(&self, ingest: &mut Ingest, offset: u64, bytes: &[u8]) -> Result<(), IngestError> {
        let wanted = ingest.wanted();
        let known = usize::try_from(wanted.saturating_sub(offset)).unwrap_or(usize::MAX);
        match bytes.get(known..) {
            // A hole: a later delivery brings the whole log again, or the end says what is missing.
            _ if offset > wanted => Ok(()),
            Some(new) if !new.is_empty() => self.logs.take(ingest, wanted, new).await,
            _ => Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deployments_side_by_side_keep_their_own_cursors() {
        let readings = Readings::default();
        let key = |deployment, attempt| (deployment, attempt, "command".to_owned());
        for (deployment, attempt) in [(1, 10), (1, 11), (2, 20)] {
            let frames = Frames::new("nonce");
            let reading = Reading { token: Some("t".into()), frames, last: Instant::now() };
            readings.put(key(deployment, attempt), reading);
        }
        readings.keep(1, &HashSet::from([10]));
        assert!(readings.take(&key(1, 11)).is_none(), "that one has ended");
        assert!(readings.take(&key(1, 10)).is_some() && readings.take(&key(2, 20)).is_some());
    }
}
