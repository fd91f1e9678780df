//! What can go wrong with the store.

use std::path::PathBuf;
use thiserror::Error;

/// An error of the store.
#[derive(Debug, Error)]
pub enum StoreError {
    /// Another daemon uses the database.
    #[error(
        "the database {0} is in use by another drover daemon; stop that one first, or give this one a data directory of its own"
    )]
    InUse(PathBuf),
    /// The database can't be opened or written.
    #[error("the database {database} can't be {what}: {why}; {advice}")]
    Unusable {
        /// The database.
        database: String,
        /// What was tried: 'opened', 'written'.
        what: &'static str,
        /// The system's message.
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
    /// The database was made by a newer version.
    #[error("the database {0} was made by a newer version of drover: run that version, or restore a backup")]
    Newer(String),
    /// The database doesn't answer, as when its server is down.
    #[error("the database can't be reached: {0}; waiting for it")]
    Unreachable(String),
    /// An error that the database itself reports.
    #[error("the database refused: {0}")]
    Database(sqlx::Error),
}

impl From<sqlx::Error> for StoreError {
    fn from(error: sqlx::Error) -> Self {
        match error {
            sqlx::Error::PoolTimedOut => StoreError::Unreachable("no connection in time".into()),
            sqlx::Error::Io(why) => StoreError::Unreachable(why.to_string()),
            // Class 57P: the server is going down or coming up.
            sqlx::Error::Database(refusal) if refusal.code().is_some_and(|code| code.starts_with("57P")) => {
                StoreError::Unreachable(refusal.message().to_owned())
            }
            other => StoreError::Database(other),
        }
    }
}

/// The result of the store's functions.
pub type Result<T, E = StoreError> = std::result::Result<T, E>;
