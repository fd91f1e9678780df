//! What requests bring: bodies, up to a limit whatever their headers say.

use super::reply::Refusal;
use bytes::{Buf, BufMut as _, Bytes, BytesMut};
use futures_util::{Stream, StreamExt as _};
use http::StatusCode;
use warp::{Filter, Rejection, filters::BoxedFilter};

/// The whole body; refused past `limit` bytes. It may have no length, and it may be absent.
pub fn body(limit: usize) -> BoxedFilter<(Bytes,)> {
    warp::body::stream().and_then(move |stream| gather(stream, limit)).boxed()
}

async fn gather<B: Buf>(
    stream: impl Stream<Item = Result<B, warp::Error>>,
    limit: usize,
) -> Result<Bytes, Rejection> {
    let refused = |status, code, words: String| warp::reject::custom(Refusal::new(status, code, words));
    let mut stream = std::pin::pin!(stream);
    let mut whole = BytesMut::new();
    while let Some(piece) = stream.next().await {
        let piece = piece.map_err(|e| {
            refused(StatusCode::BAD_REQUEST, "invalid-request", format!("the request body broke off: {e}"))
        })?;
        if whole.len() + piece.remaining() > limit {
            let words = format!("the request body is larger than {limit} bytes");
            return Err(refused(StatusCode::PAYLOAD_TOO_LARGE, "too-large", words));
        }
        whole.put(piece);
    }
    Ok(whole.freeze())
}
