//! The log of one attempt while it comes in: how far its file has been taken, parsed and stored.

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
    /// Bytes of the file that are taken and not yet in a finished item, so not hashed either.
    pub(super) unhashed: Vec<u8>,
    /// The runner's last line has come: what follows, from a background child, is not part of the log.
    pub(super) finished: bool,
    /// Bytes of the file taken so far.
    pub(super) taken: u64,
    /// Bytes of it that are in finished items.
    pub(super) parsed: u64,
    /// Bytes of it whose lines are in the store.
    pub(super) stored: u64,
    pub(super) event: Option<String>,
    pub(super) lines: Vec<u8>,
    pub(super) tail: VecDeque<String>,
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
        }
    }

    /// Whose log it is.
    pub fn attempt(&self) -> i64 {
        self.attempt
    }

    /// Where the host is to go on.
    pub fn wanted(&self) -> u64 {
        self.taken
    }

    /// Whether lines wait to be stored.
    pub fn pending(&self) -> bool {
        self.parsed > self.stored
    }
}
