//! What requests bring: bodies, up to a limit and within a deadline whatever their headers say; segments of their paths.

use super::reply::Refusal;
use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use std::{convert::Infallible, str::FromStr, sync::Arc, time::Duration};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use warp::{Filter, Rejection, filters::BoxedFilter};

/// A body is there within this, or its connection is cut: the largest that is taken is 8 MiB.
const BODY_TIMEOUT: Duration = Duration::from_secs(15);
/// Bodies of strangers that are gathered at the same time, each with [`SMALL`] bytes.
const MOST_BODIES: usize = 512;
const SMALL: usize = 64 * 1024;
/// What all larger ones hold beyond that together, in pieces of [`SMALL`] bytes: 64 MiB.
const LARGE_PIECES: usize = 1024;

/// Memory for the bodies of whoever is not known yet, because the body itself is signed.
#[derive(Clone, Debug)]
pub struct Strangers {
    bodies: Arc<Semaphore>,
    pieces: Arc<Semaphore>,
}

impl Default for Strangers {
    fn default() -> Self {
        Strangers {
            bodies: Arc::new(Semaphore::new(MOST_BODIES)),
            pieces: Arc::new(Semaphore::new(LARGE_PIECES)),
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
        while bytes > SMALL * (self.pieces.len() + 1) {
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

/// A segment of a path, percent-decoded.
#[derive(Clone, Debug)]
pub struct Segment(pub String);

impl FromStr for Segment {
    type Err = Infallible;

    fn from_str(text: &str) -> Result<Self, Infallible> {
        Ok(Segment(percent_encoding::percent_decode_str(text).decode_utf8_lossy().into_owned()))
    }
}
