//! A consistent copy of the store, made while the daemon works.

use super::{Database, Result};
use sqlx::{Connection as _, Row as _, SqliteConnection, sqlite::SqliteConnectOptions};
use std::{path::Path, time::Duration};

/// The daemon writes in short transactions; a copy waits for one at most.
const BUSY: Duration = Duration::from_secs(30);

impl Database {
    /// Writes a copy to `to`, which must not exist; it appears only when it is whole.
    pub async fn back_up(&self, to: &Path) -> Result<()> {
        let Database::File(path) = self else {
            return Err(self.unusable(
                "backed up by drover",
                "a PostgreSQL server has its own tools: pg_dump --format=custom --file=FILE NAME",
            ));
        };
        let failed = |e: sqlx::Error| self.unusable("backed up", e);
        let options = SqliteConnectOptions::new().filename(path).create_if_missing(false).busy_timeout(BUSY);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let folder = to.parent().filter(|folder| !folder.as_os_str().is_empty()).unwrap_or(Path::new("."));
        let io = |e: std::io::Error| self.unusable("backed up", format!("{}: {e}", to.display()));
        // Removed when it is dropped: nothing half-done stays. SQLite wants to make the file itself.
        let whole = tempfile::tempdir_in(folder).map_err(io)?;
        let copy = whole.path().join("drover.db");
        let name = copy.to_string_lossy().into_owned();
        sqlx::query("VACUUM INTO $1").bind(&name).execute(&mut connection).await.map_err(failed)?;
        connection.close().await.map_err(failed)?;
        let options = SqliteConnectOptions::new().filename(&copy).create_if_missing(false).read_only(true);
        let mut connection = SqliteConnection::connect_with(&options).await.map_err(failed)?;
        let row = sqlx::query("PRAGMA integrity_check").fetch_one(&mut connection).await.map_err(failed)?;
        let said: String = row.get(0);
        if said != "ok" {
            return Err(self.unusable("backed up", format!("the copy is not sound: {said}")));
        }
        connection.close().await.map_err(failed)?;
        std::fs::File::open(&copy).and_then(|file| file.sync_all()).map_err(io)?;
        // Refused where the name is taken.
        std::fs::hard_link(&copy, to).map_err(io)?;
        std::fs::File::open(folder).and_then(|folder| folder.sync_all()).map_err(io)
    }
}
