//! Logs without inbound traffic: the agents upload what the runner prints to CloudWatch Logs, and it is read from there by
//! one reader for the whole daemon, outside the planners' ticks.

use crate::{
    engine::{Engine, LogEnd, RunnerResult},
    fleet::{Kind, logs::output_stream},
    logs::{
        frames::{Frames, Item},
        ingest::{Ingest, IngestError},
    },
    store::{DeploymentRow, Upload},
};
use futures_util::{StreamExt as _, stream::FuturesUnordered};
use jiff::{SignedDuration, Timestamp};
use std::{
    collections::{HashMap, HashSet},
    sync::{Arc, PoisonError, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::time::MissedTickBehavior;
use tracing::warn;

/// Calls in a second: 30 % of the 25 GetLogEvents that AWS allows an account and region (10 in the smallest regions, which
/// throttling tells).
const READS_PER_SECOND: u32 = 7;
/// Calls that may wait for their answers at the same time.
const AT_ONCE: usize = 8;
/// A stream is read this often at most: the agent uploads once a second.
const READ_EVERY: Duration = Duration::from_millis(900);
/// How often it is looked which logs there are to read.
const LIST_EVERY: Duration = Duration::from_millis(500);
/// The rest of a log is read for so long after its attempt's outcome was known without it.
const AFTERWARDS: SignedDuration = SignedDuration::from_mins(10);
/// The runner prints at once, and the agent uploads each second: without a stream for so long, something is wrong.
const NO_STREAM: Duration = Duration::from_secs(15);
/// A command that is over leaves its log this long to come in before its outcome counts without it: the status comes after
/// the final upload, the reader some seconds after that.
const GRACE: SignedDuration = SignedDuration::from_secs(20);

/// How far the log of one attempt has been read.
struct Reading {
    upload: Upload,
    token: Option<String>,
    frames: Frames,
    /// When it is to be read again.
    due: Instant,
    /// Since when its stream isn't there.
    missing: Instant,
}

impl Reading {
    fn new(upload: Upload, nonce: &str) -> Reading {
        let now = Instant::now();
        Reading { upload, token: None, frames: Frames::new(nonce), due: now, missing: now }
    }
}

impl Engine {
    /// Makes the log group, once a start; where that is not allowed it must have been made by hand.
    pub(super) async fn ensure_log_group(&self, row: &DeploymentRow) -> anyhow::Result<()> {
        let group = self.config.aws.log_group.clone();
        if self.public_url.is_some() || self.log_group_made.load(Ordering::Relaxed) {
            return Ok(());
        }
        let now = Timestamp::now().as_millisecond();
        let request = serde_json::json!({ "logGroupName": group }).to_string();
        let key = format!("CreateLogGroup:{group}");
        let intent = self.store.record_intent(row.id, "CreateLogGroup", &key, &request, now).await?;
        let made = self.fleet.create_log_group(&group).await;
        let words = made.as_ref().err().map(ToString::to_string);
        let now = Timestamp::now().as_millisecond();
        self.store.finish_intent(intent, words.as_deref(), now).await?;
        if let Some(words) = words {
            let text =
                format!("{words}; without the log group {group} there is no live log: make it by hand");
            self.logs.note(row.id, None, &text).await?;
        }
        self.log_group_made.store(true, Ordering::Relaxed);
        Ok(())
    }

    /// How long the log of a command that is over is waited for.
    pub(super) fn upload_grace(&self) -> SignedDuration {
        // Each log is read at least twice in it.
        let round = i64::from(self.uploads.open.load(Ordering::Relaxed) / READS_PER_SECOND);
        GRACE.max(SignedDuration::from_secs(2 * round))
    }

    /// Reads what comes of all logs, until the daemon stops.
    pub(super) async fn follow_uploads(self: Arc<Self>) {
        let mut list = tokio::time::interval(LIST_EVERY);
        let mut pace = tokio::time::interval(Duration::from_secs(1) / READS_PER_SECOND);
        list.set_missed_tick_behavior(MissedTickBehavior::Delay);
        pace.set_missed_tick_behavior(MissedTickBehavior::Delay);
        // None: it is being read.
        let mut open: HashMap<i64, Option<Reading>> = HashMap::new();
        let mut reads = FuturesUnordered::new();
        loop {
            tokio::select! {
                _ = list.tick() => {
                    if let Err(error) = self.list_uploads(&mut open).await {
                        warn!("looking for logs to read: {error}");
                    }
                }
                _ = pace.tick(), if reads.len() < AT_ONCE => {
                    let now = Instant::now();
                    // The one that has waited longest.
                    let due = open.values_mut().filter(|reading| reading.as_ref().is_some_and(|r| r.due <= now));
                    let next = due.min_by_key(|reading| reading.as_ref().map(|r| r.due));
                    if let Some(reading) = next.and_then(Option::take) {
                        reads.push(self.read_upload(reading));
                    }
                }
                Some(reading) = reads.next() => {
                    // It may have left the list meanwhile.
                    if let Some(place) = open.get_mut(&reading.upload.attempt) {
                        *place = Some(reading);
                    }
                }
                () = self.stop.cancelled() => return,
            }
        }
    }

    async fn list_uploads(&self, open: &mut HashMap<i64, Option<Reading>>) -> anyhow::Result<()> {
        let some_run = !self.running.lock().unwrap_or_else(PoisonError::into_inner).is_empty();
        let since = (Timestamp::now() - AFTERWARDS).as_millisecond();
        let uploads = if some_run { self.store.open_uploads(since).await? } else { Vec::new() };
        let wanted: HashSet<i64> = uploads.iter().map(|upload| upload.attempt).collect();
        open.retain(|attempt, _| wanted.contains(attempt));
        for upload in uploads {
            let nonce = self.secrets.nonce(upload.attempt);
            open.entry(upload.attempt).or_insert_with(|| Some(Reading::new(upload, &nonce)));
        }
        self.uploads.open.store(u32::try_from(open.len()).unwrap_or(u32::MAX), Ordering::Relaxed);
        if !some_run {
            self.uploads.said.lock().unwrap_or_else(PoisonError::into_inner).clear();
        }
        Ok(())
    }

    /// One call for one log.
    async fn read_upload(&self, mut reading: Reading) -> Reading {
        let Upload { attempt, deployment, instance, command } = reading.upload.clone();
        let group = &self.config.aws.log_group;
        reading.due = Instant::now() + READ_EVERY;
        let page = match self.fleet.command_output(group, &command, &instance, reading.token.clone()).await {
            Ok(page) => page,
            Err(error) => {
                warn!(deployment, instance, "the log can't be read: {error}");
                if error.kind != Kind::Throttled && self.first_said(deployment) {
                    let text = format!(
                        "the log can't be read: {error}; the daemon needs logs:GetLogEvents on {group}. The hooks go on, and how \
                         they end is known without it"
                    );
                    self.note_of_upload(deployment, &instance, &text).await;
                }
                return reading;
            }
        };
        if page.token.is_none() {
            if reading.missing.elapsed() > NO_STREAM {
                self.look_for_stream(&reading.upload).await;
                reading.missing = Instant::now();
            }
            return reading;
        }
        reading.token = page.token;
        if page.more {
            reading.due = Instant::now();
        }
        let mut items = Vec::new();
        for message in page.messages {
            reading.frames.event(&message, |item| items.push(item));
        }
        if let Err(error) = self.take_uploaded(attempt, items).await {
            warn!(deployment, instance, "the log can't be stored: {error:#}; it is read from its beginning");
            return Reading::new(reading.upload, &self.secrets.nonce(attempt));
        }
        reading
    }

    /// No stream for a while: the command may not have been delivered yet; if it runs, somebody lacks a permission.
    async fn look_for_stream(&self, upload: &Upload) {
        let Upload { deployment, instance, command, .. } = upload;
        let Ok(invocations) = self.fleet.invocations(command).await else { return };
        let runs = |status: &str| !["pending", "delayed"].contains(&status) && !status.contains("deliver");
        let runs = invocations.iter().any(|i| i.instance == *instance && runs(&i.status));
        if runs && self.first_said(*deployment) {
            let text = format!(
                "no log has come for {} s, though the command runs: there is no stream {} in {}. The instances' role needs \
                 logs:CreateLogStream, logs:DescribeLogStreams and logs:PutLogEvents on it, and logs:DescribeLogGroups on '*'. The \
                 hooks go on, and how they end is known without it",
                NO_STREAM.as_secs(),
                output_stream(command, instance),
                self.config.aws.log_group
            );
            self.note_of_upload(*deployment, instance, &text).await;
        }
    }

    fn first_said(&self, deployment: i64) -> bool {
        self.uploads.said.lock().unwrap_or_else(PoisonError::into_inner).insert(deployment)
    }

    async fn note_of_upload(&self, deployment: i64, instance: &str, text: &str) {
        if let Err(error) = self.logs.note(deployment, Some(instance), text).await {
            warn!(deployment, instance, "{text} (the deployment's log can't be written: {error})");
        }
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
        let wanted = ingest.wanted();
        let end = if wanted < size {
            LogEnd::Cut { wanted, size }
        } else {
            LogEnd::Whole { size, sha256: &sha256 }
        };
        Ok(self.attempt_ended(&mut ingest, end, Some(result)).await?)
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
