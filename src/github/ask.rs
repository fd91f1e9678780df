//! Sends one request to GitHub's API: conditional where its answer is known already, and none while GitHub asks to
//! wait.

use super::error::{self, GitHubError};
use http::{HeaderMap, HeaderValue, StatusCode, header};
use http_body_util::BodyExt as _;
use jiff::Timestamp;
use octocrab::Octocrab;
use serde::de::DeserializeOwned;
use serde_json::Value;
use std::{
    sync::{Mutex, PoisonError},
    time::{Duration, Instant},
};

/// GitHub's documentation, 'Rate limits for the REST API': a secondary limit that names no time wants at least a minute.
const SECONDARY_PAUSE: Duration = Duration::from_secs(60);
/// The primary limit is renewed every hour.
const LONGEST_PAUSE: Duration = Duration::from_secs(3600);

/// GitHub's answer to a question.
#[derive(Debug)]
pub(super) enum Answer<T> {
    /// The thing asked for, and its ETag.
    Found(T, Option<String>),
    /// Nothing has changed since the ETag was given.
    Unchanged,
    /// There is no such thing (404, 409 for an empty repository, 422).
    NotFound,
}

/// Until when GitHub wants no further request with this token.
#[derive(Debug, Default)]
struct Limits(Mutex<Option<Instant>>);

/// A client with one token, and GitHub's rate limits for that token.
#[derive(Debug)]
pub(super) struct Client {
    pub(super) api: Octocrab,
    limits: Limits,
}

impl Client {
    pub(super) fn new(api: Octocrab) -> Client {
        Client { api, limits: Limits::default() }
    }
}

impl Limits {
    fn time_left(&self) -> Option<Duration> {
        let until = *self.0.lock().unwrap_or_else(PoisonError::into_inner);
        until.and_then(|until| until.checked_duration_since(Instant::now())).filter(|left| !left.is_zero())
    }

    fn pause_for(&self, pause: Duration) {
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(Instant::now() + pause);
    }
}

/// Returns how long a refusal asks to wait; none if it isn't due to rate limits.
fn pause(status: StatusCode, headers: &HeaderMap, message: &str, now: Timestamp) -> Option<Duration> {
    if status != StatusCode::FORBIDDEN && status != StatusCode::TOO_MANY_REQUESTS {
        return None;
    }
    let number = |name: &str| headers.get(name)?.to_str().ok()?.trim().parse::<u64>().ok();
    let until_reset = || {
        let reset = i64::try_from(number("x-ratelimit-reset")?).ok()?;
        Some(Duration::from_secs(u64::try_from(reset - now.as_second()).unwrap_or(0) + 1))
    };
    let asked = match (number("retry-after"), number("x-ratelimit-remaining")) {
        (Some(seconds), _) => Some(Duration::from_secs(seconds)),
        (None, Some(0)) => Some(until_reset().unwrap_or(SECONDARY_PAUSE)),
        _ if status == StatusCode::TOO_MANY_REQUESTS || message.contains("rate limit") => {
            Some(SECONDARY_PAUSE)
        }
        _ => None,
    };
    asked.map(|pause| pause.min(LONGEST_PAUSE))
}

/// Asks for `path`; none: there is no such thing. `what` begins the words of an error.
pub(super) async fn ask<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    what: &str,
) -> Result<Option<T>, GitHubError> {
    match ask_if_changed(client, path, None, what).await? {
        Answer::Found(answer, _) => Ok(Some(answer)),
        Answer::NotFound => Ok(None),
        Answer::Unchanged => Err(GitHubError::Unavailable(format!(
            "{what}: 'not modified' was answered to a question without an ETag"
        ))),
    }
}

/// Asks for `path` unless its answer is still the one that the ETag stands for.
pub(super) async fn ask_if_changed<T: DeserializeOwned>(
    client: &Client,
    path: &str,
    etag: Option<&str>,
    what: &str,
) -> Result<Answer<T>, GitHubError> {
    let unavailable = |words: String| GitHubError::Unavailable(format!("{what}: {words}"));
    if let Some(left) = client.limits.time_left() {
        return Err(unavailable(format!("GitHub asks to wait {} s more (rate limit)", left.as_secs() + 1)));
    }
    let headers = etag.and_then(|etag| HeaderValue::from_str(etag).ok()).map(|etag| {
        let mut headers = HeaderMap::new();
        headers.insert(header::IF_NONE_MATCH, etag);
        headers
    });
    let response =
        client.api._get_with_headers(path, headers).await.map_err(|e| error::unavailable(what, &e))?;
    let (parts, body) = response.into_parts();
    let body = body.collect().await.map_err(|e| error::unavailable(what, &e))?.to_bytes();
    match parts.status {
        StatusCode::NOT_MODIFIED => return Ok(Answer::Unchanged),
        StatusCode::NOT_FOUND | StatusCode::CONFLICT | StatusCode::UNPROCESSABLE_ENTITY => {
            return Ok(Answer::NotFound);
        }
        status if status.is_success() => {
            let answer =
                serde_json::from_slice(&body).map_err(|e| unavailable(format!("GitHub's answer: {e}")))?;
            let etag = parts.headers.get(header::ETAG).and_then(|etag| etag.to_str().ok()).map(str::to_owned);
            return Ok(Answer::Found(answer, etag));
        }
        _ => {}
    }
    let said: Value = serde_json::from_slice(&body).unwrap_or_default();
    let message = said["message"].as_str().unwrap_or_default();
    if let Some(pause) = pause(parts.status, &parts.headers, message, Timestamp::now()) {
        client.limits.pause_for(pause);
    }
    let words = format!("{what}: {} {message}", parts.status);
    Err(match parts.status {
        StatusCode::UNAUTHORIZED => GitHubError::Credentials(words),
        _ => GitHubError::Unavailable(words),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn github_says_how_long_to_wait() {
        let now = Timestamp::from_second(1_000).unwrap();
        let headers = |pairs: &[(&'static str, &'static str)]| {
            pairs
                .iter()
                .map(|(name, value)| (name.parse().unwrap(), HeaderValue::from_static(value)))
                .collect()
        };
        let seconds = |status: u16, pairs: &[(&'static str, &'static str)], message: &str| {
            let status = StatusCode::from_u16(status).unwrap();
            pause(status, &headers(pairs), message, now).map(|pause| pause.as_secs())
        };
        assert_eq!(seconds(429, &[("retry-after", "30")], ""), Some(30));
        assert_eq!(
            seconds(403, &[("x-ratelimit-remaining", "0"), ("x-ratelimit-reset", "1060")], ""),
            Some(61)
        );
        assert_eq!(
            seconds(403, &[("x-ratelimit-remaining", "9")], "You have exceeded a secondary rate limit"),
            Some(60)
        );
        assert_eq!(seconds(403, &[("x-ratelimit-remaining", "9")], "Resource protected by SAML"), None);
        assert_eq!(seconds(500, &[("retry-after", "30")], ""), None);
        assert_eq!(seconds(429, &[("retry-after", "999999")], ""), Some(3600));
    }
}
