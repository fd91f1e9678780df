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
const LINES: usize = 20;
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
            let attempt = tail.attempt.map(|n| format!(", attempt {n}")).unwrap_or_default();
            let _ = writeln!(
                out,
                "\n{} {}: how the output of {} ended{attempt}",
                instance.id,
                look.state("Failed"),
                tail.event
            );
            for line in &tail.lines {
                let _ = writeln!(out, "  {}", look.foreign(line));
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

fn failed(deployment: &Deployment) -> impl Iterator<Item = &Instance> {
    deployment.instances().iter().filter(|instance| instance.state == "Failed")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_attempts_last_lines_are_kept() {
        let mut tails = Tails::default();
        for (attempt, n) in [(1, 3), (2, 25)] {
            for line in 0..n {
                tails.push(&LogLine {
                    seq: 1,
                    at: jiff::Timestamp::UNIX_EPOCH,
                    instance: Some("i-1".to_owned()),
                    event: Some("Install".to_owned()),
                    attempt: Some(attempt),
                    source: "hook".to_owned(),
                    text: format!("{attempt}.{line}"),
                });
            }
        }
        let failed = Instance { id: "i-1".to_owned(), state: "Failed".to_owned(), ..Instance::default() };
        let deployment = Deployment { instances: Some(vec![failed]), ..Deployment::default() };
        let said = tails.of_failures(&deployment, Look { colour: false, terminal: false });
        assert!(said.contains("i-1 Failed: how the output of Install ended, attempt 2\n  2.5\n"), "{said}");
        assert!(said.ends_with("  2.24\n"), "{said}");
    }
}
