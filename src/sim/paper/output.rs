//! What a command on a paper instance prints, and its way to CloudWatch Logs as the agent takes it.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use crc::{CRC_32_CKSUM, Crc};

use crate::sim::cloud::Cloud;
use crate::sim::cloudwatch::Uploaded;
use crate::sim::instance::agent::upload::{EVENT, EVENTS_PER_TICK, event_length, message};

/// A frame holds at most so much of the log.
const FRAME: usize = 64 * 1024;
/// Ticks of a complete command that are tried in vain.
const MOST_IN_VAIN: u32 = 600;

/// A command's standard output.
#[derive(Debug, Default)]
pub(super) struct Output {
    bytes: Mutex<Vec<u8>>,
}

impl Output {
    pub(super) fn print(&self, text: &[u8]) {
        self.bytes.lock().unwrap_or_else(PoisonError::into_inner).extend_from_slice(text);
    }

    /// The first characters, which are all that the agent tells.
    pub(super) fn first(&self, characters: usize) -> String {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        String::from_utf8_lossy(&bytes).chars().take(characters).collect()
    }

    fn from(&self, offset: usize) -> Vec<u8> {
        let bytes = self.bytes.lock().unwrap_or_else(PoisonError::into_inner);
        bytes.get(offset..).unwrap_or_default().iter().take(EVENT).copied().collect()
    }
}

/// Prints a part of a log, which is whole lines of plain text, in frames that say where it belongs.
pub(super) fn frames(nonce: &str, log: &[u8], mut offset: usize, output: &Output) {
    let mut rest = log;
    while !rest.is_empty() {
        let most = rest.len().min(FRAME);
        let length = rest[..most].iter().rposition(|byte| *byte == b'\n').map_or(most, |at| at + 1);
        let (piece, after) = rest.split_at(length);
        let header = format!("\u{1e}drover@ {nonce} {offset} {length} text {}\n", cksum(piece));
        output.print(header.as_bytes());
        output.print(piece);
        offset += length;
        rest = after;
    }
}

/// POSIX's `cksum`: the length goes into it too, its lowest byte first.
fn cksum(bytes: &[u8]) -> u32 {
    const CKSUM: Crc<u32> = Crc::<u32>::new(&CRC_32_CKSUM);
    let mut digest = CKSUM.digest();
    digest.update(bytes);
    let mut length = bytes.len();
    while length > 0 {
        digest.update(&[(length & 0xff) as u8]);
        length >>= 8;
    }
    digest.finalize()
}

/// How far a command's output has been uploaded.
pub(super) struct Uploads {
    cloud: Arc<Cloud>,
    instance: String,
    /// None: nothing is uploaded.
    command: Option<String>,
    sent: usize,
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Tick {
    /// Nothing is left.
    Through,
    /// There may be more.
    More,
    /// The service took nothing, as far as is known.
    Again,
    /// The stream can't be made.
    NoStream,
}

impl Uploads {
    pub(super) fn new(cloud: &Arc<Cloud>, instance: &str, command: Option<String>) -> Self {
        Self { cloud: Arc::clone(cloud), instance: instance.to_owned(), command, sent: 0 }
    }

    /// Whether there is anything to do once a second.
    pub(super) fn are_on(&self) -> bool {
        self.command.is_some()
    }

    /// One tick: sends what is new, as far as it goes.
    pub(super) fn tick(&mut self, output: &Output) {
        self.send(output, false);
    }

    /// The command is complete: sends all there is left, a tick after the other. False where the stream couldn't be made.
    pub(super) async fn finish(&mut self, output: &Output, every: Duration) -> bool {
        let mut in_vain = 0;
        loop {
            match self.send(output, true) {
                Tick::Through => return true,
                Tick::NoStream => return false,
                Tick::More => in_vain = 0,
                Tick::Again if in_vain == MOST_IN_VAIN => return true,
                Tick::Again => in_vain += 1,
            }
            tokio::time::sleep(every).await;
        }
    }

    fn send(&mut self, output: &Output, complete: bool) -> Tick {
        let Some(command) = self.command.clone() else { return Tick::Through };
        for _ in 0..EVENTS_PER_TICK {
            let bytes = output.from(self.sent);
            let length = event_length(&bytes, complete);
            if length == 0 {
                return Tick::Through;
            }
            let text = message(&bytes[..length], complete);
            let uploaded = self.cloud.with(|state| match state.reach_service(&self.instance) {
                Ok(()) => state.agent_upload(&self.instance, &command, "stdout", &text),
                Err(_) => Uploaded::Again,
            });
            match uploaded {
                Uploaded::Yes => self.sent += length,
                Uploaded::Again => return Tick::Again,
                Uploaded::Off => {
                    self.command = None;
                    return Tick::Through;
                }
                Uploaded::NoStream => {
                    self.command = None;
                    return Tick::NoStream;
                }
            }
        }
        Tick::More
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_checksum_is_posix_s() {
        assert_eq!((cksum(b"123456789"), cksum(b"")), (930_766_865, 4_294_967_295));
    }

    #[test]
    fn a_log_is_printed_in_frames_of_whole_lines() {
        let output = Output::default();
        let log = "x".repeat(FRAME - 10) + "\n" + &"y".repeat(20) + "\n";
        frames("n1", log.as_bytes(), 7, &output);
        let printed = output.first(usize::MAX);
        let headers: Vec<&str> = printed.lines().filter(|line| line.starts_with('\u{1e}')).collect();
        assert!(headers[0].starts_with(&format!("\u{1e}drover@ n1 7 {} text ", FRAME - 9)));
        assert!(headers[1].starts_with(&format!("\u{1e}drover@ n1 {} 21 text ", FRAME - 2)));
    }
}
