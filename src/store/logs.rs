//! Log lines, in chunks.

use super::{Result, Store, Tx, text};

/// Log lines to be stored.
#[derive(Clone, Debug)]
pub struct NewChunk<'a> {
    /// The instance; none for the deployment's own lines.
    pub instance: Option<&'a str>,
    /// The lifecycle event.
    pub event: Option<&'a str>,
    /// The attempt's number.
    pub attempt: Option<i64>,
    /// `hook` or `drover`.
    pub source: &'a str,
    /// The lines, each ended by a newline.
    pub payload: &'a [u8],
    /// When they arrived.
    pub at: i64,
}

/// Stored log lines.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct Chunk {
    /// Number of the first line; from 1, without holes in a deployment.
    pub first_seq: i64,
    /// How many lines.
    pub lines: i64,
    pub at: i64,
    pub instance: Option<String>,
    pub event: Option<String>,
    pub attempt: Option<i64>,
    pub source: String,
    pub payload: Vec<u8>,
}

const COLUMNS: &str = "first_seq, lines, at, instance, event, attempt, source, payload";

fn of(instance: bool) -> &'static str {
    if instance { "AND instance = $4" } else { "" }
}

pub(super) fn chunks_after(instance: bool) -> String {
    let of = of(instance);
    // The chunk that holds seq itself may hold later lines too.
    format!(
        "SELECT {COLUMNS} FROM chunks WHERE deployment = $1 {of} AND first_seq >= COALESCE((SELECT MAX(first_seq) \
         FROM chunks WHERE deployment = $1 {of} AND first_seq <= $2), 0) AND first_seq + lines - 1 > $2 \
         ORDER BY first_seq LIMIT $3"
    )
}

pub(super) fn chunks_before(instance: bool) -> String {
    let of = of(instance);
    format!(
        "SELECT {COLUMNS} FROM chunks WHERE deployment = $1 {of} AND first_seq < $2 ORDER BY first_seq DESC LIMIT $3"
    )
}

impl Store {
    /// Returns at most `limit` chunks that hold lines after `seq`, in order; of one instance alone, where one is named.
    pub async fn chunks_after(
        &self,
        deployment: i64,
        instance: Option<&str>,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        self.chunks(chunks_after(instance.is_some()), deployment, instance, seq, limit).await
    }

    /// Returns at most `limit` chunks that begin before `seq`, newest first; of one instance alone, where one is named.
    pub async fn chunks_before(
        &self,
        deployment: i64,
        instance: Option<&str>,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        self.chunks(chunks_before(instance.is_some()), deployment, instance, seq, limit).await
    }

    async fn chunks(
        &self,
        query: String,
        deployment: i64,
        instance: Option<&str>,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        let query = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(deployment).bind(seq).bind(limit);
        let query = match instance {
            Some(instance) => query.bind(text(instance)),
            None => query,
        };
        Ok(query.fetch_all(&self.pool).await?)
    }
}

impl Tx<'_> {
    /// Stores lines under the deployment's next numbers and answers the last one.
    pub async fn append_log(&mut self, deployment: i64, chunk: &NewChunk<'_>) -> Result<i64> {
        self.append_logs(deployment, std::slice::from_ref(chunk)).await
    }
}
