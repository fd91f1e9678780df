//! The store: all that must survive a restart, in one SQLite file (WAL, synchronous=FULL).
//!
//! Runtime queries through sqlx's Any driver, in SQL that PostgreSQL speaks too. Knows no other part of drover: what
//! others keep here in their own shapes comes and goes as JSON text. Times are milliseconds since 1970, UTC.

mod access;
mod deliveries;
mod deployments;
mod dispatches;
mod intents;
mod ledger;
mod logs;

pub use access::TokenRow;
pub use deliveries::DeliveryRow;
pub use deployments::DeploymentRow;
pub use dispatches::{AttemptRow, DispatchRow};
pub use intents::IntentRow;
pub use logs::{Chunk, NewChunk};

use sqlx::{Any, AnyPool, Row, Transaction, any::AnyPoolOptions};
use std::{
    fs::{File, OpenOptions, TryLockError},
    path::{Path, PathBuf},
};
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// Readers at once; there is one writer.
const CONNECTIONS: u32 = 8;

/// What can go wrong with the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another daemon has it.
    #[error(
        "the database {0} is in use by another drover daemon; stop that one first, or give this one a data directory of its own"
    )]
    InUse(PathBuf),
    /// It can't be opened or written.
    #[error(
        "the database {path} can't be {what}: {why}; check the directory's owner, permissions and free space"
    )]
    Unusable {
        /// Where.
        path: PathBuf,
        /// Opened, written …
        what: &'static str,
        /// What the system said.
        why: String,
    },
    /// A newer daemon has taken over.
    #[error("another daemon has taken over this database (epoch {ours} is not the newest): stopping")]
    Stale {
        /// Our epoch.
        ours: i64,
    },
    /// Made by a newer version.
    #[error("the database {0} was made by a newer version of drover: run that version, or restore a backup")]
    Newer(PathBuf),
    /// Anything that the database itself reports.
    #[error("the database refused: {0}")]
    Database(#[from] sqlx::Error),
}

/// The result of anything here.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An open store. One daemon has it at a time.
pub struct Store {
    pool: AnyPool,
    epoch: i64,
    writer: Mutex<()>,
    _lock: File,
}

/// A write transaction. Nothing but queries may happen while it is open.
pub struct Tx<'s> {
    inner: Transaction<'static, Any>,
    _writer: MutexGuard<'s, ()>,
}

impl Store {
    /// Opens the file, making it if needed, brings it to this version's shape, and begins a new epoch.
    pub async fn open(path: &Path) -> Result<Store> {
        let unusable = |what, why: String| StoreError::Unusable { path: path.into(), what, why };
        let lock_path = path.with_extension("lock");
        let lock = OpenOptions::new()
            .create(true)
            .truncate(false)
            .write(true)
            .open(&lock_path)
            .map_err(|e| unusable("opened", e.to_string()))?;
        lock.try_lock().map_err(|e| match e {
            TryLockError::WouldBlock => StoreError::InUse(path.into()),
            TryLockError::Error(e) => unusable("locked", e.to_string()),
        })?;
        sqlx::any::install_default_drivers();
        let pool = AnyPoolOptions::new()
            .max_connections(CONNECTIONS)
            .after_connect(|connection, _| {
                Box::pin(async move {
                    for pragma in [
                        "PRAGMA busy_timeout = 10000",
                        "PRAGMA journal_mode = WAL",
                        "PRAGMA synchronous = FULL",
                        "PRAGMA foreign_keys = ON",
                    ] {
                        sqlx::query(pragma).execute(&mut *connection).await?;
                    }
                    Ok(())
                })
            })
            .connect(&format!("sqlite://{}?mode=rwc", path.display()))
            .await
            .map_err(|e| unusable("opened", e.to_string()))?;
        MIGRATOR.run(&pool).await.map_err(|e| match e {
            sqlx::migrate::MigrateError::VersionMissing(_)
            | sqlx::migrate::MigrateError::VersionTooNew(..) => StoreError::Newer(path.into()),
            other => unusable("brought to this version's shape", other.to_string()),
        })?;
        let mut store = Store { pool, epoch: 0, writer: Mutex::new(()), _lock: lock };
        store.epoch = store.begin_epoch().await.map_err(|e| unusable("written", e.to_string()))?;
        Ok(store)
    }

    async fn begin_epoch(&self) -> Result<i64, sqlx::Error> {
        let mut tx = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'epoch'").fetch_optional(&mut *tx).await?;
        let last: i64 =
            row.map(|row| row.get::<String, _>(0)).and_then(|text| text.parse().ok()).unwrap_or(0);
        sqlx::query(
            "INSERT INTO meta (name, value) VALUES ('epoch', $1) ON CONFLICT (name) DO UPDATE SET value = excluded.value",
        )
        .bind((last + 1).to_string())
        .execute(&mut *tx)
        .await?;
        tx.commit().await?;
        Ok(last + 1)
    }

    /// This daemon's epoch: higher than that of every daemon before it.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Begins to write; refused if a newer daemon has taken over.
    pub async fn write(&self) -> Result<Tx<'_>> {
        let writer = self.writer.lock().await;
        let mut inner = self.pool.begin_with("BEGIN IMMEDIATE").await?;
        let newest: String =
            sqlx::query("SELECT value FROM meta WHERE name = 'epoch'").fetch_one(&mut *inner).await?.get(0);
        if newest != self.epoch.to_string() {
            return Err(StoreError::Stale { ours: self.epoch });
        }
        Ok(Tx { inner, _writer: writer })
    }

    /// A value kept under a name, made by `make` the first time.
    pub async fn remembered(&self, name: &str, make: impl FnOnce() -> String) -> Result<String> {
        let mut tx = self.write().await?;
        sqlx::query("INSERT INTO meta (name, value) VALUES ($1, $2) ON CONFLICT (name) DO NOTHING")
            .bind(name)
            .bind(make())
            .execute(&mut *tx.inner)
            .await?;
        let value = sqlx::query("SELECT value FROM meta WHERE name = $1")
            .bind(name)
            .fetch_one(&mut *tx.inner)
            .await?
            .get(0);
        tx.commit().await?;
        Ok(value)
    }

    /// Waits for what is being written and closes the file.
    pub async fn close(&self) {
        let _writer = self.writer.lock().await;
        self.pool.close().await;
    }
}

impl Tx<'_> {
    /// Makes it so, on the disk.
    pub async fn commit(self) -> Result<()> {
        Ok(self.inner.commit().await?)
    }
}

#[cfg(test)]
mod tests;
