//! The log of one attempt while it comes in: how far its file has been accepted, parsed and stored.

use super::parse::Parser;
use sha2::{Digest as _, Sha256};
use std::collections::VecDeque;

/// The log of one attempt while it comes in.
pub struct Ingest {
    pub(super) deployment: i64,
    pub(super) attempt: i64,
    pub(super) instance: String,
    pub(super) parser: Parser,
    pub(super) hasher: Sha256,
    /// The bytes of the file that are accepted and not yet in a finished item, so not hashed either.
    pub(super) unhashed: Vec<u8>,
    /// Whether the runner's last line has come: what follows, from a background child, is not part of the log.
    pub(super) finished: bool,
    /// The bytes of the file accepted so far.
    pub(super) taken: u64,
    /// The bytes of it that are in finished items.
    pub(super) parsed: u64,
    /// The bytes of it whose lines are in the store.
    pub(super) stored: u64,
    pub(super) event: Option<String>,
    pub(super) lines: Vec<u8>,
    pub(super) tail: VecDeque<String>,
    /// How many annotations have come.
    pub(super) annotations: usize,
}

impl Ingest {
    /// Begins the log of an attempt, of which `stored` bytes are in the store already.
    pub(super) fn new(deployment: i64, attempt: i64, instance: String, nonce: &str, stored: u64) -> Ingest {
        Ingest {
            deployment,
            attempt,
            instance,
            parser: Parser::new(nonce),
            hasher: Sha256::new(),
            unhashed: Vec::new(),
            finished: false,
            taken: 0,
            parsed: 0,
            stored,
            event: None,
            lines: Vec::new(),
            tail: VecDeque::new(),
            annotations: 0,
        }
    }

    /// Returns the number of the attempt.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// Returns the offset at which the host is to continue.
    pub fn wanted(&self) -> u64 {
        self.taken
    }

    /// Whether lines wait to be stored.
    pub fn has_pending_lines(&self) -> bool {
        self.parsed > self.stored
    }
}
