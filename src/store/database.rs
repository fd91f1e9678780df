//! The database that keeps the state, a file of SQLite or a PostgreSQL server, and the claim by which one daemon is active:
//! a lock on the file, or a session's advisory lock on the server.
//!
//! The claim only elects. What keeps a daemon that has lost it, and doesn't know yet, from doing harm is the epoch that
//! every write checks.

use super::error::{Result, StoreError};
use sqlx::{
    AnyPool, Connection as _, PgConnection, Row as _, any::AnyPoolOptions, postgres::PgConnectOptions,
};
use std::{
    fmt,
    fs::{File, OpenOptions, TryLockError},
    path::PathBuf,
    str::FromStr as _,
    time::Duration,
};
use tokio::time::timeout;

/// Readers at once; there is one writer.
const CONNECTIONS: u32 = 8;
/// A connection takes longer than this only if the database can't be reached.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A query waits longer than this for a connection only if the database can't be reached.
const ACQUIRE_TIMEOUT: Duration = Duration::from_secs(3);
/// How often a claim is checked.
const BEAT: Duration = Duration::from_secs(1);
/// The key of the advisory lock: "drover". Advisory locks belong to one database of a server.
const LOCK: i64 = 0x6472_6f76_6572;
/// In a session of PostgreSQL's: a statement that hangs, or a transaction that its daemon has left, ends by itself; a
/// daemon whose host is gone is noticed after 3 + 3 × 1 s without an answer, and its lock freed.
const SESSION: [&str; 6] = [
    "SET statement_timeout = '20s'",
    "SET lock_timeout = '10s'",
    "SET idle_in_transaction_session_timeout = '20s'",
    "SET tcp_keepalives_idle = 3",
    "SET tcp_keepalives_interval = 1",
    "SET tcp_keepalives_count = 3",
];

/// The database in which the state is kept.
#[derive(Clone, Debug)]
pub enum Database {
    /// A file of SQLite's; a lock file lies beside it.
    File(PathBuf),
    /// A PostgreSQL server.
    Server(Box<Server>),
}

/// A PostgreSQL server, and a database on it.
#[derive(Clone)]
pub struct Server {
    url: String,
    options: PgConnectOptions,
}

/// The right to be the active daemon. It ends when it is dropped, or with the process.
#[derive(Debug)]
pub struct Claim(Held);

#[derive(Debug)]
enum Held {
    File(#[allow(dead_code, reason = "held, not read")] File),
    Server(PgConnection),
}

/// Whether a daemon may be the active one.
#[derive(Debug)]
pub enum Claimed {
    /// This daemon is the active one.
    Ours(Claim),
    /// Another daemon is; holds which, in words.
    Theirs(String),
}

impl fmt::Debug for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

/// Writes the server and database without the password.
impl fmt::Display for Server {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let options = &self.options;
        let database = options.get_database().unwrap_or_else(|| options.get_username());
        match options.get_socket() {
            Some(socket) => write!(f, "{database} behind {}", socket.display()),
            None => write!(f, "{database} at {}:{}", options.get_host(), options.get_port()),
        }
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Database::File(path) => path.display().fmt(f),
            Database::Server(server) => server.fmt(f),
        }
    }
}

impl Database {
    /// Makes the database of a URL, which begins with `postgres://` or `postgresql://`. The error doesn't repeat the
    /// URL: there may be a password in it.
    pub fn server(url: &str) -> Result<Database, String> {
        if !(url.starts_with("postgres://") || url.starts_with("postgresql://")) {
            return Err("it is no URL of a PostgreSQL database: write \"postgres://USER@HOST/NAME\"".into());
        }
        let options = PgConnectOptions::from_str(url).map_err(|e| {
            format!("it is no URL of a PostgreSQL database ({e}): write \"postgres://USER@HOST/NAME\"")
        })?;
        Ok(Database::Server(Box::new(Server { url: url.into(), options })))
    }

    pub(super) fn unusable(&self, what: &'static str, why: impl ToString) -> StoreError {
        let advice = match self {
            Database::File(_) => "check the directory's owner, permissions and free space",
            Database::Server(_) => {
                "check that the server runs and is reached from here, the user's password (PGPASSWORD), and that the user may create tables"
            }
        };
        StoreError::Unusable { database: self.to_string(), what, why: why.to_string(), advice }
    }

    /// Checks that a server can be reached with its credentials; a file needs no check.
    pub async fn check_reachable(&self) -> Result<()> {
        let Database::Server(server) = self else { return Ok(()) };
        let connection = server.connect().await.map_err(|e| self.unusable("reached", plain(&e)))?;
        let _ = connection.close().await;
        Ok(())
    }

    /// Asks to be the active daemon, without waiting. A second daemon on one file is an error: a file is no place to wait.
    pub async fn claim(&self) -> Result<Claimed> {
        match self {
            Database::File(path) => {
                let file = OpenOptions::new()
                    .create(true)
                    .truncate(false)
                    .write(true)
                    .open(path.with_extension("lock"));
                let file = file.map_err(|e| self.unusable("opened", e))?;
                match file.try_lock() {
                    Ok(()) => Ok(Claimed::Ours(Claim(Held::File(file)))),
                    Err(TryLockError::WouldBlock) => Err(StoreError::InUse(path.clone())),
                    Err(TryLockError::Error(e)) => Err(self.unusable("locked", e)),
                }
            }
            Database::Server(server) => server.claim().await.map_err(|e| self.unusable("reached", plain(&e))),
        }
    }

    /// Holds a claim until another daemon has taken over, and returns that as an error. A server that can't be reached is
    /// waited for, and asked for the lock again: until another daemon has begun an epoch, this one is still the active one.
    pub(super) async fn hold_claim(&self, claim: &mut Claim, epoch: i64) -> StoreError {
        let (Database::Server(server), Held::Server(connection)) = (self, &mut claim.0) else {
            return std::future::pending().await;
        };
        let mut away = false;
        loop {
            tokio::time::sleep(BEAT).await;
            if !away && matches!(timeout(CONNECT_TIMEOUT, connection.ping()).await, Ok(Ok(()))) {
                continue;
            }
            if !away {
                tracing::warn!("the connection to the database {self} is lost: waiting for it");
                away = true;
            }
            match server.claim().await {
                Ok(Claimed::Ours(Claim(Held::Server(fresh)))) => {
                    *connection = fresh;
                    away = false;
                    tracing::info!("the database {self} is back");
                    if server.epoch(connection).await.is_ok_and(|newest| newest != epoch) {
                        return StoreError::Stale { ours: epoch };
                    }
                }
                Ok(Claimed::Theirs(who)) => {
                    if server.newest_epoch().await.is_ok_and(|newest| newest != epoch) {
                        return StoreError::Stale { ours: epoch };
                    }
                    tracing::warn!("the database {self} is back, its lock not yet: {who}");
                }
                Ok(_) | Err(_) => {}
            }
        }
    }

    /// Opens the connections for queries.
    pub(super) async fn pool(&self) -> Result<AnyPool, sqlx::Error> {
        sqlx::any::install_default_drivers();
        let options = AnyPoolOptions::new().max_connections(CONNECTIONS);
        match self {
            Database::File(path) => {
                let pragmas = [
                    "PRAGMA busy_timeout = 10000",
                    "PRAGMA journal_mode = WAL",
                    "PRAGMA synchronous = FULL",
                    "PRAGMA foreign_keys = ON",
                ];
                prepared(options, pragmas).connect(&format!("sqlite://{}?mode=rwc", path.display())).await
            }
            Database::Server(server) => {
                let options = options.acquire_timeout(ACQUIRE_TIMEOUT);
                prepared(options, SESSION).connect(&server.url).await
            }
        }
    }

    /// Makes what only PostgreSQL needs before the migrations, which are the same for both.
    pub(super) async fn prepare(&self, pool: &AnyPool) -> Result<(), sqlx::Error> {
        if let Database::Server(_) = self {
            sqlx::raw_sql(
                "DO $$ BEGIN CREATE DOMAIN blob AS bytea; EXCEPTION WHEN duplicate_object THEN NULL; END $$",
            )
            .execute(pool)
            .await?;
        }
        Ok(())
    }

    /// Returns the statement that begins a write transaction: SQLite's takes the write lock at once, lest it fail later.
    pub(super) fn begin(&self) -> &'static str {
        match self {
            Database::File(_) => "BEGIN IMMEDIATE",
            Database::Server(_) => "BEGIN",
        }
    }

    /// Returns the query that reads the epoch and keeps others from beginning one before the transaction is over.
    pub(super) fn epoch_query(&self) -> &'static str {
        match self {
            Database::File(_) => "SELECT value FROM meta WHERE name = 'epoch'",
            Database::Server(_) => "SELECT value FROM meta WHERE name = 'epoch' FOR UPDATE",
        }
    }
}

/// Lets every connection begin with these statements.
fn prepared<const N: usize>(options: AnyPoolOptions, statements: [&'static str; N]) -> AnyPoolOptions {
    options.after_connect(move |connection, _| {
        Box::pin(async move {
            for statement in statements {
                sqlx::query(statement).execute(&mut *connection).await?;
            }
            Ok(())
        })
    })
}

/// Returns the server's own message of an error.
fn plain(error: &sqlx::Error) -> String {
    match error {
        sqlx::Error::Database(error) => error.message().to_owned(),
        other => other.to_string(),
    }
}

impl Server {
    /// Returns its URL, with the password if that has one.
    pub fn url(&self) -> &str {
        &self.url
    }

    async fn connect(&self) -> Result<PgConnection, sqlx::Error> {
        let late =
            |_| sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, "no answer in time"));
        let name = format!("drover {}", std::process::id());
        let options = self.options.clone().application_name(&name);
        let all = async {
            let mut connection = PgConnection::connect_with(&options).await?;
            for statement in SESSION {
                sqlx::query(statement).execute(&mut connection).await?;
            }
            Ok(connection)
        };
        timeout(CONNECT_TIMEOUT, all).await.map_err(late)?
    }

    async fn claim(&self) -> Result<Claimed, sqlx::Error> {
        let mut connection = self.connect().await?;
        let got: bool = sqlx::query("SELECT pg_try_advisory_lock($1)")
            .bind(LOCK)
            .fetch_one(&mut connection)
            .await?
            .get(0);
        if got {
            return Ok(Claimed::Ours(Claim(Held::Server(connection))));
        }
        let holder = sqlx::query(
            "SELECT COALESCE(host(client_addr), 'its own host'), application_name, \
             to_char(backend_start AT TIME ZONE 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') \
             FROM pg_locks JOIN pg_stat_activity USING (pid) WHERE locktype = 'advisory' AND granted \
             AND pg_locks.database = (SELECT oid FROM pg_database WHERE datname = current_database()) \
             AND (classid::bigint << 32) | objid::bigint = $1",
        )
        .bind(LOCK)
        .fetch_optional(&mut connection)
        .await?;
        let _ = connection.close().await;
        Ok(Claimed::Theirs(holder.map_or_else(
            || "another daemon is active on this database".into(),
            |row| {
                let (address, name, since) =
                    (row.get::<String, _>(0), row.get::<String, _>(1), row.get::<String, _>(2));
                let process = name.strip_prefix("drover ").unwrap_or(&name);
                format!(
                    "the daemon at {address} (process {process}) is active on this database since {since}"
                )
            },
        )))
    }

    async fn newest_epoch(&self) -> Result<i64, sqlx::Error> {
        self.epoch(&mut self.connect().await?).await
    }

    async fn epoch(&self, connection: &mut PgConnection) -> Result<i64, sqlx::Error> {
        let row = sqlx::query("SELECT value FROM meta WHERE name = 'epoch'").fetch_one(connection).await?;
        Ok(row.get::<String, _>(0).parse().unwrap_or_default())
    }
}
