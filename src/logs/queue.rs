//! Lines of many attempts that wait to be written.

use crate::store::StoreError;
use std::sync::{Mutex, PoisonError};
use tokio::sync::oneshot;

/// The bytes of lines after which a transaction takes no further piece.
const MOST_BYTES: usize = 4 * 1024 * 1024;

/// Lines of one attempt, and how far its file has been read with them.
pub(super) struct Piece {
    pub(super) deployment: i64,
    pub(super) attempt: i64,
    pub(super) instance: String,
    pub(super) event: Option<String>,
    pub(super) source: &'static str,
    pub(super) lines: Vec<u8>,
    pub(super) at: i64,
    /// The bytes of the file that have been read.
    pub(super) read: u64,
}

/// A piece, and the channel that tells whoever waits for it to be on the disk.
pub(super) type Waiting = (Piece, oneshot::Sender<Result<(), StoreError>>);

/// The pieces that wait to be written.
#[derive(Default)]
pub(super) struct Queue(Mutex<QueueState>);

#[derive(Default)]
struct QueueState {
    pieces: Vec<Waiting>,
    /// Whether a task is writing, which goes on until nothing is left.
    writing: bool,
}

impl Queue {
    pub(super) fn put(&self, piece: Waiting) -> bool {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        waiting.pieces.push(piece);
        !std::mem::replace(&mut waiting.writing, true)
    }

    /// Returns what goes into the next transaction; nothing if no piece waits.
    pub(super) fn take(&self) -> Vec<Waiting> {
        let mut waiting = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut bytes = 0;
        let fits = waiting.pieces.iter().take_while(|(piece, _)| {
            let fits = bytes < MOST_BYTES;
            bytes += piece.lines.len();
            fits
        });
        let count = fits.count();
        waiting.writing = count > 0;
        waiting.pieces.drain(..count).collect()
    }
}
