//! Receives the log of one attempt: a byte stream with offsets, resumed wherever it was interrupted.
//!
//! What is stored is remembered as an offset in the same transaction as the lines. After a restart of the daemon the
//! host is asked for the file from its start: the bytes that are stored already are only hashed and parsed again, so
//! that the checksum at the end is one over the whole file.

use super::{
    Logs,
    annotation::Annotation,
    lines_of, note_chunk,
    parse::{Control, Item},
    queue::Piece,
};
use crate::store::StoreError;
use jiff::Timestamp;
use sha2::Digest as _;
use std::sync::{Arc, PoisonError};
use thiserror::Error;

pub use super::incoming::Ingest;

/// The bytes of pending lines after which they are stored.
const FLUSH_BYTES: usize = 64 * 1024;
/// The host stops at the budget itself and says so; what it says, and its control lines, come on top.
const MARGIN: u64 = 1024 * 1024;
/// Annotations kept of one attempt; a hook that prints more of them has plain lines then.
const MOST_ANNOTATIONS: usize = 100;
/// Last lines kept of the event in work, for the failure's words.
const TAIL_LINES: usize = 20;
/// A tail's line is cut to this; it is for people.
const TAIL_LINE_BYTES: usize = 500;

/// Why a piece of log is not accepted.
#[derive(Debug, Error)]
pub enum IngestError {
    /// The attempt is unknown.
    #[error("no such attempt")]
    Unknown,
    /// Its log is complete; nothing more is accepted.
    #[error("the log of this attempt is complete")]
    Complete,
    /// The piece doesn't begin where the last one ended.
    #[error("bytes from {wanted} on are wanted")]
    Offset {
        /// The offset from which bytes are wanted.
        wanted: u64,
    },
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// Forgets the log of an attempt when it is dropped: it is over, or else it isn't known whether its lines are stored (the
/// store's answer to a commit may have been lost, or nobody waits for it any more), and its host is asked for the file from
/// its start.
struct ForgetOnDrop<'a> {
    logs: &'a Logs,
    attempt: i64,
}

impl Drop for ForgetOnDrop<'_> {
    fn drop(&mut self) {
        self.logs.receiving.lock().unwrap_or_else(PoisonError::into_inner).remove(&self.attempt);
    }
}

impl Logs {
    /// Returns the log of an attempt that is being received; the nonce marks its control lines.
    pub async fn receive(
        &self,
        attempt: i64,
        nonce: &str,
    ) -> Result<Arc<tokio::sync::Mutex<Ingest>>, IngestError> {
        let row = self.store.attempt(attempt).await?.ok_or(IngestError::Unknown)?;
        if row.log_complete != 0 {
            return Err(IngestError::Complete);
        }
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        let ingest = receiving.entry(attempt).or_insert_with(|| {
            let stored = u64::try_from(row.log_bytes).unwrap_or(0);
            let ingest = Ingest::new(row.deployment, attempt, row.instance, nonce, stored);
            Arc::new(tokio::sync::Mutex::new(ingest))
        });
        Ok(Arc::clone(ingest))
    }

    /// Returns how many bytes of one attempt's file are kept at most.
    fn most_bytes(&self) -> u64 {
        self.budget + MARGIN
    }

    /// Forgets what is being received for a deployment that is over: nothing more will come of it.
    pub fn forget(&self, deployment: i64) {
        let mut receiving = self.receiving.lock().unwrap_or_else(PoisonError::into_inner);
        // One that is in use removes itself, or is complete.
        receiving
            .retain(|_, ingest| ingest.try_lock().map_or(true, |ingest| ingest.deployment != deployment));
    }

    /// Stores what is pending.
    pub async fn flush(&self, ingest: &mut Ingest) -> Result<(), IngestError> {
        if ingest.parsed <= ingest.stored {
            return Ok(());
        }
        let lines = std::mem::take(&mut ingest.lines);
        ingest.stored = self.store_chunk(ingest, "hook", ingest.event.clone(), lines).await?;
        Ok(())
    }

    /// Stores a chunk, and with it how far the file has been read, which it returns.
    async fn store_chunk(
        &self,
        ingest: &Ingest,
        source: &'static str,
        event: Option<String>,
        lines: Vec<u8>,
    ) -> Result<u64, IngestError> {
        let piece = Piece {
            deployment: ingest.deployment,
            attempt: ingest.attempt,
            instance: ingest.instance.clone(),
            event,
            source,
            lines,
            at: Timestamp::now().as_millisecond(),
            read: ingest.parsed,
        };
        let unless_stored = ForgetOnDrop { logs: self, attempt: ingest.attempt };
        self.write(piece).await?;
        std::mem::forget(unless_stored);
        Ok(ingest.parsed)
    }

    /// Accepts bytes at `offset` of the file.
    pub async fn take(&self, ingest: &mut Ingest, offset: u64, bytes: &[u8]) -> Result<(), IngestError> {
        if offset != ingest.taken {
            return Err(IngestError::Offset { wanted: ingest.taken });
        }
        ingest.taken += bytes.len() as u64;
        if ingest.finished {
            return Ok(());
        }
        ingest.unhashed.extend_from_slice(bytes);
        let mut items = Vec::new();
        ingest.parser.feed(bytes, |item, length| items.push((item, length)));
        self.take_items(ingest, items).await
    }

    async fn take_items(&self, ingest: &mut Ingest, items: Vec<(Item, usize)>) -> Result<(), IngestError> {
        let mut hashed = 0;
        for (item, length) in items {
            if ingest.finished {
                break;
            }
            let end = (hashed + length).min(ingest.unhashed.len());
            ingest.hasher.update(&ingest.unhashed[hashed..end]);
            hashed = end;
            let is_new = ingest.parsed + length as u64 > ingest.stored;
            match item {
                Item::Line(line) => {
                    if ingest.tail.len() == TAIL_LINES {
                        ingest.tail.pop_front();
                    }
                    let end = line.len().min(TAIL_LINE_BYTES);
                    ingest.tail.push_back(String::from_utf8_lossy(&line[..end]).into_owned());
                    let (before, after) = (ingest.parsed, ingest.parsed + length as u64);
                    let fits = after <= self.most_bytes();
                    let annotation =
                        Annotation::read(&line).filter(|_| ingest.annotations < MOST_ANNOTATIONS);
                    ingest.annotations += usize::from(annotation.is_some());
                    if let Some(annotation) = annotation.filter(|_| is_new && fits) {
                        self.flush(ingest).await?;
                        ingest.parsed = after;
                        let (source, event) = (annotation.level.name(), ingest.event.clone());
                        ingest.stored = self
                            .store_chunk(ingest, source, event, [line.as_slice(), b"\n"].concat())
                            .await?;
                    } else if is_new && fits {
                        ingest.lines.extend_from_slice(&line);
                        ingest.lines.push(b'\n');
                    } else if is_new && before <= self.most_bytes() {
                        self.flush(ingest).await?;
                        ingest.parsed = after;
                        self.note_truncation(ingest).await?;
                    }
                    ingest.parsed = after;
                }
                Item::Control(control) => {
                    self.flush(ingest).await?;
                    ingest.parsed += length as u64;
                    self.take_control(ingest, control, is_new).await?;
                }
            }
            if ingest.lines.len() >= FLUSH_BYTES {
                self.flush(ingest).await?;
            }
        }
        ingest.unhashed.drain(..hashed);
        Ok(())
    }

    /// Writes that what follows is counted, and not kept.
    async fn note_truncation(&self, ingest: &mut Ingest) -> Result<(), IngestError> {
        let text = format!(
            "the log of attempt {} is longer than the {} MiB that are kept of one attempt (server.attempt_log_mib): what follows \
             is counted, and not kept",
            ingest.attempt,
            self.budget >> 20
        );
        ingest.stored = self.store_chunk(ingest, "drover", None, lines_of(&text)).await?;
        Ok(())
    }

    async fn take_control(
        &self,
        ingest: &mut Ingest,
        control: Control,
        is_new: bool,
    ) -> Result<(), IngestError> {
        let text = match (control.what.as_str(), control.exit) {
            ("begin", _) => {
                ingest.event = Some(control.event.clone());
                ingest.tail.clear();
                (control.hook != "-").then(|| format!("--- {} {}", control.event, control.hook))
            }
            ("finish", _) => {
                ingest.finished = true;
                None
            }
            ("end", Some(code)) if code != 0 => {
                Some(format!("{} {} ended with exit code {code}", control.event, control.hook))
            }
            _ => None,
        };
        if is_new && let Some(text) = text {
            let event = Some(control.event.clone());
            ingest.stored = self.store_chunk(ingest, "drover", event, lines_of(&text)).await?;
        }
        Ok(())
    }

    /// Completes the log: the host reports that its file is `size` bytes long and has this checksum. `outcome` makes
    /// the attempt's outcome (JSON) of the last lines of its last event; both are stored together. Returns whether the
    /// attempt had none before.
    pub async fn complete(
        &self,
        ingest: &mut Ingest,
        size: u64,
        sha256: &str,
        outcome: impl FnOnce(Vec<String>) -> Option<String> + Send,
    ) -> Result<bool, IngestError> {
        if ingest.taken < size {
            return Err(IngestError::Offset { wanted: ingest.taken });
        }
        let mut items = Vec::new();
        if !ingest.finished {
            ingest.parser.finish(|item, length| items.push((item, length)));
        }
        self.take_items(ingest, items).await?;
        let agrees = ingest.parsed == size && hex::encode(ingest.hasher.clone().finalize()) == sha256;
        let words = (!agrees).then(|| {
            format!(
                "the log of attempt {} is not whole: what came has another checksum than the host's file",
                ingest.attempt
            )
        });
        let over = size
            .checked_sub(self.most_bytes())
            .filter(|over| *over > 0)
            .map(|over| format!("of attempt {}, {over} bytes of log were not kept", ingest.attempt));
        let words = words.into_iter().chain(over).reduce(|all, more| format!("{all}; {more}"));
        self.end_log(ingest, size, words, outcome).await
    }

    /// Ends a log whose rest will not come: writes that, and stores the outcome all the same.
    pub async fn give_up(
        &self,
        ingest: &mut Ingest,
        wanted: u64,
        size: u64,
        outcome: impl FnOnce(Vec<String>) -> Option<String> + Send,
    ) -> Result<bool, IngestError> {
        let words = format!(
            "the log of attempt {} is not whole: of {size} bytes those from {wanted} on did not come",
            ingest.attempt
        );
        self.end_log(ingest, ingest.parsed, Some(words), outcome).await
    }

    /// Stores the end of a log, whole or not.
    async fn end_log(
        &self,
        ingest: &mut Ingest,
        size: u64,
        words: Option<String>,
        outcome: impl FnOnce(Vec<String>) -> Option<String> + Send,
    ) -> Result<bool, IngestError> {
        let _over = ForgetOnDrop { logs: self, attempt: ingest.attempt };
        self.flush(ingest).await?;
        let mut tx = self.store.write().await?;
        tx.set_log(ingest.attempt, i64::try_from(size).unwrap_or(i64::MAX), true).await?;
        if let Some(words) = words {
            let lines = lines_of(&words);
            tx.append_log(ingest.deployment, &note_chunk(Some(&ingest.instance), &lines)).await?;
        }
        let first = match outcome(ingest.tail.iter().cloned().collect()) {
            Some(outcome) => {
                tx.set_outcome(ingest.attempt, &outcome, Timestamp::now().as_millisecond()).await?
            }
            None => false,
        };
        tx.commit().await?;
        self.announce(ingest.deployment);
        Ok(first)
    }
}
