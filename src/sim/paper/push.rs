//! The log on its way to the daemon, as the runner sends it with wget (`hooks/runner/9-upload.sh`): it asks for the offset,
//! sends what is new once a second, and at the end the result.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context;
use reqwest::{Method, StatusCode};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Ended};
use crate::sim::cloud::Cloud;

/// Requests under way at the same time, of all paper instances: sockets are few.
pub(super) const REQUESTS: usize = 256;
/// The log is sent in pieces of this size at most.
const PIECE: usize = 4 << 20;
/// It is tried for so long.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// What all paper instances send their logs with.
#[derive(Debug)]
pub struct Uplink {
    http: reqwest::Client,
    permits: Semaphore,
}

impl Uplink {
    /// One client with a pool of connections.
    pub fn new() -> anyhow::Result<Self> {
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs(5))
            .pool_max_idle_per_host(REQUESTS)
            .build()
            .context("making the HTTP client of paper instances")?;
        Ok(Self { http, permits: Semaphore::new(REQUESTS) })
    }
}

/// How a request went.
enum Answer {
    /// The first line of the answer.
    Taken(String),
    /// None came, or another one: tried again.
    Again,
    /// The daemon wants nothing of this attempt.
    Unwanted,
}

/// The daemon has all of it, or wants nothing.
struct Done;

/// Where a log is pushed.
pub(super) struct Destination {
    pub(super) url: String,
    pub(super) token: String,
}

struct Push {
    cloud: Arc<Cloud>,
    instance: String,
    attempt: Arc<Attempt>,
    to: Destination,
}

/// Sends an attempt's log while it grows, until the daemon has it whole or the instance is gone.
pub(super) async fn push(
    cloud: Arc<Cloud>,
    instance: String,
    attempt: Arc<Attempt>,
    to: Destination,
    gone: CancellationToken,
) {
    let push = Push { cloud, instance, attempt, to };
    let stop = push.cloud.stop.clone();
    tokio::select! {
        () = gone.cancelled() => return,
        () = stop.cancelled() => return,
        _ = tokio::time::timeout(PATIENCE, push.all()) => {}
    }
    push.attempt.forget_log();
}

impl Push {
    async fn all(&self) {
        let mut offset = None;
        let mut pause = Duration::ZERO;
        loop {
            let step = match offset {
                None => self.ask().await,
                Some(at) => self.step(at).await,
            };
            match step {
                Err(Done) => return,
                Ok(Some(at)) => {
                    let asked = offset.is_none();
                    offset = Some(at);
                    if !asked {
                        pause = Duration::ZERO;
                        self.wait(Duration::from_secs(1)).await;
                    }
                }
                Ok(None) => {
                    offset = None;
                    pause = match pause.as_millis() {
                        0 => Duration::from_millis(500),
                        1..1000 => Duration::from_secs(1),
                        1000 => Duration::from_secs(2),
                        _ => Duration::from_secs(5),
                    };
                    self.wait(pause).await;
                }
            }
        }
    }

    /// Waits for so long, or until the attempt ends.
    async fn wait(&self, pause: Duration) {
        let mut ended = self.attempt.ended.subscribe();
        if ended.borrow().is_some() {
            return tokio::time::sleep(pause).await;
        }
        let _ = tokio::time::timeout(pause, ended.wait_for(Option::is_some)).await;
    }

    /// The offset that the daemon wants next.
    async fn ask(&self) -> Result<Option<usize>, Done> {
        match self.http(Method::GET, "", Vec::new(), 20).await {
            Answer::Taken(line) => Ok(line.parse().ok()),
            Answer::Again => Ok(None),
            Answer::Unwanted => Err(Done),
        }
    }

    /// Sends what is missing, and the end where there is one; None where the daemon must be asked again.
    async fn step(&self, offset: usize) -> Result<Option<usize>, Done> {
        let ended = self.attempt.ended.borrow().clone();
        let size = ended.as_ref().map_or_else(|| self.attempt.size(), |ended| ended.size);
        let Some(at) = self.send(offset, size).await? else { return Ok(None) };
        match ended {
            Some(ended) => self.end(&ended).await,
            None => Ok(Some(at)),
        }
    }

    async fn send(&self, mut offset: usize, size: usize) -> Result<Option<usize>, Done> {
        while offset < size {
            let mut piece = self.attempt.bytes_from(offset);
            piece.truncate(PIECE.min(size - offset));
            let answer = self.http(Method::POST, &format!("?offset={offset}"), piece, 120).await;
            match answer {
                Answer::Taken(line) => match line.parse() {
                    Ok(at) if at != offset => offset = at,
                    _ => return Ok(None),
                },
                Answer::Again => return Ok(None),
                Answer::Unwanted => return Err(Done),
            }
        }
        Ok(Some(offset))
    }

    async fn end(&self, ended: &Ended) -> Result<Option<usize>, Done> {
        let suffix = format!("/end?size={}&sha256={}", ended.size, ended.sha256);
        let body = format!("{}\n", ended.line).into_bytes();
        match self.http(Method::POST, &suffix, body, 60).await {
            Answer::Again => Ok(None),
            Answer::Taken(_) | Answer::Unwanted => Err(Done),
        }
    }

    async fn http(&self, method: Method, suffix: &str, body: Vec<u8>, seconds: u64) -> Answer {
        let cut = self.cloud.with(|s| s.instances.get(&self.instance).is_none_or(|i| i.cut.is_some()));
        let uplink = &self.cloud.uplink;
        let Ok(_permit) = uplink.permits.acquire().await else { return Answer::Again };
        if cut {
            return Answer::Again;
        }
        let mut request = uplink
            .http
            .request(method, format!("{}{suffix}", self.to.url))
            .bearer_auth(&self.to.token)
            .timeout(Duration::from_secs(seconds));
        if !body.is_empty() {
            request = request.header("content-type", "application/octet-stream").body(body);
        }
        let Ok(response) = request.send().await else { return Answer::Again };
        let status = response.status();
        let Ok(text) = response.text().await else { return Answer::Again };
        match status {
            StatusCode::OK => Answer::Taken(text.lines().next().unwrap_or_default().to_owned()),
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN | StatusCode::NOT_FOUND | StatusCode::GONE => {
                Answer::Unwanted
            }
            _ => Answer::Again,
        }
    }
}
