//! A TCP connection into an instance that ends when the instance's network is cut.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_util::sync::{CancellationToken, WaitForCancellationFutureOwned};

/// A connection to a port of an instance; reads and writes fail with `ConnectionReset` once its network is cut
/// or it is terminated.
pub struct Stream {
    inner: TcpStream,
    cut: Pin<Box<WaitForCancellationFutureOwned>>,
    ended: bool,
}

impl Stream {
    pub(super) fn new(inner: TcpStream, network: CancellationToken) -> Stream {
        Stream { inner, cut: Box::pin(network.cancelled_owned()), ended: false }
    }

    fn check(&mut self, cx: &mut Context<'_>) -> io::Result<()> {
        if self.ended || self.cut.as_mut().poll(cx).is_ready() {
            self.ended = true;
            return Err(io::Error::new(io::ErrorKind::ConnectionReset, "the instance's network is cut"));
        }
        Ok(())
    }
}

impl AsyncRead for Stream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_read(cx, buf)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        self.check(cx)?;
        Pin::new(&mut self.inner).poll_write(cx, buf)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.inner).poll_shutdown(cx)
    }
}
