//! What a command writes, uploaded while it runs, as the real agent does it (3.3.0.0, its source): whole lines in events, once
//! a second and a few at a time; an event loses its last newline once the command is complete; a long line is cut.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};
use std::time::Duration;

use serde::Deserialize;
use serde_json::json;

use super::client::Service;
use super::state::{Document, Folder};

/// An event holds as many lines as fit into this.
pub(in crate::sim) const EVENT: usize = 200_000;
/// Events of one stream in one tick.
pub(in crate::sim) const EVENTS_PER_TICK: u64 = 4;
/// An answer is waited for so long.
const PATIENCE: Duration = Duration::from_secs(10);
/// Ticks of a complete command that are tried in vain.
const MOST_IN_VAIN: u32 = 600;
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// How far a command's output has been uploaded. It begins afresh after a restart of the agent, where the uploaded
/// lengths are read from the command's folder.
pub(super) struct Uploads {
    folder: Folder,
    command: Option<String>,
    sent: [u64; 2],
    /// The stream could not be made.
    no_stream: bool,
}

/// How the uploads of a command ended.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Ended {
    Done,
    WithoutStream,
}

/// What became of one tick of a stream.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Tick {
    /// Nothing is left.
    Through,
    /// There may be more.
    More,
    /// The service took nothing, as far as is known: the same again at the next tick.
    Again,
}

#[derive(Deserialize)]
struct Answer {
    uploaded: String,
}

impl Uploads {
    pub(super) fn of(folder: &Folder, document: &Document) -> Uploads {
        let kept = std::fs::read(folder.0.join("uploaded.json")).ok();
        let sent = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let command = document.uploads.then(|| document.command_id.clone());
        Uploads { folder: folder.clone(), command, sent, no_stream: false }
    }

    /// One tick: sends what is new, as far as it goes.
    pub(super) async fn tick(&mut self, service: &Service) {
        for at in 0..STREAMS.len() {
            self.send(service, at, false).await;
        }
    }

    /// The command is complete: sends all there is left, a tick after the other.
    pub(super) async fn finish(&mut self, service: &Service, every: Duration) -> Ended {
        for at in 0..STREAMS.len() {
            let mut in_vain = 0;
            loop {
                match self.send(service, at, true).await {
                    Tick::Through => break,
                    Tick::More => in_vain = 0,
                    // The real agent goes on for ever; what waits for it has given up long before.
                    Tick::Again if in_vain == MOST_IN_VAIN => break,
                    Tick::Again => in_vain += 1,
                }
                tokio::time::sleep(every).await;
            }
        }
        if self.no_stream { Ended::WithoutStream } else { Ended::Done }
    }

    /// A tick of one stream.
    async fn send(&mut self, service: &Service, at: usize, complete: bool) -> Tick {
        let Some(command) = self.command.clone() else { return Tick::Through };
        for _ in 0..EVENTS_PER_TICK {
            let bytes = self.read(STREAMS[at], self.sent[at]);
            let length = event_length(&bytes, complete);
            if length == 0 {
                return Tick::Through;
            }
            let body = json!({ "command_id": command, "stream": STREAMS[at], "text": message(&bytes[..length], complete) });
            let answer = service.call("upload", body, PATIENCE).await;
            let answer = answer.ok().and_then(|bytes| serde_json::from_slice::<Answer>(&bytes).ok());
            match answer.map(|answer| answer.uploaded).as_deref() {
                Some("yes") => {}
                Some("off") => {
                    self.command = None;
                    return Tick::Through;
                }
                Some("no-stream") => {
                    self.command = None;
                    self.no_stream = true;
                    return Tick::Through;
                }
                _ => return Tick::Again,
            }
            self.sent[at] += length as u64;
            // Without room on the disk, a restart uploads again what was uploaded before.
            drop(self.folder.write("uploaded.json", &self.sent));
        }
        Tick::More
    }

    fn read(&self, stream: &str, from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = File::open(self.folder.0.join(stream)).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(EVENT as u64).read_to_end(&mut bytes)
        });
        drop(read);
        bytes
    }
}

/// How many of these bytes, which are [`EVENT`] at most, go into the next event.
pub(in crate::sim) fn event_length(bytes: &[u8], complete: bool) -> usize {
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
    match whole {
        // What follows the last newline waits, unless nothing can come any more.
        Some(_) if complete && bytes.len() < EVENT => bytes.len(),
        Some(end) => end,
        None if complete || bytes.len() == EVENT => bytes.len(),
        None => 0,
    }
}

/// An event's text. What is not UTF-8 doesn't survive.
pub(in crate::sim) fn message(bytes: &[u8], complete: bool) -> String {
    let text = String::from_utf8_lossy(bytes).replace("\r\n", "\n");
    match text.strip_suffix('\n') {
        Some(stripped) if complete => stripped.to_owned(),
        _ => text,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn whole_lines_while_it_runs_and_the_rest_at_the_end() {
        assert_eq!(event_length(b"one\ntwo\nthr", false), 8);
        assert_eq!(event_length(b"thr", false), 0);
        assert_eq!(event_length(b"one\nthr", true), 7);
        assert_eq!((event_length(b"", false), event_length(b"", true)), (0, 0));
        let long = vec![b'x'; EVENT];
        assert_eq!(event_length(&long, false), EVENT, "a long line is cut");
    }

    #[test]
    fn an_event_keeps_its_last_newline_until_the_command_is_complete() {
        assert_eq!(message(b"one\r\ntwo\n", false), "one\ntwo\n");
        assert_eq!(message(b"one\r\ntwo\n", true), "one\ntwo");
        assert_eq!(message(b"one\n\n", true), "one\n");
    }
}
