//! Reads a deployment's log: from the store by number, then live.

use super::Logs;
use crate::{
    api::LogLine,
    store::{Chunk, ChunkFilter, StoreError},
};
use futures_util::{Stream, stream};
use jiff::Timestamp;
use regex::bytes::{Regex, RegexBuilder};
use std::{collections::VecDeque, sync::Arc};

/// Chunks fetched at a time.
const CHUNKS: i64 = 64;
/// Bytes that a compiled pattern may take.
const LARGEST_PATTERN: usize = 1 << 20;

/// The lines of a log that a reader wants.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// Only lines after this number.
    pub after: i64,
    /// Only lines of these chunks.
    pub filter: ChunkFilter,
    /// Only lines that this pattern matches.
    pub pattern: Option<Regex>,
    /// Whether to continue until the deployment has ended; otherwise only what is there is read.
    pub follow: bool,
}

impl Wanted {
    /// The lines of a chunk after `seq` that are wanted.
    fn rows(&self, chunk: Chunk, seq: i64) -> Vec<LogLine> {
        let Some(pattern) = &self.pattern else { return rows(chunk, seq).collect() };
        // Most chunks hold nothing that is looked for: their lines are not taken apart.
        if !pattern.is_match(&chunk.payload) {
            return Vec::new();
        }
        rows(chunk, seq).filter(|row| pattern.is_match(row.text.as_bytes())).collect()
    }
}

/// Reads a pattern to look for in lines: a regular expression, in which `^` and `$` stand for a line's start and end. The
/// error says what is wrong with it.
pub fn pattern(text: &str) -> Result<Regex, String> {
    RegexBuilder::new(text)
        .multi_line(true)
        .size_limit(LARGEST_PATTERN)
        .build()
        .map_err(|error| format!("the pattern '{text}' can't be used: {error}"))
}

/// Returns the rows of a chunk after `seq`.
fn rows(chunk: Chunk, seq: i64) -> impl Iterator<Item = LogLine> {
    let Chunk { first_seq, at, instance, event, attempt, source, payload, .. } = chunk;
    let at = Timestamp::from_millisecond(at).unwrap_or_default();
    let lines: Vec<String> = payload
        .strip_suffix(b"\n")
        .unwrap_or(&payload)
        .split(|byte| *byte == b'\n')
        .map(|line| String::from_utf8_lossy(line).into_owned())
        .collect();
    (first_seq..).zip(lines).filter(move |(number, _)| *number > seq).map(move |(seq, text)| LogLine {
        seq,
        at,
        instance: instance.clone(),
        event: event.clone(),
        attempt,
        source: source.clone(),
        text,
    })
}

impl Logs {
    /// Streams batches of rows as they come, until the deployment ends, or until the end of what is there.
    pub fn follow(
        self: &Arc<Self>,
        deployment: i64,
        wanted: Wanted,
    ) -> impl Stream<Item = Result<Vec<LogLine>, StoreError>> + Send + use<> {
        let reader = Reader {
            news: self.subscribe(deployment),
            logs: Arc::clone(self),
            deployment,
            seq: wanted.after,
            wanted,
            ended: false,
            chunks: VecDeque::new(),
        };
        stream::try_unfold(
            reader,
            |mut reader| async move { Ok(reader.next().await?.map(|rows| (rows, reader))) },
        )
    }
}

/// The last lines of a log.
#[derive(Debug, Default)]
pub struct LastLines {
    /// In order.
    pub rows: Vec<LogLine>,
    /// Whether there are earlier ones.
    pub earlier: bool,
}

impl Logs {
    /// Returns the last lines of a deployment, or of one instance in it: at most so many, and so many bytes.
    pub async fn last(
        &self,
        deployment: i64,
        instance: Option<&str>,
        lines: usize,
        bytes: usize,
    ) -> Result<LastLines, StoreError> {
        let filter = ChunkFilter { instance: instance.map(str::to_owned), ..ChunkFilter::default() };
        let (mut last, mut size, mut before) = (VecDeque::new(), 0, i64::MAX);
        loop {
            let chunks = self.store.chunks_before(deployment, &filter, before, CHUNKS).await?;
            let Some(first) = chunks.last().map(|chunk| chunk.first_seq) else {
                return Ok(LastLines { rows: last.into(), earlier: false });
            };
            before = first;
            for chunk in chunks {
                let mut rows: Vec<LogLine> = rows(chunk, 0).collect();
                while let Some(row) = rows.pop() {
                    size += row.text.len();
                    if last.len() == lines || size > bytes && !last.is_empty() {
                        return Ok(LastLines { rows: last.into(), earlier: true });
                    }
                    last.push_front(row);
                }
            }
        }
    }
}

struct Reader {
    logs: Arc<Logs>,
    news: tokio::sync::watch::Receiver<u64>,
    deployment: i64,
    seq: i64,
    wanted: Wanted,
    ended: bool,
    chunks: VecDeque<Chunk>,
}

impl Reader {
    async fn next(&mut self) -> Result<Option<Vec<LogLine>>, StoreError> {
        loop {
            if let Some(chunk) = self.chunks.pop_front() {
                let after = self.seq;
                self.seq = chunk.first_seq + chunk.lines - 1;
                let rows = self.wanted.rows(chunk, after);
                if rows.is_empty() {
                    continue;
                }
                return Ok(Some(rows));
            }
            self.news.borrow_and_update();
            // Whether it has ended is asked first: what was written before that is then found.
            let ended = self.ended || !self.wanted.follow || self.has_ended().await?;
            let (store, filter) = (&self.logs.store, &self.wanted.filter);
            let chunks = store.chunks_after(self.deployment, filter, self.seq, CHUNKS).await?;
            self.chunks = chunks.into();
            if !self.chunks.is_empty() {
                continue;
            }
            if ended {
                return Ok(None);
            }
            // A sender that is gone means that the daemon stops.
            if self.news.changed().await.is_err() {
                return Ok(None);
            }
        }
    }

    /// Whether the deployment has ended, or halted with everything in order.
    async fn has_ended(&mut self) -> Result<bool, StoreError> {
        let row = self.logs.store.deployment(self.deployment).await?;
        self.ended = row.is_none_or(|row| row.finished_at.is_some() || row.settled != 0);
        Ok(self.ended)
    }
}
