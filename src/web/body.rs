//! Reads requests' bodies, up to a limit and within a deadline whatever their headers say.

use super::{
    limits::{BODY_PIECE, BODY_TIMEOUT, LARGEST_JSON, MOST_PIECES, MOST_STRANGERS},
    reply::Refusal,
};
use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use serde::de::DeserializeOwned;
use std::{future, sync::Arc};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::{Filter, Rejection, filters::BoxedFilter};

/// Memory for the bodies of whoever is not known yet, because the body itself is signed.
#[derive(Clone, Debug)]
pub struct Strangers {
    bodies: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
}

impl Default for Strangers {
    fn default() -> Self {
        Strangers {
            bodies: Arc::new(Semaphore::new(MOST_STRANGERS)),
            pieces: Arc::new(Semaphore::new(MOST_PIECES)),
        }
    }
}

/// A share of [`Strangers`]; it is given back when it is dropped.
struct Share<'a> {
    of: &'a Strangers,
    _body: OwnedSemaphorePermit,
    pieces: Vec<OwnedSemaphorePermit>,
}

impl Share<'_> {
    /// Makes room for a body of so many bytes; false where there is none.
    fn grow(&mut self, bytes: usize) -> bool {
        while bytes > BODY_PIECE * (self.pieces.len() + 1) {
            let Ok(piece) = Arc::clone(&self.of.pieces).try_acquire_owned() else { return false };
            self.pieces.push(piece);
        }
        true
    }
}

impl Strangers {
    /// The whole body of a stranger's request; refused past `limit` bytes, or when there are too many at once.
    pub async fn body<B: Buf>(
        &self,
        stream: impl Stream<Item = Result<B, warp::Error>>,
        limit: usize,
    ) -> Result<Bytes, Refusal> {
        let Ok(body) = Arc::clone(&self.bodies).try_acquire_owned() else { return Err(busy()) };
        let mut share = Share { of: self, _body: body, pieces: Vec::new() };
        gather(stream, limit, |bytes| share.grow(bytes)).await
    }
}

fn busy() -> Refusal {
    let words = "too many requests are being received at the same time: try again in a moment";
    Refusal::new(StatusCode::SERVICE_UNAVAILABLE, "busy", words)
}

/// The whole body; refused past `limit` bytes. It may have no length, and it may be absent.
pub fn body(limit: usize) -> BoxedFilter<(Bytes,)> {
    warp::body::stream()
        .and_then(move |stream| async move {
            gather(stream, limit, |_| true)
                .await
                .map_err(|refusal| -> Rejection { warp::reject::custom(refusal) })
        })
        .boxed()
}

async fn gather<B: Buf>(
    stream: impl Stream<Item = Result<B, warp::Error>>,
    limit: usize,
    mut room: impl FnMut(usize) -> bool,
) -> Result<Bytes, Refusal> {
    let mut stream = std::pin::pin!(stream);
    let mut whole = BytesMut::new();
    let read = async {
        while let Some(piece) = stream.next().await {
            let piece = piece.map_err(|e| {
                let words = format!("the request body broke off: {e}");
                Refusal::new(StatusCode::BAD_REQUEST, "invalid-request", words)
            })?;
            let length = whole.len() + piece.remaining();
            if length > limit {
                let words = format!("the request body is larger than {limit} bytes");
                return Err(Refusal::new(StatusCode::PAYLOAD_TOO_LARGE, "too-large", words));
            }
            if !room(length) {
                return Err(busy());
            }
            whole.put(piece);
        }
        Ok(())
    };
    tokio::time::timeout(BODY_TIMEOUT, read).await.map_err(|_| {
        let words = format!("the request body did not come within {} s", BODY_TIMEOUT.as_secs());
        Refusal::new(StatusCode::REQUEST_TIMEOUT, "too-slow", words)
    })??;
    Ok(whole.freeze())
}

/// The JSON object that the body holds; where it is absent, one without any field.
pub fn json<T: DeserializeOwned + Send + 'static>() -> BoxedFilter<(T,)> {
    body(LARGEST_JSON)
        .and_then(|body: Bytes| {
            let read = serde_json::from_slice(if body.is_empty() { b"{}" } else { &body });
            future::ready(read.map_err(|e| {
                let words = format!("the request body is not the JSON object that is wanted: {e}");
                warp::reject::custom(Refusal::new(StatusCode::BAD_REQUEST, "invalid-request", words))
            }))
        })
        .boxed()
}
