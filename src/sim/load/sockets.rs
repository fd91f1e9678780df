//! The WebSockets of the load: held open, with an echo each second, reopened when they end.

use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use futures_util::{SinkExt, StreamExt};
use tokio::net::TcpStream;
use tokio_tungstenite::WebSocketStream;
use tokio_tungstenite::tungstenite::error::ProtocolError;
use tokio_tungstenite::tungstenite::{Error, Message};
use tokio_util::sync::CancellationToken;

use super::report::Tally;

/// How often a socket sends a message.
const SAY: Duration = Duration::from_secs(1);
/// How long an opening may take.
const PATIENCE: Duration = Duration::from_secs(10);
/// Echoes that may be outstanding; as one message is sent each second, these are seconds of silence.
const UNANSWERED: u64 = 10;
/// Pause after a failure; after an orderly end the socket is reopened at once.
const PAUSE: Duration = Duration::from_millis(200);

/// How a socket ended without a fault.
enum End {
    /// The load stops.
    Stopped,
    /// The connection ended in an orderly way, without a word of the service.
    Deregistered,
}

/// Holds one socket open until the load stops.
pub(super) async fn hold(authority: String, number: usize, tally: Arc<Tally>, stopping: CancellationToken) {
    while !stopping.is_cancelled() {
        let talked = match stopping.run_until_cancelled(open(&authority)).await {
            None => return,
            Some(opened) => {
                {
                    let mut report = tally.report();
                    report.total += 1;
                    report.by_kind.websocket.opened += u64::from(opened.is_ok());
                }
                match opened {
                    Ok(socket) => talk(socket, number, &stopping).await,
                    Err(error) => Err(error),
                }
            }
        };
        match talked {
            Ok(End::Stopped) => return,
            Ok(End::Deregistered) => tally.report().by_kind.websocket.closed_by_deregistration += 1,
            Err(error) => {
                tally.count_failed_socket(&error);
                stopping.run_until_cancelled(tokio::time::sleep(PAUSE)).await;
            }
        }
    }
}

async fn open(authority: &str) -> anyhow::Result<WebSocketStream<TcpStream>> {
    let opening = async {
        let stream = TcpStream::connect(authority).await.context("connect")?;
        let opened = tokio_tungstenite::client_async(format!("ws://{authority}/ws"), stream).await;
        Ok(opened.context("open")?.0)
    };
    tokio::time::timeout(PATIENCE, opening).await.context("not opened in time")?
}

async fn talk(
    mut socket: WebSocketStream<TcpStream>,
    number: usize,
    stopping: &CancellationToken,
) -> anyhow::Result<End> {
    let mut ticks = tokio::time::interval(SAY);
    let (mut said, mut heard) = (0_u64, 0_u64);
    loop {
        let message = tokio::select! {
            // What has been heard comes first: saying something to a closed connection would turn its end into a reset.
            biased;
            message = socket.next() => message,
            () = stopping.cancelled() => {
                // The report does not wait for the other side's goodbye.
                drop(tokio::time::timeout(PAUSE, socket.close(None)).await);
                return Ok(End::Stopped);
            }
            _ = ticks.tick() => {
                ensure!(said - heard < UNANSWERED, "{UNANSWERED} messages without an echo");
                said += 1;
                // How it ended, where this fails, is what the next reading tells.
                drop(socket.send(Message::text(phrase(number, said))).await);
                continue;
            }
        };
        match message {
            Some(Ok(Message::Close(frame))) => {
                let code = frame.map_or_else(|| "no code".to_owned(), |frame| frame.code.to_string());
                bail!("closed by the service ({code})");
            }
            Some(Ok(Message::Text(text))) if text.starts_with("tick ") => {}
            Some(Ok(Message::Text(text))) => {
                heard += 1;
                ensure!(text.as_str() == phrase(number, heard), "echo {heard} is wrong: {text:.80}");
            }
            Some(Ok(_)) => {}
            // The end of the connection without a closing frame.
            Some(Err(Error::Protocol(ProtocolError::ResetWithoutClosingHandshake))) => {
                return Ok(End::Deregistered);
            }
            Some(Err(error)) => return Err(error).context("broken off"),
            None => return Ok(End::Deregistered),
        }
    }
}

fn phrase(number: usize, said: u64) -> String {
    format!("socket {number} says {said}")
}
