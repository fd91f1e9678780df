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
    /// `hook` or `drover`; of a hook's annotation its level, `error`, `warning` or `notice`.
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

/// Which chunks are asked for, beside their place in the log.
#[derive(Clone, Debug, Default)]
pub struct ChunkFilter {
    /// Only this instance's.
    pub instance: Option<String>,
    /// Only this lifecycle event's.
    pub event: Option<String>,
    /// Only those that came at this time or later, in milliseconds since the Unix epoch.
    pub since: Option<i64>,
    /// Only those of instances that failed in the deployment.
    pub failed: bool,
}

impl ChunkFilter {
    /// Only this instance's chunks.
    pub fn of_instance(instance: &str) -> ChunkFilter {
        ChunkFilter { instance: Some(instance.to_owned()), ..ChunkFilter::default() }
    }

    /// The conditions, whose parameters follow on the first three: the instance, the event, the time.
    fn conditions(&self) -> String {
        let given = [
            (self.instance.is_some(), "instance ="),
            (self.event.is_some(), "event ="),
            (self.since.is_some(), "at >="),
        ];
        let mut conditions = String::new();
        for (number, (_, condition)) in (4..).zip(given.iter().filter(|(given, _)| *given)) {
            conditions.push_str(&format!(" AND {condition} ${number}"));
        }
        if self.failed {
            conditions.push_str(
                " AND instance IN (SELECT i.instance FROM instances i WHERE i.deployment = $1 AND i.state = 'Failed')",
            );
        }
        conditions
    }
}

pub(super) fn chunks_after(filter: &ChunkFilter) -> String {
    let conditions = filter.conditions();
    // The chunk that holds seq itself may hold later lines too.
    format!(
        "SELECT {COLUMNS} FROM chunks WHERE deployment = $1{conditions} AND first_seq >= COALESCE((SELECT MAX(first_seq) \
         FROM chunks WHERE deployment = $1 AND first_seq <= $2), 0) AND first_seq + lines - 1 > $2 \
         ORDER BY first_seq LIMIT $3"
    )
}

pub(super) fn chunks_before(filter: &ChunkFilter) -> String {
    let conditions = filter.conditions();
    format!(
        "SELECT {COLUMNS} FROM chunks WHERE deployment = $1{conditions} AND first_seq < $2 ORDER BY first_seq DESC LIMIT $3"
    )
}

/// A hook's annotations, which are chunks of one line each.
pub(super) fn annotations() -> String {
    format!(
        "SELECT {COLUMNS} FROM chunks WHERE deployment = $1 AND source IN ('error', 'warning', 'notice') \
         ORDER BY first_seq LIMIT $2"
    )
}

impl Store {
    /// Returns the first annotations of a deployment's hooks, in order: chunks of one line each.
    pub async fn annotations(&self, deployment: i64, limit: i64) -> Result<Vec<Chunk>> {
        Ok(sqlx::query_as(sqlx::AssertSqlSafe(annotations()))
            .bind(deployment)
            .bind(limit)
            .fetch_all(&self.pool)
            .await?)
    }

    /// Returns at most `limit` chunks that hold lines after `seq`, in order.
    pub async fn chunks_after(
        &self,
        deployment: i64,
        filter: &ChunkFilter,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        self.chunks(chunks_after(filter), deployment, filter, seq, limit).await
    }

    /// Returns at most `limit` chunks that begin before `seq`, newest first.
    pub async fn chunks_before(
        &self,
        deployment: i64,
        filter: &ChunkFilter,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        self.chunks(chunks_before(filter), deployment, filter, seq, limit).await
    }

    async fn chunks(
        &self,
        query: String,
        deployment: i64,
        filter: &ChunkFilter,
        seq: i64,
        limit: i64,
    ) -> Result<Vec<Chunk>> {
        let mut query = sqlx::query_as(sqlx::AssertSqlSafe(query)).bind(deployment).bind(seq).bind(limit);
        for words in [&filter.instance, &filter.event].into_iter().flatten() {
            query = query.bind(text(words));
        }
        if let Some(since) = filter.since {
            query = query.bind(since);
        }
        Ok(query.fetch_all(&self.pool).await?)
    }
}

impl Tx<'_> {
    /// Stores lines under the deployment's next numbers and answers the last one.
    pub async fn append_log(&mut self, deployment: i64, chunk: &NewChunk<'_>) -> Result<i64> {
        self.append_logs(deployment, std::slice::from_ref(chunk)).await
    }
}
