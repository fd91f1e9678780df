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
pub use logs::{Chunk, NewChunk};
pub use retention::Prunable;

use sqlx::{Any, AnyPool, Row, Transaction};
use std::path::PathBuf;
use thiserror::Error;
use tokio::sync::{Mutex, MutexGuard};

static MIGRATOR: sqlx::migrate::Migrator = sqlx::migrate!();

/// What can go wrong with the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another daemon has it.
    #[error(
        "the database {0} is in use by another drover daemon; stop that one first, or give this one a data directory of its own"
    )]
    InUse(PathBuf),
    /// It can't be opened or written.
    #[error("the database {database} can't be {what}: {why}; {advice}")]
    Unusable {
        /// Where.
        database: String,
        /// Opened, written …
        what: &'static str,
        /// What the system said.
        why: String,
        /// What to do.
        advice: &'static str,
    },
    /// A newer daemon has taken over.
    #[error("another daemon has taken over this database (epoch {ours} is not the newest): stopping")]
    Stale {
        /// Our epoch.
        ours: i64,
    },
    /// Made by a newer version.
    #[error("the database {0} was made by a newer version of drover: run that version, or restore a backup")]
    Newer(String),
    /// It doesn't answer: a server that is away, a disk that is full.
    #[error("the database can't be reached: {0}; waiting for it")]
    Away(String),
    /// Anything that the database itself reports.
    #[error("the database refused: {0}")]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => StoreError::Away("no connection in time".into()),
            sqlx::Error::Io(why) => StoreError::Away(why.to_string()),
            // Class 57P: the server is going down or coming up.
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code.starts_with("57P")) => {
                StoreError::Away(refusal.message().to_owned())
            }
            other => StoreError::Database(other),
        }
    }
}

/// The result of anything here.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;

/// An open store. One daemon has it at a time.
pub struct Store {
    database: Database,
    pool: AnyPool,
    epoch: i64,
    /// Whoever writes holds it; how often something was written.
    writer: Mutex<u64>,
    claim: Mutex<Claim>,
}

/// A write transaction. Nothing but queries may happen while it is open.
pub struct Tx<'s> {
    inner: Transaction<'static, Any>,
    writer: MutexGuard<'s, u64>,
}

/// Text as both databases take it: PostgreSQL's has no NUL.
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

    /// This daemon's epoch: higher than that of every daemon before it.
    pub fn epoch(&self) -> i64 {
        self.epoch
    }

    /// Begins to write; refused if a newer daemon has taken over.
    pub async fn write(&self) -> Result<Tx<'_>> {
        let writer = self.writer.lock().await;
        let mut inner = self.pool.begin_with(self.database.begin()).await?;
        let newest: String = sqlx::query(self.database.epoch_query()).fetch_one(&mut *inner).await?.get(0);
        if newest != self.epoch.to_string() {
            return Err(StoreError::Stale { ours: self.epoch });
        }
        Ok(Tx { inner, writer })
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

    /// Stays the active daemon: looks after the claim until another daemon has taken over, which is the answer.
    pub async fn keep_claim(&self) -> StoreError {
        self.database.keep(&mut *self.claim.lock().await, self.epoch).await
    }

    /// How many transactions were written since it was opened.
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
    /// Makes it so, on the disk.
    pub async fn commit(mut self) -> Result<()> {
        self.inner.commit().await?;
        *self.writer += 1;
        Ok(())
    }
}
