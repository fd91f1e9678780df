//! The store: all that must survive a restart, in one SQLite file (WAL, synchronous=FULL) or a PostgreSQL database.
//!
//! Runtime queries through sqlx's Any driver, in SQL that both speak. Knows no other part of drover: what
//! others keep here in their own shapes comes and goes as JSON text. Times are milliseconds since 1970, UTC.

mod access;
mod acts;
mod backup;
mod bulk;
mod database;
mod deliveries;
mod deployments;
mod dispatches;
mod error;
mod instances;
mod intents;
mod ledger;
mod locks;
mod logs;
mod retention;
mod watched;

pub use access::TokenRow;
pub use acts::ActRow;
pub use bulk::{InstanceWrite, QuarantineWrite};
pub use database::{Claim, Claimed, Database, Server};
pub use deliveries::DeliveryRow;
pub use deployments::DeploymentRow;
pub use dispatches::{AttemptRow, DispatchRow, Upload};
pub use intents::IntentRow;
pub use ledger::{GoodRevision, QuarantineRow};
pub use locks::LockRow;
pub use logs::{Chunk, ChunkFilter, NewChunk};
pub use retention::Prunable;

pub use error::{Result, StoreError};

use sqlx::{Any, AnyPool, Row, Transaction};
use tokio::sync::{Mutex, MutexGuard};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// An open store. One daemon uses it at a time.
pub struct Store {
    database: Database,
    pool: AnyPool,
    epoch: i64,
    /// Held while something is written; counts the transactions.
    writer: Mutex<u64>,
    claim: Mutex<Claim>,
}

/// A write transaction. Nothing but queries may happen while it is open.
pub struct Tx<'s> {
    inner: Transaction<'static, Any>,
    writer: MutexGuard<'s, u64>,
}

/// Returns text as both databases take it: PostgreSQL's may not contain NUL.
fn text(text: &str) -> String {
    text.replace('\0', "\u{fffd}")
}

impl Store {
    /// Opens a database under a claim, makes its tables if needed, brings them to this version's shape, and begins a new
    /// epoch.
    pub async fn open(database: Database, claim: Claim) -> Result<Store> {
        let pool = database.pool().await.map_err(|e| database.unusable("opened", e))?;
        let shape = "brought to this version's shape";
        database.prepare(&pool).await.map_err(|e| database.unusable(shape, e))?;
        MIGRATOR.run(&pool).await.map_err(|e| match e {
            sqlx::migrate::MigrateError::VersionMissing(_)
            | sqlx::migrate::MigrateError::VersionTooNew(..) => StoreError::Newer(database.to_string()),
            other => database.unusable(shape, other),
        })?;
        let mut store = Store { database, pool, epoch: 0, writer: Mutex::new(0), claim: Mutex::new(claim) };
        store.epoch = store.begin_epoch().await.map_err(|e| store.database.unusable("written", e))?;
        Ok(store)
    }

    async fn begin_epoch(&self) -> Result<i64, sqlx::Error> {
        let mut tx = self.pool.begin_with(self.database.begin()).await?;
        let row = sqlx::query(self.database.epoch_query()).fetch_optional(&mut *tx).await?;
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

    /// Returns this daemon's epoch, which is higher than that of every daemon before it.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Begins a write transaction; refused if a newer daemon has taken over.
    pub async fn write(&self) -> Result<Tx<'_>> {
        let writer = self.writer.lock().await;
        let mut inner = self.pool.begin_with(self.database.begin()).await?;
        let newest: String = sqlx::query(self.database.epoch_query()).fetch_one(&mut *inner).await?.get(0);
        if newest != self.epoch.to_string() {
            return Err(StoreError::Stale { ours: self.epoch });
        }
        Ok(Tx { inner, writer })
    }

    /// Returns the value kept under a name, made by `make` the first time.
    pub async fn value_or_insert(&self, name: &str, make: impl FnOnce() -> String) -> Result<String> {
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

    /// Holds the claim until another daemon has taken over, and returns that as an error.
    pub async fn keep_claim(&self) -> StoreError {
        self.database.hold_claim(&mut *self.claim.lock().await, self.epoch).await
    }

    /// Counts the transactions that were written since the store was opened.
    pub async fn transactions(&self) -> u64 {
        *self.writer.lock().await
    }

    /// Waits for what is being written and closes the database.
    pub async fn close(&self) {
        let _writer = self.writer.lock().await;
        self.pool.close().await;
    }
}

impl Tx<'_> {
    /// Commits the transaction to the disk.
    pub async fn commit(mut self) -> Result<()> {
        self.inner.commit().await?;
        *self.writer += 1;
        Ok(())
    }
}
