//! What the clients of the load have seen: requests and failures by kind.

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use serde::Serialize;

/// The number of failures that are described in words; the others are only counted.
const DESCRIBED: usize = 20;

/// Counts of the requests of one kind.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct Counted {
    /// Requests that have ended, well or not.
    pub total: u64,
    /// Requests that failed: connect errors, statuses of 500 and above, short or wrong bodies.
    pub failed: u64,
}

/// Counts of WebSockets.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct CountedSockets {
    /// Sockets opened, reopenings included.
    pub opened: u64,
    /// Sockets that the balancer ended in an orderly way without a closing frame of the service: the deregistration delay
    /// was over.
    pub closed_by_deregistration: u64,
    /// Sockets that could not be opened, were broken off, or were closed by the service.
    pub failed: u64,
}

/// Counts by kind of load.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize)]
pub struct ByKind {
    /// Plain requests, on kept and on fresh connections.
    pub get: Counted,
    /// Requests with a body that the service must have received whole.
    pub post: Counted,
    /// Responses streamed for three seconds, checked to the last line.
    pub stream: Counted,
    /// WebSockets held open, with traffic.
    pub websocket: CountedSockets,
}

/// What the clients saw.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize)]
pub struct LoadReport {
    /// Requests ended, and WebSockets opened or tried to.
    pub total: u64,
    /// Those of them that failed; a WebSocket that was opened may fail later, without another count in the total.
    pub failed: u64,
    /// The same by kind.
    pub by_kind: ByKind,
    /// The first twenty failures in words.
    pub failures: Vec<String>,
    /// When each failure was seen, milliseconds since the Unix epoch; not in what is printed.
    #[serde(skip)]
    pub failed_at: Vec<i64>,
}

/// A kind of request.
#[derive(Debug, Clone, Copy)]
pub(super) enum Kind {
    Get,
    Post,
    Stream,
}

/// Counts what the clients see while the load runs.
pub(super) struct Tally {
    begun: Instant,
    report: Mutex<LoadReport>,
}

impl Tally {
    /// Starts counting now.
    pub(super) fn begin() -> Tally {
        Tally { begun: Instant::now(), report: Mutex::default() }
    }

    /// Returns the report so far, to be read or changed.
    pub(super) fn report(&self) -> MutexGuard<'_, LoadReport> {
        self.report.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Counts a request that has ended, well or not.
    pub(super) fn count_request(&self, kind: Kind, result: anyhow::Result<()>) {
        let mut report = self.report();
        let by_kind = &mut report.by_kind;
        let (name, counted) = match kind {
            Kind::Get => ("GET /", &mut by_kind.get),
            Kind::Post => ("POST /echo", &mut by_kind.post),
            Kind::Stream => ("GET /stream", &mut by_kind.stream),
        };
        counted.total += 1;
        counted.failed += u64::from(result.is_err());
        report.total += 1;
        if let Err(error) = result {
            self.note_failure(&mut report, name, &error);
        }
    }

    /// Counts a WebSocket that could not be opened, was broken off, or was closed by the service.
    pub(super) fn count_failed_socket(&self, error: &anyhow::Error) {
        let mut report = self.report();
        report.by_kind.websocket.failed += 1;
        self.note_failure(&mut report, "WebSocket /ws", error);
    }

    fn note_failure(&self, report: &mut LoadReport, name: &str, error: &anyhow::Error) {
        report.failed += 1;
        report.failed_at.push(jiff::Timestamp::now().as_millisecond());
        if report.failures.len() < DESCRIBED {
            let at = self.begun.elapsed().as_secs_f64();
            report.failures.push(format!("{at:.1} s: {name}: {error:#}"));
        }
    }
}
