//! The state on both databases: a file of SQLite's, and a PostgreSQL server of the test's own.

mod pair;
mod server;
mod standby;
mod store;
mod trips;

pub use pair::{Front, Second};
pub use server::Postgres;

use drover::store::{Claimed, Database, Store, StoreError};

/// Claims a database and opens it.
pub async fn opened(database: &Database) -> Result<Store, StoreError> {
    match database.claim().await? {
        Claimed::Ours(claim) => Store::open(database.clone(), claim).await,
        Claimed::Theirs(who) => panic!("{who}"),
    }
}
