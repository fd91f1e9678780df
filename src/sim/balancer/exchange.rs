//! One request on its way: counted at its beginning, recorded once at its end, however it ends.

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

use super::{Balancer, BoxError, Ended, Outcome};

/// Records its outcome when dropped; an end that nobody named is the client's leaving.
pub(super) struct Exchange {
    balancer: Arc<Balancer>,
    pub(super) outcome: Outcome,
    pub(super) ended: Option<Ended>,
    begun: Instant,
}

impl Exchange {
    pub(super) fn begin(balancer: Arc<Balancer>, request: &Request<Incoming>) -> Exchange {
        balancer.state().counts.requests += 1;
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
        Exchange { balancer, outcome, ended: None, begun: Instant::now() }
    }

    /// Counts the request as its target's; the token is cancelled when the target is closed.
    pub(super) fn assign(&mut self, instance_id: &str) -> CancellationToken {
        self.outcome.instance_id = Some(instance_id.to_owned());
        let mut state = self.balancer.state();
        *state.counts.by_target.entry(instance_id.to_owned()).or_default() += 1;
        let open = state.open.entry(instance_id.to_owned()).or_default();
        open.requests += 1;
        open.close.clone()
    }
}

impl Drop for Exchange {
    fn drop(&mut self) {
        self.outcome.ended = self.ended.unwrap_or(Ended::ClientLeft);
        self.outcome.millis = u64::try_from(self.begun.elapsed().as_millis()).unwrap_or(u64::MAX);
        {
            let mut state = self.balancer.state();
            let counts = &mut state.counts;
            match (&self.outcome.balancer_error, self.outcome.status) {
                (Some(_), _) => counts.balancer_5xx += 1,
                (None, 500..) => counts.target_5xx += 1,
                _ => {}
            }
            match self.outcome.ended {
                Ended::TargetBroke => counts.broken += 1,
                Ended::Deregistered => counts.deregistered += 1,
                Ended::Complete | Ended::Idle | Ended::ClientLeft => {}
            }
            if let Some(id) = &self.outcome.instance_id
                && let Some(open) = state.open.get_mut(id)
            {
                open.requests -= 1;
                if open.requests == 0 {
                    state.open.remove(id);
                }
            }
        }
        self.balancer.targets.record(self.outcome.clone());
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

    fn end(&mut self, how: Ended) {
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
            self.end(Ended::Deregistered);
            return Poll::Ready(Some(Err("the target's deregistration delay is over".into())));
        }
        match Pin::new(&mut self.inner).poll_frame(cx) {
            Poll::Ready(Some(Ok(frame))) => {
                let deadline = tokio::time::Instant::now() + self.patience;
                self.idle.as_mut().reset(deadline);
                // With a Content-Length nobody asks again after the last byte.
                if self.inner.is_end_stream() {
                    self.end(Ended::Complete);
                }
                Poll::Ready(Some(Ok(frame)))
            }
            Poll::Ready(Some(Err(error))) => {
                self.end(Ended::TargetBroke);
                Poll::Ready(Some(Err(error.into())))
            }
            Poll::Ready(None) => {
                self.end(Ended::Complete);
                Poll::Ready(None)
            }
            Poll::Pending => {
                ready!(self.idle.as_mut().poll(cx));
                self.end(Ended::Idle);
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
