//! A deployment's log as one unbroken stream: attached again, after the last line seen, whenever it breaks.
//!
//! May import `api` and its client only.

use std::time::{Duration, Instant};

use backon::{BackoffBuilder, ExponentialBuilder};
use tokio::sync::mpsc;

use crate::api::{LogEnd, LogLine, LogQuery, LogRow};
use crate::cli::client::{ApiError, Client};

/// The first pause before a stream is attached again; they grow, and are counted afresh after each row that arrives.
const FIRST_PAUSE: Duration = Duration::from_millis(250);
/// The longest pause: a daemon that is back is met soon.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);
/// How long a stream may be silent before it is attached anew: three of the daemon's 15 s pings.
const SILENCE: Duration = Duration::from_secs(45);

/// What a stream reports.
#[derive(Debug)]
pub enum Event {
    /// Lines, in order, none twice.
    Rows(Vec<LogLine>),
    /// The stream broke and is attached again after a pause.
    Retrying {
        /// How much longer the daemon is waited for.
        left: Duration,
        /// What broke.
        cause: String,
    },
    /// The stream is attached again.
    Attached,
    /// The log is complete: the deployment has ended or halted, or, without `follow`, no more is stored.
    End(Option<LogEnd>),
    /// The stream can't go on: refused, or the daemon was away for too long.
    Lost(ApiError),
}

/// How one attachment came to its end.
enum Close {
    End(Option<LogEnd>),
    Silent,
    Broken(ApiError),
    Unwanted,
}

/// Reads the log that `query` asks for, and sends what happens until `Event::End` or `Event::Lost`, or until
/// the receiver is gone.
pub async fn read(client: Client, id: i64, query: LogQuery, to: mpsc::Sender<Event>) {
    let waits = Waits::new(client.patience());
    let mut reader = Reader { client, id, query, to, waits };
    loop {
        let error = match reader.attach().await {
            Close::End(end) => {
                reader.report(Event::End(end)).await;
                return;
            }
            Close::Unwanted => return,
            Close::Silent => continue,
            Close::Broken(error) => error,
        };
        let pause = if error.is_passing() { reader.waits.next() } else { None };
        let Some((pause, left)) = pause else {
            reader.report(Event::Lost(error)).await;
            return;
        };
        if !reader.report(Event::Retrying { left, cause: brief(error) }).await {
            return;
        }
        tokio::time::sleep(pause).await;
    }
}

/// What broke, in few words: the advice that goes with it is for when the retries are used up.
fn brief(error: ApiError) -> String {
    match error {
        ApiError::Unreachable { cause, .. } => cause,
        other => other.to_string(),
    }
}

/// The pauses while a daemon is away, and when it is given up.
pub(super) struct Waits {
    patience: Duration,
    since: Option<Instant>,
    pauses: backon::ExponentialBackoff,
}

impl Waits {
    pub(super) fn new(patience: Duration) -> Waits {
        let pauses = ExponentialBuilder::default().with_min_delay(FIRST_PAUSE).with_max_delay(LONGEST_PAUSE);
        Waits { patience, since: None, pauses: pauses.with_jitter().without_max_times().build() }
    }

    /// The next pause, and how long the daemon is waited for after it; none once that is over.
    pub(super) fn next(&mut self) -> Option<(Duration, Duration)> {
        let away = self.since.get_or_insert_with(Instant::now).elapsed();
        let left = self.patience.checked_sub(away).filter(|left| !left.is_zero())?;
        let pause = self.pauses.next().unwrap_or(LONGEST_PAUSE).min(left);
        Some((pause, left - pause))
    }

    fn is_away(&self) -> bool {
        self.since.is_some()
    }
}

struct Reader {
    client: Client,
    id: i64,
    query: LogQuery,
    to: mpsc::Sender<Event>,
    waits: Waits,
}

impl Reader {
    async fn report(&self, event: Event) -> bool {
        self.to.send(event).await.is_ok()
    }

    async fn attach(&mut self) -> Close {
        let asked = tokio::time::timeout(SILENCE, self.client.logs(self.id, &self.query)).await;
        let mut response = match asked {
            Ok(Ok(response)) => response,
            Ok(Err(error)) => return Close::Broken(error),
            Err(_) => return Close::Broken(self.broken("the log stream did not open in time")),
        };
        if self.waits.is_away() && !self.report(Event::Attached).await {
            return Close::Unwanted;
        }
        let mut pending = Vec::new();
        loop {
            let chunk = match tokio::time::timeout(SILENCE, response.chunk()).await {
                Err(_) => return Close::Silent,
                Ok(Err(error)) => return Close::Broken(self.client.broken(&error)),
                Ok(Ok(None)) => return self.closed_without_an_end().await,
                Ok(Ok(Some(chunk))) => chunk,
            };
            pending.extend_from_slice(&chunk);
            let Some(last) = pending.iter().rposition(|&b| b == b'\n') else { continue };
            let parsed = parse(&pending[..last]);
            pending.drain(..=last);
            let (mut rows, end) = match parsed {
                Ok(parsed) => parsed,
                Err(cause) => {
                    let url = self.client.base().to_owned();
                    return Close::Broken(ApiError::Garbled { url, cause });
                }
            };
            self.waits = Waits::new(self.client.patience());
            rows.retain(|row| {
                let new = row.seq > self.query.after;
                self.query.after = self.query.after.max(row.seq);
                new
            });
            if !rows.is_empty() && !self.report(Event::Rows(rows)).await {
                return Close::Unwanted;
            }
            if let Some(end) = end {
                return Close::End(Some(end));
            }
        }
    }

    /// A stream that closes without saying so is a daemon that went away; unless the deployment has ended.
    async fn closed_without_an_end(&self) -> Close {
        if !self.query.follow {
            return Close::Broken(self.broken("the log stream closed before its end"));
        }
        match self.client.deployment(self.id).await.and_then(|answer| answer.read()) {
            Ok(deployment) if deployment.exit_code.is_some() && deployment.last_seq <= self.query.after => {
                Close::End(Some(LogEnd { state: deployment.state, exit_code: deployment.exit_code }))
            }
            Ok(_) => Close::Broken(self.broken("the log stream closed before its end")),
            Err(error) => Close::Broken(error),
        }
    }

    fn broken(&self, cause: &str) -> ApiError {
        let url = self.client.base().to_owned();
        ApiError::Unreachable { url, cause: cause.to_owned(), connected: true }
    }
}

/// The rows in `text`, whole lines of NDJSON, up to the end row if it is among them.
fn parse(text: &[u8]) -> Result<(Vec<LogLine>, Option<LogEnd>), String> {
    let mut rows = Vec::new();
    for line in text.split(|&b| b == b'\n').filter(|line| !line.trim_ascii().is_empty()) {
        match serde_json::from_slice(line) {
            Ok(LogRow::Line(line)) => rows.push(line),
            Ok(LogRow::End { end }) => return Ok((rows, Some(end))),
            Ok(LogRow::Ping { .. } | LogRow::Unknown(_)) => {}
            Err(e) => return Err(format!("a row of the log isn't JSON: {e}")),
        }
    }
    Ok((rows, None))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_pings_and_the_end_are_told_apart() {
        let text = br#"{"seq":1,"at":"2026-01-01T00:00:00Z","instance":"i-1","event":"ApplicationStart","attempt":1,"source":"hook","text":"a"}
{"ping":true}
{"seq":2,"at":"2026-01-01T00:00:00Z","instance":null,"event":null,"attempt":null,"source":"drover","text":"b"}
{"end":{"state":"Halted","exit_code":3}}"#;
        let (rows, end) = parse(text).unwrap();
        assert_eq!(rows.iter().map(|r| r.seq).collect::<Vec<_>>(), [1, 2]);
        assert!(!rows[0].is_drovers() && rows[1].is_drovers());
        assert_eq!(end, Some(LogEnd { state: "Halted".to_owned(), exit_code: Some(3) }));
        assert!(parse(b"<html>").is_err());
    }

    #[test]
    fn a_daemon_is_waited_for_as_long_as_wanted_and_no_longer() {
        let mut waits = Waits::new(Duration::from_secs(600));
        let (pause, left) = waits.next().unwrap();
        assert!(waits.is_away() && pause < Duration::from_secs(1) && left > Duration::from_secs(598));
        for _ in 0..50 {
            assert!(waits.next().unwrap().0 <= LONGEST_PAUSE * 2);
        }
        waits.since = waits.since.and_then(|since| since.checked_sub(Duration::from_secs(600)));
        assert!(waits.next().is_none() && Waits::new(Duration::ZERO).next().is_none());
    }
}
