//! The log pipeline: what hosts send is parsed, numbered, stored in chunks, and followed live.
//!
//! On top of [`crate::store`] and nothing else of ours. A line is published only once it is on the disk; a reader
//! always reads the store, and is merely told that there is more.

pub mod annotation;
pub mod clean;
pub mod follow;
pub mod frames;
mod incoming;
pub mod ingest;
mod parse;
mod queue;
mod writer;

use crate::store::{NewChunk, Store, StoreError};
use incoming::Ingest;
use jiff::Timestamp;
use queue::Queue;
use std::{
    collections::HashMap,
    sync::{Arc, Mutex, PoisonError},
};
use tokio::sync::watch;

/// All logs of this daemon.
pub struct Logs {
    store: Arc<Store>,
    /// A counter per deployment, raised whenever there is something new to read.
    news: Mutex<HashMap<i64, watch::Sender<u64>>>,
    /// The bytes that are kept of one attempt.
    budget: u64,
    /// The logs that are being received, by attempt.
    receiving: Mutex<HashMap<i64, Arc<tokio::sync::Mutex<Ingest>>>>,
    /// The lines that wait to be written.
    queue: Arc<Queue>,
}

impl Logs {
    /// Makes the logs over a store; of one attempt `budget` bytes are kept.
    pub fn new(store: Arc<Store>, budget: u64) -> Logs {
        Logs { store, budget, news: Mutex::default(), receiving: Mutex::default(), queue: Arc::default() }
    }

    /// Tells the readers of a deployment's log, and of its state, to look again.
    pub fn announce(&self, deployment: i64) {
        self.sender(deployment).send_modify(|count| *count += 1);
    }

    /// Returns a receiver that changes whenever there is something new.
    pub fn subscribe(&self, deployment: i64) -> watch::Receiver<u64> {
        self.sender(deployment).subscribe()
    }

    fn sender(&self, deployment: i64) -> watch::Sender<u64> {
        let mut news = self.news.lock().unwrap_or_else(PoisonError::into_inner);
        // Channels that nobody reads any more are not kept.
        if news.len() > 64 {
            news.retain(|id, sender| *id == deployment || sender.receiver_count() > 0);
        }
        news.entry(deployment).or_insert_with(|| watch::channel(0).0).clone()
    }

    /// Writes drover's own lines about a deployment, or about one instance in it.
    pub async fn note(&self, deployment: i64, instance: Option<&str>, text: &str) -> Result<(), StoreError> {
        let mut tx = self.store.write().await?;
        tx.append_log(deployment, &note_chunk(instance, &lines_of(text))).await?;
        tx.commit().await?;
        self.announce(deployment);
        Ok(())
    }
}

/// Makes the chunk of drover's own lines.
pub fn note_chunk<'a>(instance: Option<&'a str>, payload: &'a [u8]) -> NewChunk<'a> {
    NewChunk {
        instance,
        event: None,
        attempt: None,
        source: "drover",
        payload,
        at: Timestamp::now().as_millisecond(),
    }
}

/// Returns a text as whole lines.
pub fn lines_of(text: &str) -> Vec<u8> {
    let mut lines = text.as_bytes().to_vec();
    lines.push(b'\n');
    lines
}
