//! What instances ask of the daemon: their bundle, and where to put their log. Tokens here are good for one bundle or
//! one attempt.

use super::{
    body::body,
    context::Web,
    limits::{DOWNLOAD_TURN, LARGEST_RESULT},
    reply::{Refusal, answer},
};
use crate::{
    engine::{LogEnd, RunnerResult, same},
    logs::ingest::{Ingest, IngestError},
};
use bytes::{Buf, Bytes};
use futures_util::{Stream, StreamExt as _};
use headers::{AcceptRanges, ContentRange, HeaderMapExt as _, Range};
use http::{HeaderMap, StatusCode};
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use std::{io::SeekFrom, ops::Bound, sync::Arc, time::Duration};
use tokio::{io::AsyncSeekExt as _, sync::MutexGuard, time::Instant};
use tokio_util::io::ReaderStream;
use warp::{Filter, Reply, filters::BoxedFilter, reply::Response};

/// Lines reach the store, and so the readers, at the latest after this.
const FLUSH_AFTER: Duration = Duration::from_millis(100);
/// Tokens are good for so long after their deployment has ended.
const AFTERWARDS: SignedDuration = SignedDuration::from_mins(10);
/// Of a bundle, read at a time.
const PIECE: usize = 256 * 1024;
#[derive(Deserialize)]
struct Offset {
    offset: u64,
}

#[derive(Deserialize)]
struct End {
    size: u64,
    sha256: String,
}

/// `/bundles/v1/SHA` and `/ingest/v1/attempts/N`.
pub fn routes(web: Web) -> BoxedFilter<(Response,)> {
    let with = warp::any().map(move || web.clone());
    let token = warp::header::optional::<String>("authorization").map(|header: Option<String>| {
        header.and_then(|value| Some(value.strip_prefix("Bearer ")?.to_owned())).unwrap_or_default()
    });
    let range = warp::header::headers_cloned().map(|headers: HeaderMap| headers.typed_get::<Range>());
    let bundle =
        warp::path!("bundles" / "v1" / String).and(warp::get()).and(with.clone()).and(token).and(range).then(
            |sha: String, web: Web, token: String, range: Option<Range>| async move {
                answer(bundle(&web, &sha, &token, range).await)
            },
        );
    let attempt = warp::path!("ingest" / "v1" / "attempts" / i64 / ..);
    let wanted = attempt.and(warp::path::end()).and(warp::get()).and(with.clone()).and(token).then(
        |number: i64, web: Web, token: String| async move { answer(wanted(&web, number, &token).await) },
    );
    let push = attempt
        .and(warp::path::end())
        .and(warp::put().or(warp::post()).unify())
        .and(with.clone())
        .and(token)
        .and(warp::query())
        .and(warp::body::stream())
        .then(|number: i64, web: Web, token: String, query: Offset, body| async move {
            answer(push(&web, number, &token, query.offset, body).await)
        });
    let end = attempt
        .and(warp::path!("end"))
        .and(warp::post())
        .and(with)
        .and(token)
        .and(warp::query())
        .and(body(LARGEST_RESULT))
        .then(|number: i64, web: Web, token: String, query: End, body: Bytes| async move {
            answer(end(&web, number, &token, query, &body).await)
        });
    bundle.or(wanted).unify().or(push).unify().or(end).unify().boxed()
}

/// The bundle, whole or from the byte on where a download has ended before.
async fn bundle(web: &Web, sha: &str, token: &str, range: Option<Range>) -> Result<Response, Refusal> {
    let sound = sha.len() == 40 && sha.bytes().all(|b| b.is_ascii_hexdigit());
    let deployment =
        web.secrets.opens_bundle(sha, token).filter(|_| sound).ok_or_else(Refusal::unauthorized)?;
    still_goes_on(web, deployment).await?;
    let missing = |e: anyhow::Error| {
        Refusal::new(StatusCode::NOT_FOUND, "no-bundle", format!("the bundle of {sha} can't be read: {e:#}"))
    };
    // The others of a dispatch wait for their turn; who waits for too long tries again after a pause.
    let turn = tokio::time::timeout(DOWNLOAD_TURN, Arc::clone(&web.downloads).acquire_owned()).await;
    let Ok(Ok(turn)) = turn else {
        let words = "too many instances download at the same time: try again in a moment";
        return Err(Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", words));
    };
    let path = web.engine.bundle_file(deployment, sha).await.map_err(missing)?;
    let mut file = tokio::fs::File::open(&path).await.map_err(|e| missing(e.into()))?;
    let length = file.metadata().await.map_err(|e| missing(e.into()))?.len();
    let from = range.and_then(|range| from_byte(&range, length));
    if let Some(from) = from {
        file.seek(SeekFrom::Start(from)).await.map_err(|e| missing(e.into()))?;
    }
    // The turn ends with the download.
    let pieces = ReaderStream::with_capacity(file, PIECE).map(move |piece| {
        let _turn = &turn;
        piece
    });
    let mut response = warp::reply::stream(pieces).into_response();
    let headers = response.headers_mut();
    headers.insert("content-length", (length - from.unwrap_or(0)).into());
    headers.insert("content-type", http::HeaderValue::from_static("application/octet-stream"));
    headers.typed_insert(AcceptRanges::bytes());
    if let Some(range) = from.and_then(|from| ContentRange::bytes(from..length, length).ok()) {
        headers.typed_insert(range);
        *response.status_mut() = StatusCode::PARTIAL_CONTENT;
    }
    Ok(response)
}

/// The first byte of a range that goes on to the end; another one is answered with all of it, as HTTP allows.
fn from_byte(range: &Range, length: u64) -> Option<u64> {
    let mut ranges = range.satisfiable_ranges(length);
    match (ranges.next(), ranges.next()) {
        (Some((Bound::Included(from), Bound::Unbounded)), None) if from < length => Some(from),
        _ => None,
    }
}

/// Refuses tokens of a deployment that is over, and has been for a while: a host may be behind.
async fn still_goes_on(web: &Web, deployment: i64) -> Result<(), Refusal> {
    let row = web.store.deployment(deployment).await?;
    let until = Timestamp::now() - AFTERWARDS;
    if row.is_some_and(|row| row.finished_at.is_none_or(|at| at > until.as_millisecond())) {
        return Ok(());
    }
    let words = format!("this token has expired: deployment {deployment} is over");
    Err(Refusal::new(StatusCode::UNAUTHORIZED, "expired", words))
}

impl From<IngestError> for Refusal {
    fn from(error: IngestError) -> Self {
        let (status, code) = match &error {
            IngestError::Unknown => (StatusCode::NOT_FOUND, "unknown-attempt"),
            IngestError::Complete => (StatusCode::GONE, "complete"),
            IngestError::Offset { .. } => (StatusCode::CONFLICT, "offset"),
            IngestError::Store(_) => (StatusCode::SERVICE_UNAVAILABLE, "store"),
        };
        Refusal::new(status, code, error.to_string())
    }
}

/// The log of the attempt that this token is good for.
async fn receive(web: &Web, number: i64, token: &str) -> Result<Arc<tokio::sync::Mutex<Ingest>>, Refusal> {
    if !same(token, &web.secrets.attempt_token(number)) {
        return Err(Refusal::unauthorized());
    }
    let attempt = web.store.attempt(number).await?.ok_or(IngestError::Unknown)?;
    still_goes_on(web, attempt.deployment).await?;
    Ok(web.logs.receive(number, &web.secrets.nonce(number)).await?)
}

async fn wanted(web: &Web, number: i64, token: &str) -> Result<String, Refusal> {
    let ingest = receive(web, number, token).await?;
    let ingest = ingest.lock().await;
    Ok(format!("{}\n", ingest.wanted()))
}

/// Takes a stream that may go on as long as the attempt does.
async fn push<B: Buf>(
    web: &Web,
    number: i64,
    token: &str,
    mut offset: u64,
    body: impl Stream<Item = Result<B, warp::Error>> + Send,
) -> Result<String, Refusal> {
    let ingest = receive(web, number, token).await?;
    let mut body = Box::pin(body);
    let mut flush_at: Option<Instant> = None;
    loop {
        let next = async {
            match flush_at {
                Some(at) => tokio::time::timeout_at(at, body.next()).await.ok(),
                None => Some(body.next().await),
            }
        };
        let item = tokio::select! {
            item = next => item,
            () = web.stop.cancelled() => Some(None),
        };
        let mut ingest = ingest.lock().await;
        match item {
            Some(Some(Ok(mut bytes))) => {
                offset = take(web, &mut ingest, offset, bytes.copy_to_bytes(bytes.remaining())).await?;
                if !ingest.has_pending_lines() {
                    flush_at = None;
                } else if flush_at.is_none() {
                    flush_at = Some(Instant::now() + FLUSH_AFTER);
                }
            }
            // Time to store what has come.
            None => {
                web.logs.flush(&mut ingest).await?;
                flush_at = None;
            }
            Some(Some(Err(_)) | None) => {
                web.logs.flush(&mut ingest).await?;
                return Ok(format!("{}\n", ingest.wanted()));
            }
        }
    }
}

async fn take(
    web: &Web,
    ingest: &mut MutexGuard<'_, Ingest>,
    offset: u64,
    bytes: Bytes,
) -> Result<u64, Refusal> {
    web.logs.take(ingest, offset, &bytes).await?;
    Ok(offset + bytes.len() as u64)
}

/// The host is through: its log must be whole, and its last message is the outcome.
async fn end(web: &Web, number: i64, token: &str, query: End, body: &Bytes) -> Result<Response, Refusal> {
    let ingest = receive(web, number, token).await?;
    let mut ingest = ingest.lock().await;
    let result = RunnerResult::find(&String::from_utf8_lossy(body));
    let end = LogEnd::Whole { size: query.size, sha256: &query.sha256 };
    match web.engine.attempt_ended(&mut ingest, end, result).await {
        Ok(()) => Ok(String::from("complete\n").into_response()),
        Err(IngestError::Offset { wanted }) => {
            Ok(warp::reply::with_status(format!("{wanted}\n"), StatusCode::CONFLICT).into_response())
        }
        Err(error) => Err(error.into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_download_goes_on_where_it_ended() {
        let of = |text: &'static str| {
            let mut headers = HeaderMap::new();
            headers.insert("range", http::HeaderValue::from_static(text));
            headers.typed_get::<Range>().and_then(|range| from_byte(&range, 100))
        };
        assert_eq!((of("bytes=0-"), of("bytes=99-"), of("bytes=-5")), (Some(0), Some(99), Some(95)));
        for other in ["bytes=100-", "bytes=5-9", "bytes=1-,5-", "lines=1-"] {
            assert_eq!(of(other), None, "{other}");
        }
    }
}
