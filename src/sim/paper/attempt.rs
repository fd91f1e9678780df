//! One attempt on a paper instance: its log, whether it was asked to stop, and its result, word for word as the runner
//! writes them.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::revision::script::{Rendered, Row};

/// How many lines of its hook's output a failure repeats at most.
const TAIL_LINES: usize = 20;
/// How many bytes of its hook's output a failure repeats at most.
const TAIL_BYTES: usize = 1200;

/// Whether the attempt was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// It was not.
    No,
    /// It is to stop after the event under way.
    After,
    /// It is to stop at once.
    Now,
}

/// The result of an attempt that has ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// The line `drover: result …`.
    pub(super) line: String,
    /// The runner's exit code.
    pub(super) code: i64,
    /// The lines `drover: tail …`, which repeat the end of a failed hook's output.
    pub(super) tail: String,
    /// The log's size, bytes.
    pub(super) size: usize,
    /// The log's SHA-256, hexadecimal.
    pub(super) sha256: String,
}

/// The fields of a result that the runner decides.
pub(super) struct Verdict<'a> {
    pub(super) status: &'a str,
    pub(super) event: &'a str,
    pub(super) hook: &'a str,
    pub(super) exit: i64,
    /// The runner's exit code.
    pub(super) code: i64,
}

#[derive(Debug, Default)]
struct Log {
    bytes: Vec<u8>,
    /// The event and the hook under way; `-` between two hooks.
    place: (String, String),
    /// Where the output of the last hook begins and ends, for a failure's tail.
    hook: Option<(usize, usize)>,
    /// Whether the command that ran the attempt was killed.
    lost: bool,
}

impl Log {
    /// Ends the last line, if it has no end yet.
    fn start_line(&mut self) {
        if self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.bytes.push(b'\n');
        }
    }
}

/// An attempt, shared by the command that runs it, those that follow it, and the push of its log.
#[derive(Debug)]
pub(super) struct Attempt {
    /// This instance's row of the script.
    pub(super) row: Row,
    /// The script.
    pub(super) script: Arc<Rendered>,
    log: Mutex<Log>,
    /// Whether commands have asked it to stop.
    pub(super) stop: watch::Sender<Stop>,
    /// Its result, once it has ended.
    pub(super) ended: watch::Sender<Option<Ended>>,
}

impl Attempt {
    /// Begins an attempt with an empty log.
    pub(super) fn new(row: Row, script: Arc<Rendered>) -> Self {
        let log = Log { place: (row.first.to_string(), "-".into()), ..Log::default() };
        Self {
            row,
            script,
            log: Mutex::new(log),
            stop: watch::Sender::new(Stop::No),
            ended: watch::Sender::new(None),
        }
    }

    fn log(&self) -> MutexGuard<'_, Log> {
        self.log.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Whether a command still runs the attempt.
    pub(super) fn is_running(&self) -> bool {
        !self.log().lost && self.ended.borrow().is_none()
    }

    /// Gives the attempt up: the command that ran it was killed.
    pub(super) fn lose(&self) {
        self.log().lost = true;
    }

    /// Returns the log from this offset on.
    pub(super) fn bytes_from(&self, offset: usize) -> Vec<u8> {
        self.log().bytes.get(offset..).unwrap_or_default().to_vec()
    }

    /// Returns the log's size, bytes.
    pub(super) fn size(&self) -> usize {
        self.log().bytes.len()
    }

    /// Drops the log: the daemon has it, or will never ask for it again.
    pub(super) fn forget_log(&self) {
        self.log().bytes = Vec::new();
    }

    /// Writes a line that the daemon reads.
    fn write_control(&self, log: &mut Log, words: &str) {
        log.start_line();
        let line = format!("\u{1e}drover {} {words} at={}\n", self.row.nonce, now());
        log.bytes.extend_from_slice(line.as_bytes());
    }

    /// Writes the line before a hook, or before an event without one.
    pub(super) fn begin(&self, event: &str, hook: &str) {
        let mut log = self.log();
        log.place = (event.to_owned(), hook.to_owned());
        self.write_control(&mut log, &format!("begin event={event} hook={}", word(hook)));
        log.hook = Some((log.bytes.len(), log.bytes.len()));
    }

    /// Writes the line after a hook, or after an event without one.
    pub(super) fn end(&self, event: &str, hook: &str, code: i64) {
        let mut log = self.log();
        let end = log.bytes.len();
        if let Some((_, to)) = &mut log.hook {
            *to = end;
        }
        log.place = (event.to_owned(), "-".to_owned());
        self.write_control(&mut log, &format!("end event={event} hook={} exit={code}", word(hook)));
    }

    /// Writes what a hook prints; returns how many bytes of it are not kept because the log is full.
    pub(super) fn print(&self, text: &str) -> usize {
        let mut log = self.log();
        let room = (self.script.log_max / 512 * 512).saturating_sub(log.bytes.len());
        let kept = text.len().min(room);
        log.bytes.extend_from_slice(&text.as_bytes()[..kept]);
        text.len() - kept
    }

    /// Writes a line of the runner's own.
    pub(super) fn remark(&self, words: &str) {
        let mut log = self.log();
        log.start_line();
        log.bytes.extend_from_slice(format!("drover: {words}\n").as_bytes());
    }

    /// Records the result, once: the first one stands.
    pub(super) fn finish(&self, verdict: &Verdict<'_>, current: &str) {
        if self.ended.borrow().is_some() {
            return;
        }
        let Verdict { status, event, exit, code, .. } = verdict;
        let mut log = self.log();
        let tail = match log.hook {
            Some((from, to)) if *status == "failed" => tail(&log.bytes[from..to.max(from)]),
            _ => String::new(),
        };
        self.write_control(&mut log, &format!("finish status={status} event={event} exit={exit}"));
        let (size, sha256) = (log.bytes.len(), hex::encode(Sha256::digest(&log.bytes)));
        drop(log);
        let line = self.result(verdict, size, &sha256, current);
        self.ended.send_replace(Some(Ended { line, code: *code, tail, size, sha256 }));
    }

    /// Records the attempt as interrupted, because the command that ran it is gone. Only the attempt itself (`by_itself`)
    /// knows its nonce and can write a last line into its log.
    pub(super) fn interrupt(&self, by_itself: bool, current: &str) {
        let (event, hook) = self.log().place.clone();
        let verdict = Verdict { status: "interrupted", event: &event, hook: &hook, exit: 71, code: 71 };
        if by_itself {
            return self.finish(&verdict, current);
        }
        let bytes = self.bytes_from(0);
        let (size, sha256) = (bytes.len(), hex::encode(Sha256::digest(&bytes)));
        let line = self.result(&verdict, size, &sha256, current);
        self.ended.send_replace(Some(Ended { line, code: 71, tail: String::new(), size, sha256 }));
    }

    /// Records that it was stopped before it began.
    pub(super) fn stop_before(&self, current: &str) {
        let verdict = Verdict { status: "stopped", event: "-", hook: "-", exit: 0, code: 72 };
        let sha256 = hex::encode(Sha256::digest(b""));
        let line = self.result(&verdict, 0, &sha256, current);
        self.ended.send_replace(Some(Ended { line, code: 72, tail: String::new(), size: 0, sha256 }));
    }

    /// Formats the result's line.
    fn result(&self, verdict: &Verdict<'_>, size: usize, sha256: &str, current: &str) -> String {
        let Verdict { status, event, hook, exit, .. } = verdict;
        format!(
            "drover: result attempt={} status={status} event={event} hook={} exit={exit} bytes={size} sha256={sha256} at={} \
             current={current}",
            self.row.attempt,
            word(hook),
            now()
        )
    }
}

/// Formats a result that is not recorded, because nothing was done.
pub(super) fn unrecorded_result(attempt: i64, status: &str, exit: i64) -> String {
    let sha256 = hex::encode(Sha256::digest(b""));
    format!(
        "drover: result attempt={attempt} status={status} event=- hook=- exit={exit} bytes=0 sha256={sha256} at={}\n",
        now()
    )
}

/// Returns the Unix time in seconds.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// Encodes a hook's name as one word.
fn word(name: &str) -> String {
    let mut word = String::with_capacity(name.len());
    for c in name.chars() {
        match c {
            '%' => word.push_str("%25"),
            c if c.is_ascii_whitespace() => word.push_str("%20"),
            c => word.push(c),
        }
    }
    if word.is_empty() { "-".into() } else { word }
}

/// Returns the last lines of a hook's output, each marked.
fn tail(output: &[u8]) -> String {
    let output = String::from_utf8_lossy(output);
    let lines: Vec<&str> = output.lines().collect();
    let last = lines[lines.len().saturating_sub(TAIL_LINES)..].join("\n");
    let mut from = last.len().saturating_sub(TAIL_BYTES);
    while !last.is_char_boundary(from) {
        from += 1;
    }
    last[from..].lines().fold(String::new(), |mut all, line| {
        let _ = writeln!(all, "drover: tail {line}");
        all
    })
}
