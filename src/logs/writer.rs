//! Writes lines of many attempts in one transaction: what arrives while one is being written goes into the next, together
//! with all else that has arrived meanwhile. Fifty instances that write cost tens of commits a second, not
//! hundreds, and whoever else writes waits for one of them at most.

use super::{
    Logs,
    queue::{Piece, Queue, Waiting},
};
use crate::store::{NewChunk, Store, StoreError};
use std::sync::Arc;
use tokio::sync::oneshot;

impl Logs {
    /// Writes a piece, and returns when it is on the disk.
    pub(super) async fn write(&self, piece: Piece) -> Result<(), StoreError> {
        let deployment = piece.deployment;
        let (written, told) = oneshot::channel();
        if self.queue.put((piece, written)) {
            // A task of its own: whoever waits may go away.
            tokio::spawn(write_all(Arc::clone(&self.store), Arc::clone(&self.queue)));
        }
        let lost = |_| Err(StoreError::Unreachable("the writer of the log has broken off".into()));
        told.await.unwrap_or_else(lost)?;
        self.announce(deployment);
        Ok(())
    }
}

async fn write_all(store: Arc<Store>, queue: Arc<Queue>) {
    loop {
        let pieces = queue.take();
        if pieces.is_empty() {
            return;
        }
        match write_together(&store, &pieces).await {
            // The database refuses one of them: the others have nothing to do with it.
            Err(StoreError::Database(_)) if pieces.len() > 1 => {
                for piece in pieces {
                    let done = write_together(&store, std::slice::from_ref(&piece)).await;
                    let _ = piece.1.send(done);
                }
            }
            Ok(()) => pieces.into_iter().for_each(|(_, written)| drop(written.send(Ok(())))),
            Err(error) => {
                let words = error.to_string();
                let mut error = Some(error);
                for (_, written) in pieces {
                    let error = error.take().unwrap_or_else(|| StoreError::Unreachable(words.clone()));
                    let _ = written.send(Err(error));
                }
            }
        }
    }
}

async fn write_together(store: &Store, pieces: &[Waiting]) -> Result<(), StoreError> {
    let mut tx = store.write().await?;
    for (piece, _) in pieces {
        let chunk = NewChunk {
            instance: Some(&piece.instance),
            event: piece.event.as_deref(),
            attempt: Some(piece.attempt),
            source: piece.source,
            payload: &piece.lines,
            at: piece.at,
        };
        tx.append_log(piece.deployment, &chunk).await?;
        tx.set_log(piece.attempt, i64::try_from(piece.read).unwrap_or(i64::MAX), false).await?;
    }
    tx.commit().await
}
