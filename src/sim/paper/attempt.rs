//! One attempt on a paper instance: its log, what it was asked meanwhile, and its result, word for word as the runner has them.

use std::fmt::Write as _;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use sha2::{Digest, Sha256};
use tokio::sync::watch;

use crate::revision::script::{Rendered, Row};

/// What a failure repeats of its hook's output.
const TAIL_LINES: usize = 20;
const TAIL_BYTES: usize = 1200;

/// Whether the attempt was asked to stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Stop {
    No,
    /// After the event in work.
    After,
    Now,
}

/// How an attempt ended.
#[derive(Clone, Debug)]
pub(super) struct Ended {
    /// `drover: result …`.
    pub(super) line: String,
    /// The runner's exit code.
    pub(super) code: i64,
    /// `drover: tail …` lines of a failed hook's output.
    pub(super) tail: String,
    /// Of the log.
    pub(super) size: usize,
    /// Of the log, hexadecimal.
    pub(super) sha256: String,
}

/// A result's own fields.
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
    /// The event and the hook in work; no hook between two.
    place: (String, String),
    /// The output of the last hook, for a failure's tail.
    hook: Option<(usize, usize)>,
    /// The command that ran it was killed.
    lost: bool,
}

impl Log {
    /// Ends a line that was cut.
    fn start_line(&mut self) {
        if self.bytes.last().is_some_and(|last| *last != b'\n') {
            self.bytes.push(b'\n');
        }
    }
}

/// Shared by the command that runs the attempt, those that follow it, and the uploader of its log.
#[derive(Debug)]
pub(super) struct Attempt {
    /// This instance's row of the script.
    pub(super) row: Row,
    /// The script.
    pub(super) script: Arc<Rendered>,
    log: Mutex<Log>,
    /// Told by commands that stop it.
    pub(super) stop: watch::Sender<Stop>,
    /// Some once it is over.
    pub(super) ended: watch::Sender<Option<Ended>>,
}

impl Attempt {
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

    /// Whether a command has it in hand.
    pub(super) fn is_in_work(&self) -> bool {
        !self.log().lost && self.ended.borrow().is_none()
    }

    /// The command that ran it was killed: nothing more comes of it.
    pub(super) fn lose(&self) {
        self.log().lost = true;
    }

    /// The log from this offset on.
    pub(super) fn bytes_from(&self, offset: usize) -> Vec<u8> {
        self.log().bytes.get(offset..).unwrap_or_default().to_vec()
    }

    pub(super) fn size(&self) -> usize {
        self.log().bytes.len()
    }

    /// Lets the log go: the daemon has it, or will never ask for it again.
    pub(super) fn forget_log(&self) {
        self.log().bytes = Vec::new();
    }

    fn control(&self, log: &mut Log, words: &str) {
        log.start_line();
        let line = format!("\u{1e}drover {} {words} at={}\n", self.row.nonce, now());
        log.bytes.extend_from_slice(line.as_bytes());
    }

    /// Writes the line before a hook, or before an event without one.
    pub(super) fn begin(&self, event: &str, hook: &str) {
        let mut log = self.log();
        log.place = (event.to_owned(), hook.to_owned());
        self.control(&mut log, &format!("begin event={event} hook={}", word(hook)));
        log.hook = Some((log.bytes.len(), log.bytes.len()));
    }

    /// Writes the line after it.
    pub(super) fn end(&self, event: &str, hook: &str, code: i64) {
        let mut log = self.log();
        let end = log.bytes.len();
        if let Some((_, to)) = &mut log.hook {
            *to = end;
        }
        log.place = (event.to_owned(), "-".to_owned());
        self.control(&mut log, &format!("end event={event} hook={} exit={code}", word(hook)));
    }

    /// Writes what a hook prints; how much of it isn't kept, because the log is full.
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

    /// Records how it ended, once: the first result stands.
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
        self.control(&mut log, &format!("finish status={status} event={event} exit={exit}"));
        let (size, sha256) = (log.bytes.len(), hex::encode(Sha256::digest(&log.bytes)));
        drop(log);
        let line = self.result(verdict, size, &sha256, current);
        self.ended.send_replace(Some(Ended { line, code: *code, tail, size, sha256 }));
    }

    /// Records it as interrupted: whoever ran it is gone. Another attempt that finds it so doesn't know its nonce.
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

/// A result that is not recorded, since nothing was done.
pub(super) fn reply(attempt: i64, status: &str, exit: i64) -> String {
    let sha256 = hex::encode(Sha256::digest(b""));
    format!(
        "drover: result attempt={attempt} status={status} event=- hook=- exit={exit} bytes=0 sha256={sha256} at={}\n",
        now()
    )
}

/// Unix time in seconds.
pub(super) fn now() -> i64 {
    jiff::Timestamp::now().as_second()
}

/// A hook's name as one word.
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

/// The last lines of a hook's output, each marked.
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
