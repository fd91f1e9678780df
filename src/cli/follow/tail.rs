//! The last lines of each hook's output, to show again where it failed.
//!
//! May import `api` and its client, `render` and the stream only.

use std::collections::{HashMap, VecDeque};
use std::fmt::Write as _;

use tokio::sync::mpsc;

use super::stream::{self, Event};
use crate::api::{Deployment, Instance, LogLine, LogQuery};
use crate::cli::client::Client;
use crate::cli::render::Look;

/// Lines kept of each output.
const LINES: usize = 30;
/// Outputs shown in full; of more failures, the log says the rest.
const SHOWN: usize = 5;

/// The end of one hook's output on one instance, in its last attempt.
#[derive(Debug, Default)]
struct Tail {
    event: String,
    attempt: Option<i64>,
    lines: VecDeque<String>,
}

/// The ends of all outputs, by instance.
#[derive(Debug, Default)]
pub struct Tails {
    by_instance: HashMap<String, Vec<Tail>>,
    /// The first instance that drover said had failed.
    first_failure: Option<String>,
}

impl Tails {
    /// Takes in a row; drover's own are no hook's output.
    pub fn push(&mut self, row: &LogLine) {
        let (Some(instance), Some(event)) = (&row.instance, &row.event) else { return };
        if row.is_drovers() {
            return;
        }
        if !self.by_instance.contains_key(instance) {
            self.by_instance.insert(instance.clone(), Vec::new());
        }
        let Some(tails) = self.by_instance.get_mut(instance) else { return };
        let index = tails.iter().position(|tail| tail.event == *event).unwrap_or_else(|| {
            tails.push(Tail { event: event.clone(), ..Tail::default() });
            tails.len() - 1
        });
        let tail = &mut tails[index];
        if tail.attempt != row.attempt {
            tail.attempt = row.attempt;
            tail.lines.clear();
        }
        if tail.lines.len() == LINES {
            tail.lines.pop_front();
        }
        tail.lines.push_back(row.text.clone());
    }

    /// Whether drover says in this row that an instance has failed, for the first time.
    pub fn is_first_failure(&mut self, row: &LogLine) -> bool {
        let says_so = row.source == "drover" && row.text.starts_with("Failed: ");
        let Some(instance) = row.instance.as_ref().filter(|_| says_so && self.first_failure.is_none()) else {
            return false;
        };
        self.first_failure = Some(instance.clone());
        true
    }

    /// What the hook said last on the first instance that failed; empty if nothing.
    pub fn of_first_failure(&self, look: Look) -> String {
        let instance = self.first_failure.as_ref();
        let tail = instance.and_then(|instance| self.by_instance.get(instance)?.last());
        let (Some(instance), Some(tail)) = (instance, tail) else { return String::new() };
        let mut out = String::new();
        write_tail(&mut out, instance, tail, look);
        out.push('\n');
        out
    }

    /// Reads what failed before this follow began, or was filtered out, from the stored log.
    pub async fn fetch_missing(&mut self, client: &Client, deployment: &Deployment) {
        for instance in failed(deployment).take(SHOWN) {
            if self.of(instance).is_some() {
                continue;
            }
            let query = LogQuery {
                instance: Some(instance.id.clone()),
                event: instance.event.clone(),
                ..LogQuery::default()
            };
            let (to, mut events) = mpsc::channel(4);
            let reader = tokio::spawn(stream::read(client.clone(), deployment.id, query, to));
            while let Some(event) = events.recv().await {
                match event {
                    Event::Rows(rows) => rows.iter().for_each(|row| self.push(row)),
                    // Only an addition to the summary: not worth waiting for.
                    Event::Retrying { .. } => break,
                    _ => {}
                }
            }
            reader.abort();
        }
    }

    /// What the failed instances' hooks said last; empty if none failed.
    pub fn of_failures(&self, deployment: &Deployment, look: Look) -> String {
        let mut out = String::new();
        let mut hidden = 0;
        for (n, instance) in failed(deployment).enumerate() {
            let Some(tail) = self.of(instance) else { continue };
            if n >= SHOWN {
                hidden += 1;
                continue;
            }
            write_tail(&mut out, &instance.id, tail, look);
            if n == 0 {
                let _ = writeln!(
                    out,
                    "all of it: drover logs {} --instance {} --event {}",
                    deployment.id, instance.id, tail.event
                );
            }
        }
        if hidden > 0 {
            let _ = writeln!(
                out,
                "\n… and {hidden} more failed: drover logs {} --instance INSTANCE",
                deployment.id
            );
        }
        out
    }

    /// The tail of the event that failed; where none is named, of the last one that said something.
    fn of(&self, instance: &Instance) -> Option<&Tail> {
        let tails = self.by_instance.get(&instance.id)?;
        match &instance.event {
            Some(event) => tails.iter().find(|tail| tail.event == *event),
            None => tails.last(),
        }
    }
}

fn write_tail(out: &mut String, instance: &str, tail: &Tail, look: Look) {
    let attempt = tail.attempt.map(|n| format!(", attempt {n}")).unwrap_or_default();
    let _ = writeln!(
        out,
        "\n{instance} {}: how the output of {} ended{attempt}",
        look.state("Failed"),
        tail.event
    );
    for line in &tail.lines {
        let _ = writeln!(out, "  {}", look.foreign(line));
    }
}

fn failed(deployment: &Deployment) -> impl Iterator<Item = &Instance> {
    deployment.instances().iter().filter(|instance| instance.state == "Failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempts_last_lines_are_kept() {
        let mut tails = Tails::default();
        for (attempt, n) in [(1, 3), (2, 35)] {
            for line in 0..n {
                tails.push(&row(Some(attempt), "hook", &format!("{attempt}.{line}")));
            }
        }
        let failed = Instance { id: "i-1".to_owned(), state: "Failed".to_owned(), ..Instance::default() };
        let deployment = Deployment { instances: Some(vec![failed]), ..Deployment::default() };
        let said = tails.of_failures(&deployment, Look { colour: false, terminal: false });
        assert!(said.contains("i-1 Failed: how the output of Install ended, attempt 2\n  2.5\n"), "{said}");
        assert!(
            said.contains("  2.34\n") && said.ends_with("drover logs 0 --instance i-1 --event Install\n")
        );
    }

    #[test]
    fn the_first_failure_is_shown_at_once_and_once() {
        let plain = Look { colour: false, terminal: false };
        let mut tails = Tails::default();
        tails.push(&row(Some(1), "hook", "no space left on device"));
        assert!(!tails.is_first_failure(&row(None, "hook", "Failed: says the hook")));
        assert!(tails.is_first_failure(&row(None, "drover", "Failed: exit code 1")));
        assert!(tails.of_first_failure(plain).ends_with("attempt 1\n  no space left on device\n\n"));
        assert!(!tails.is_first_failure(&row(None, "drover", "Failed: exit code 1")));
    }

    fn row(attempt: Option<i64>, source: &str, text: &str) -> LogLine {
        LogLine {
            seq: 1,
            at: jiff::Timestamp::UNIX_EPOCH,
            instance: Some("i-1".to_owned()),
            event: Some("Install".to_owned()),
            attempt,
            source: source.to_owned(),
            text: text.to_owned(),
        }
    }
}
