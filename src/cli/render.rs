//! Words and colours: how log lines, deployments and tables look in a terminal and in a pipe.
//!
//! May import `api`, and the daemon's words for a span of time and cleaning of text only.

use crate::logs::annotation::Annotation;
pub use crate::logs::clean::clean;
use std::collections::HashMap;
use std::fmt::Write as _;
use std::io::{self, IsTerminal, Write as _};

use jiff::{SignedDuration, Timestamp};

use crate::api::{Deployment, Instance, LogLine};
use crate::rollout::rehearse;

/// Colours given to instances in the order in which they appear: SGR numbers that read on dark and on light.
const COLOURS: [u8; 6] = [36, 33, 35, 34, 32, 96];
const RED: u8 = 31;
const GREEN: u8 = 32;
const YELLOW: u8 = 33;

/// Whether to colour, and whether control sequences have a terminal to act on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Look {
    /// Colours may be used: a terminal, and NO_COLOR isn't set.
    pub colour: bool,
    /// The output goes to a terminal.
    pub terminal: bool,
}

impl Look {
    /// How standard output is to look.
    pub fn of_stdout() -> Look {
        let terminal = io::stdout().is_terminal();
        let refused = std::env::var_os("NO_COLOR").is_some_and(|v| !v.is_empty());
        Look { colour: terminal && !refused && !is_dumb(), terminal }
    }

    fn paint(self, colour: u8, text: &str) -> String {
        if self.colour { format!("\x1b[{colour}m{text}\x1b[0m") } else { text.to_owned() }
    }

    /// A state in the colour of its meaning.
    pub fn state(self, state: &str) -> String {
        match state {
            "Succeeded" => self.paint(GREEN, state),
            "Failed" | "Cancelled" => self.paint(RED, state),
            "Halted" | "Paused" | "Partial" | "Waiting" | "Restoring" => self.paint(YELLOW, state),
            _ => state.to_owned(),
        }
    }

    /// An annotation's level in the colour of its meaning, at least so wide.
    pub fn annotation(self, level: &str, width: usize) -> String {
        let padded = format!("{level:<width$}");
        match level {
            "error" => self.paint(RED, &padded),
            "warning" => self.paint(YELLOW, &padded),
            _ => padded,
        }
    }

    /// Text from elsewhere: untouched in a pipe, without anything that moves the cursor in a terminal.
    pub fn foreign(self, text: &str) -> String {
        if self.terminal { clean(text, self.colour) } else { text.to_owned() }
    }
}

/// Whether the terminal can't move its cursor.
pub fn is_dumb() -> bool {
    std::env::var_os("TERM").is_some_and(|term| term == "dumb")
}

/// Writes to standard output at once; the error of a closed pipe is the caller's to pass on.
pub fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()
}

/// Prints and takes a closed pipe (`| head`) for a reader who has seen enough.
pub fn print_or_leave(text: &str) -> io::Result<()> {
    match print(text) {
        Err(e) if e.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Puts log rows into lines, each with its prefix.
#[derive(Debug)]
pub struct Lines {
    look: Look,
    /// The text goes out as the hook wrote it.
    raw: bool,
    width: usize,
    colours: HashMap<String, u8>,
}

impl Lines {
    /// Lines in this look; `raw`: with their text as the hooks wrote it.
    pub fn new(look: Look, raw: bool) -> Lines {
        Lines { look, raw, width: 0, colours: HashMap::new() }
    }

    /// Appends a row as `instance event | text` and a line feed.
    pub fn push(&mut self, row: &LogLine, out: &mut String) {
        let prefix = match (&row.instance, &row.event) {
            _ if row.is_drovers() => "drover".to_owned(),
            (Some(instance), Some(event)) => format!("{instance} {event}"),
            (Some(instance), None) => instance.clone(),
            (None, _) => "drover".to_owned(),
        };
        if self.look.terminal {
            // Prefixes line up in a terminal; a pipe gets them as they are, for grep and cut.
            self.width = self.width.max(prefix.len());
            let padded = format!("{prefix:<width$}", width = self.width);
            let colour = row.instance.as_deref().map(|instance| self.colour_of(instance));
            match colour {
                Some(colour) if !row.is_drovers() => out.push_str(&self.look.paint(colour, &padded)),
                _ => out.push_str(&padded),
            }
        } else {
            out.push_str(&prefix);
        }
        out.push_str(" | ");
        if let Some(instance) = row.instance.as_deref()
            && row.is_drovers()
            && !row.text.contains(instance)
        {
            let _ = write!(out, "{instance}: ");
        }
        let shows = self.look.terminal && !self.raw && row.is_annotation();
        if let Some(annotation) = Annotation::read(row.text.as_bytes()).filter(|_| shows) {
            let level = self.look.annotation(annotation.level.name(), 0);
            let _ = write!(out, "{level}: {}", clean(&annotation.text, false));
        } else if self.look.terminal && !self.raw {
            out.push_str(&clean(&row.text, self.look.colour));
        } else {
            out.push_str(&row.text);
        }
        out.push('\n');
    }

    fn colour_of(&mut self, instance: &str) -> u8 {
        if let Some(colour) = self.colours.get(instance) {
            return *colour;
        }
        let colour = COLOURS[self.colours.len() % COLOURS.len()];
        self.colours.insert(instance.to_owned(), colour);
        colour
    }
}

/// A table whose columns are as wide as their widest cell; the last one isn't padded. Cells are cleaned.
pub fn table(head: &[&str], rows: &[Vec<String>]) -> String {
    let mut all: Vec<Vec<String>> = vec![head.iter().map(|cell| (*cell).to_owned()).collect()];
    all.extend(rows.iter().map(|row| row.iter().map(|cell| clean(cell, false)).collect()));
    let width = |column: usize| {
        all.iter().filter_map(|r| r.get(column)).map(|c| console::measure_text_width(c)).max().unwrap_or(0)
    };
    let widths: Vec<usize> = (0..head.len()).map(width).collect();
    let mut out = String::new();
    for row in &all {
        let mut line = String::new();
        for (cell, width) in row.iter().zip(&widths) {
            line.push_str(cell);
            line.extend(std::iter::repeat_n(' ', width + 2 - console::measure_text_width(cell)));
        }
        out.push_str(line.trim_end());
        out.push('\n');
    }
    out
}

/// A span of time in words, as the daemon says it.
pub fn span(seconds: i64) -> String {
    rehearse::words(SignedDuration::from_secs(seconds))
}

/// Seconds since a moment.
pub fn since(moment: Timestamp, now: Timestamp) -> i64 {
    now.as_second() - moment.as_second()
}

/// Seconds that a deployment has taken, or takes until `now`.
pub fn elapsed(deployment: &Deployment, now: Timestamp) -> i64 {
    let start = deployment.started_at.unwrap_or(deployment.created_at);
    since(start, deployment.finished_at.unwrap_or(now))
}

/// A SHA as people read it.
pub fn short(sha: &str) -> &str {
    sha.get(..7).unwrap_or(sha)
}

/// `sample/demo 3f2a1b9 (main) “message”`: what goes where.
pub fn title(deployment: &Deployment) -> String {
    let revision = &deployment.revision;
    let mut out = format!("{} {}", deployment.group, short(&revision.sha));
    let asked = revision.requested.as_str();
    if !asked.is_empty() && !revision.sha.starts_with(asked) {
        let _ = write!(out, " ({asked})");
    }
    let first_line = revision.message.lines().next().unwrap_or_default();
    if !first_line.is_empty() {
        let _ = write!(out, " “{first_line}”");
    }
    clean(&out, false)
}

/// `4 ok, 1 failed, 1 in work of 6`; what is zero is left out.
pub fn counts(deployment: &Deployment) -> String {
    let c = deployment.counts;
    let parts = [
        (c.succeeded, "ok"),
        (c.failed, "failed"),
        (c.in_work, "in work"),
        (c.pending, "pending"),
        (c.skipped, "skipped"),
        (c.restored, "restored"),
        (c.gone, "gone"),
    ];
    let said: Vec<String> =
        parts.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
    let said = if said.is_empty() { "0 ok".to_owned() } else { said.join(", ") };
    format!("{said} of {}", c.total)
}

/// Why an instance is where it is, in one line.
pub fn why(instance: &Instance) -> String {
    instance.reason.clone().or_else(|| instance.explain.clone()).unwrap_or_default()
}

/// What is said when a deployment has ended: state, reason, instances, attempts, duration, failures.
pub fn summary(deployment: &Deployment, look: Look, now: Timestamp) -> String {
    let mut out = format!("\ndeployment {}: {}", deployment.id, look.state(&deployment.state));
    if let Some(reason) = &deployment.reason {
        let _ = write!(out, ": {}", look.foreign(reason));
    }
    let _ = write!(out, "\n  revision   {}", title(deployment));
    let _ = write!(out, "\n  instances  {}", counts(deployment));
    // One of a kind is said below with its instance.
    for failures in deployment.failures.iter().filter(|failures| failures.instances.len() > 1) {
        let _ = write!(out, "\n    {}", look.foreign(&failures.words));
    }
    for instance in deployment.instances().iter().filter(|i| i.state == "Failed") {
        let at = instance.event.as_deref().map(|event| format!(" in {event}")).unwrap_or_default();
        let why = look.foreign(&why(instance));
        let colon = if why.is_empty() { "" } else { ": " };
        let _ = write!(out, "\n    {} {}{at}{colon}{why}", instance.id, look.state("Failed"));
    }
    for instance in deployment.instances().iter().filter(|i| i.state == "Succeeded" && i.attempts > 1) {
        let _ = write!(out, "\n    {} succeeded after {} attempts", instance.id, instance.attempts);
    }
    for note in &deployment.annotations {
        let level = look.annotation(&note.level, 9);
        let _ = write!(out, "\n  {level}  {} {}: {}", note.instance, note.event, look.foreign(&note.text));
    }
    let _ = write!(out, "\n  attempts   {}", deployment.attempts.unwrap_or(0));
    let _ = write!(out, "\n  duration   {}", span(elapsed(deployment, now)));
    out.push('\n');
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(instance: Option<&str>, event: Option<&str>, source: &str, text: &str) -> LogLine {
        LogLine {
            seq: 1,
            at: Timestamp::UNIX_EPOCH,
            instance: instance.map(str::to_owned),
            event: event.map(str::to_owned),
            attempt: None,
            source: source.to_owned(),
            text: text.to_owned(),
        }
    }

    #[test]
    fn piped_lines_have_their_prefix_and_raw_text() {
        let mut lines = Lines::new(Look { colour: false, terminal: false }, false);
        let mut out = String::new();
        lines.push(&row(Some("i-1"), Some("ApplicationStart"), "hook", "a\x1b[2Jb"), &mut out);
        lines.push(&row(None, None, "drover", "batch 1"), &mut out);
        lines.push(&row(Some("i-1"), Some("ApplicationStart"), "drover", "retried"), &mut out);
        lines.push(&row(Some("i-1"), None, "drover", "i-1 waits"), &mut out);
        let expected = "i-1 ApplicationStart | a\x1b[2Jb\ndrover | batch 1\ndrover | i-1: retried\n\
                        drover | i-1 waits\n";
        assert_eq!(out, expected);
    }

    #[test]
    fn a_terminal_gets_aligned_coloured_prefixes() {
        let mut lines = Lines::new(Look { colour: true, terminal: true }, false);
        let mut out = String::new();
        lines.push(&row(Some("i-1"), Some("Install"), "hook", "a"), &mut out);
        lines.push(&row(None, None, "drover", "b\x1b[2J"), &mut out);
        assert_eq!(out, "\x1b[36mi-1 Install\x1b[0m | a\ndrover      | b\n");
    }

    #[test]
    fn spans_read_like_speech() {
        assert_eq!([0, 59, 60, 130, 3900, 90_000].map(span).join(", "), {
            "0 s, 59 s, 1 min, 2 min 10 s, 1 h 5 min, 1 d 1 h"
        });
        assert_eq!(span(-3), "0 s");
    }

    #[test]
    fn columns_line_up() {
        let rows = [vec!["1".to_owned(), "sample/demo".to_owned()], vec!["22".to_owned(), "x".to_owned()]];
        assert_eq!(table(&["ID", "GROUP"], &rows), "ID  GROUP\n1   sample/demo\n22  x\n");
    }
}
