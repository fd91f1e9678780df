//! One request on its way through the balancer: counted when it begins, and recorded once when it ends, however it ends.

use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::{Duration, Instant};

use bytes::Bytes;
use http::Request;
use hyper::body::{Body as _, Frame, Incoming, SizeHint};
use tokio::time::Sleep;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

use super::ledger::Ledger;
use super::outcome::{Ended, Outcome};

/// Any error of a body.
pub(super) type BoxError = Box<dyn std::error::Error + Send + Sync>;

/// A request under way; it records its outcome when it is dropped. Where nobody has said how it ended, the client has left.
pub(super) struct Exchange {
    ledger: Arc<Ledger>,
    pub(super) outcome: Outcome,
    pub(super) ended: Option<Ended>,
    begun: Instant,
}

impl Exchange {
    /// Begins the record of a request that has just arrived.
    pub(super) fn begin(ledger: Arc<Ledger>, request: &Request<Incoming>) -> Exchange {
        ledger.count_arrival();
        let outcome = Outcome {
            instance_id: None,
            method: request.method().to_string(),
            path: request.uri().path().to_owned(),
            status: 0,
            balancer_error: None,
            upgraded: false,
            ended: Ended::ClientLeft,
            millis: 0,
        };
        Exchange { ledger, outcome, ended: None, begun: Instant::now() }
    }

    /// Counts the request as its target's; the token is cancelled when the target is closed.
    pub(super) fn assign(&mut self, instance_id: &str) -> CancellationToken {
        self.outcome.instance_id = Some(instance_id.to_owned());
        self.ledger.assign(instance_id)
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.outcome.ended = self.ended.unwrap_or(Ended::ClientLeft);
        self.outcome.millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        self.ledger.record(&self.outcome);
    }
}

/// A target's response body on its way to the client.
pub(super) struct Relayed {
    inner: Incoming,
    exchange: Exchange,
    closed: Pin<Box<WaitForCancellationFutureOwned>>,
    idle: Pin<Box<Sleep>>,
    patience: Duration,
}

impl Relayed {
    /// Relays this body; `patience` is how long neither side may be idle.
    pub(super) fn new(
        inner: Incoming,
        mut exchange: Exchange,
        closed: CancellationToken,
        patience: Duration,
    ) -> Relayed {
        if inner.is_end_stream() {
            exchange.ended = Some(Ended::Complete);
        }
        Relayed {
            inner,
            exchange,
            closed: Box::pin(closed.cancelled_owned()),
            idle: Box::pin(tokio::time::sleep(patience)),
            patience,
        }
    }

    fn set_end(&mut self, how: Ended) {
        self.exchange.ended.get_or_insert(how);
    }
}

impl hyper::body::Body for Relayed {
    type Data = Bytes;
    type Error = BoxError;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, BoxError>>> {
        if self.closed.as_mut().poll(cx).is_ready() {
            self.set_end(Ended::Deregistered);
            return Poll::Ready(Some(Err("the target's deregistration delay is over".into())));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let deadline = tokio::time::Instant::now() + self.patience;
                self.idle.as_mut().reset(deadline);
                // With a Content-Length nobody asks again after the last byte.
                if self.inner.is_end_stream() {
                    self.set_end(Ended::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.set_end(Ended::TargetBroke);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.set_end(Ended::Complete);
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                self.set_end(Ended::Idle);
                Poll::Ready(Some(Err("the target said nothing for the idle time-out".into())))
            }
        }
    }

    fn is_end_stream(&self) -> bool {
        self.inner.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.inner.size_hint()
    }
}
