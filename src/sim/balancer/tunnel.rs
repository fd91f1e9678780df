//! An upgraded connection (a WebSocket): bytes are passed both ways until one side ends, the target is closed, or the
//! connection has been idle for too long.

use std::io;
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use hyper::upgrade::{OnUpgrade, Upgraded};
use hyper_util::rt::TokioIo;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_util::sync::CancellationToken;

use super::exchange::Exchange;
use super::outcome::Ended;

/// How long the target may go on sending after the client has closed its side.
const AFTER_CLIENT: Duration = Duration::from_secs(5);

/// Runs a tunnel until it ends. At the end of a deregistration delay the client sees an orderly end of the connection;
/// where the target drops the connection, a reset.
pub(super) async fn run(
    client: OnUpgrade,
    target: OnUpgrade,
    mut exchange: Exchange,
    closed: CancellationToken,
    patience: Duration,
) {
    let (Ok(client), Ok(target)) = (client.await, target.await) else { return };
    let Ok(parts) = client.downcast::<TokioIo<TcpStream>>() else { return };
    let (mut client, early) = (parts.io.into_inner(), parts.read_buf);
    let mut target = TokioIo::new(target);
    if target.write_all(&early).await.is_err() {
        exchange.ended = Some(Ended::TargetBroke);
        return;
    }
    let how = tokio::select! {
        how = copy_both_ways(&mut client, &mut target, patience) => how,
        () = closed.cancelled() => Ended::Deregistered,
    };
    exchange.ended = Some(how);
    if how == Ended::TargetBroke {
        // Without effect where the client is gone as well.
        drop(client.set_zero_linger());
    } else {
        drop(client.shutdown().await);
    }
}

async fn copy_both_ways(client: &mut TcpStream, target: &mut TokioIo<Upgraded>, patience: Duration) -> Ended {
    let last = Mutex::new(Instant::now());
    let (mut client_read, mut client_write) = client.split();
    let (mut target_read, mut target_write) = tokio::io::split(target);
    let up = pump(&mut client_read, &mut target_write, &last);
    let down = pump(&mut target_read, &mut client_write, &last);
    let idle = async {
        while let Some(rest) = patience.checked_sub(read(&last).elapsed()) {
            tokio::time::sleep(rest).await;
        }
    };
    tokio::pin!(down);
    tokio::select! {
        ended = up => if ended.is_err() { return Ended::TargetBroke },
        ended = &mut down => return if ended.is_ok() { Ended::TargetBroke } else { Ended::ClientLeft },
        () = idle => return Ended::Idle,
    }
    // The target sees the end and may still answer it.
    drop(target_write.shutdown().await);
    drop(tokio::time::timeout(AFTER_CLIENT, down).await);
    Ended::Complete
}

fn read(last: &Mutex<Instant>) -> Instant {
    *last.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Copies until the source ends or fails (Ok) or the sink fails (Err).
async fn pump(
    from: &mut (impl AsyncRead + Unpin),
    to: &mut (impl AsyncWrite + Unpin),
    last: &Mutex<Instant>,
) -> io::Result<()> {
    let mut buffer = vec![0; 16 * 1024];
    loop {
        let count = match from.read(&mut buffer).await {
            Ok(0) | Err(_) => return Ok(()),
            Ok(count) => count,
        };
        *last.lock().unwrap_or_else(PoisonError::into_inner) = Instant::now();
        to.write_all(&buffer[..count]).await?;
        to.flush().await?;
    }
}
