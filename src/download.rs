//! A download onto the disk: the file appears when it is whole, and never beyond its limit.

use bytes::Bytes;
use futures_util::{Stream, StreamExt as _};
use std::{io, path::Path, pin::pin};
use thiserror::Error;
use tokio::io::AsyncWriteExt as _;

/// A larger archive is refused: it would fill the hosts' disks too.
pub const LARGEST_ARCHIVE: u64 = 2 * 1024 * 1024 * 1024;

/// Why there is no file.
#[derive(Debug, Error)]
pub enum SaveError<E> {
    /// What came ended early.
    #[error(transparent)]
    Source(E),
    /// It is too large.
    #[error("its archive is larger than {} GiB: keep what is not source out of it", LARGEST_ARCHIVE >> 30)]
    TooLarge,
    /// The disk.
    #[error("writing the download: {0}")]
    Disk(#[from] io::Error),
}

/// Writes what comes to `path`: under another name first, which is gone if anything goes wrong.
pub async fn save<E>(body: impl Stream<Item = Result<Bytes, E>>, path: &Path) -> Result<(), SaveError<E>> {
    let folder = path.parent().unwrap_or(Path::new("."));
    let part = tempfile::Builder::new().prefix(".").suffix(".part").tempfile_in(folder)?;
    let mut file = tokio::fs::File::from_std(part.reopen()?);
    let mut body = pin!(body);
    let mut bytes = 0;
    while let Some(piece) = body.next().await {
        let piece = piece.map_err(SaveError::Source)?;
        bytes += piece.len() as u64;
        if bytes > LARGEST_ARCHIVE {
            return Err(SaveError::TooLarge);
        }
        file.write_all(&piece).await?;
    }
    file.sync_all().await?;
    part.persist(path).map_err(|e| e.error)?;
    // The name is on the disk only when its folder is.
    Ok(tokio::fs::File::open(folder).await?.sync_all().await?)
}
