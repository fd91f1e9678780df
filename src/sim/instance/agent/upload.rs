//! What a command writes, uploaded while it runs: whole lines only; the rest of a line at the end.

use std::fs::File;
use std::io::{Read, Seek, SeekFrom};

use serde_json::json;

use super::client::Service;
use super::state::{Document, Folder};

/// At most this much at a time.
const PIECE: u64 = 512 * 1024;
const STREAMS: [&str; 2] = ["stdout", "stderr"];

/// How far a command's output has been uploaded. It begins afresh after a restart of the agent, where the uploaded
/// lengths are read from the command's folder.
pub(super) struct Uploads {
    folder: Folder,
    command: Option<String>,
    sent: [u64; 2],
}

impl Uploads {
    pub(super) fn of(folder: &Folder, document: &Document) -> Uploads {
        let kept = std::fs::read(folder.0.join("uploaded.json")).ok();
        let sent = kept.and_then(|bytes| serde_json::from_slice(&bytes).ok()).unwrap_or_default();
        let command = document.uploads.then(|| document.command_id.clone());
        Uploads { folder: folder.clone(), command, sent }
    }

    /// Sends what is new; with `all`, an unfinished last line too.
    pub(super) async fn send(&mut self, service: &Service, all: bool) {
        let Some(command) = self.command.clone() else { return };
        for (at, stream) in STREAMS.iter().enumerate() {
            loop {
                let bytes = self.read(stream, self.sent[at]);
                let whole = bytes.iter().rposition(|byte| *byte == b'\n').map(|end| end + 1);
                let last = (bytes.len() as u64) < PIECE;
                let length = match whole {
                    Some(end) if !(all && last) => end,
                    _ if all || !last => bytes.len(),
                    _ => 0,
                };
                if length == 0 {
                    break;
                }
                let text = String::from_utf8_lossy(&bytes[..length]).into_owned();
                let text = text.strip_suffix('\n').unwrap_or(&text);
                let body = json!({ "command_id": command, "stream": stream, "text": text });
                service.insist("upload", body).await;
                self.sent[at] += length as u64;
                // Without room on the disk, a restart uploads again what was uploaded before.
                drop(self.folder.write("uploaded.json", &self.sent));
            }
        }
    }

    fn read(&self, stream: &str, from: u64) -> Vec<u8> {
        let mut bytes = Vec::new();
        let read = File::open(self.folder.0.join(stream)).and_then(|mut file| {
            file.seek(SeekFrom::Start(from))?;
            file.take(PIECE).read_to_end(&mut bytes)
        });
        drop(read);
        bytes
    }
}
