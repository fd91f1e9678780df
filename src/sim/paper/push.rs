//! Pushes an attempt's log to the daemon, as the runner does it with wget (`hooks/runner/9-upload.sh`): it asks for the
//! offset, sends what is new once a second, and at the end the result.

use std::sync::Arc;
use std::time::Duration;

use reqwest::{Method, StatusCode};
use tokio_util::sync::CancellationToken;

use super::attempt::{Attempt, Ended};
use crate::sim::cloud::Cloud;

/// The largest piece in which the log is sent, bytes.
const PIECE: usize = 4 << 20;
/// How long a push is tried.
const PATIENCE: Duration = Duration::from_secs(86_400);

/// The answer to a request.
enum Answer {
    /// The daemon took it; the first line of its answer.
    Taken(String),
    /// No answer came, or an unexpected one: the request is tried again.
    Again,
    /// The daemon wants no log of this attempt.
    Unwanted,
}

/// The push is over: the daemon has the whole log, or wants none of it.
struct Done;

/// The address that a log is pushed to.
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
pub(super) async fn push_log(
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
        _ = tokio::time::timeout(PATIENCE, push.push_all()) => {}
    }
    push.attempt.forget_log();
}

impl Push {
    async fn push_all(&self) {
        let mut offset = None;
        let mut pause = Duration::ZERO;
        loop {
            let step = match offset {
                None => self.ask_offset().await,
                Some(at) => self.push_new(at).await,
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

    /// Waits for this long, or until the attempt ends.
    async fn wait(&self, pause: Duration) {
        let mut ended = self.attempt.ended.subscribe();
        if ended.borrow().is_some() {
            return tokio::time::sleep(pause).await;
        }
        let _ = tokio::time::timeout(pause, ended.wait_for(Option::is_some)).await;
    }

    /// Asks the daemon for the offset that it wants next.
    async fn ask_offset(&self) -> Result<Option<usize>, Done> {
        match self.request(Method::GET, "", Vec::new(), 20).await {
            Answer::Taken(line) => Ok(line.parse().ok()),
            Answer::Again => Ok(None),
            Answer::Unwanted => Err(Done),
        }
    }

    /// Sends what is missing, and the result if the attempt has ended; returns `None` where the daemon must be asked for the
    /// offset again.
    async fn push_new(&self, offset: usize) -> Result<Option<usize>, Done> {
        let ended = self.attempt.ended.borrow().clone();
        let size = ended.as_ref().map_or_else(|| self.attempt.size(), |ended| ended.size);
        let Some(at) = self.send(offset, size).await? else { return Ok(None) };
        match ended {
            Some(ended) => self.send_result(&ended).await,
            None => Ok(Some(at)),
        }
    }

    /// Sends the log from `offset` up to `size`; returns `None` where the daemon must be asked for the offset again.
    async fn send(&self, mut offset: usize, size: usize) -> Result<Option<usize>, Done> {
        while offset < size {
            let mut piece = self.attempt.bytes_from(offset);
            piece.truncate(PIECE.min(size - offset));
            let answer = self.request(Method::POST, &format!("?offset={offset}"), piece, 120).await;
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

    /// Sends the attempt's result.
    async fn send_result(&self, ended: &Ended) -> Result<Option<usize>, Done> {
        let suffix = format!("/end?size={}&sha256={}", ended.size, ended.sha256);
        let body = format!("{}\n", ended.line).into_bytes();
        match self.request(Method::POST, &suffix, body, 60).await {
            Answer::Again => Ok(None),
            Answer::Taken(_) | Answer::Unwanted => Err(Done),
        }
    }

    /// Makes one request.
    async fn request(&self, method: Method, suffix: &str, body: Vec<u8>, seconds: u64) -> Answer {
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
