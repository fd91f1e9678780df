//! Writes of many rows together: however many instances a tick changes, the database is asked the same number of times.

use super::{AttemptRow, NewChunk, Result, Tx, text};
use sqlx::{Any, AssertSqlSafe, Row, any::AnyArguments, query::Query};

/// Rows of one statement. SQLite takes 32,766 parameters in one, PostgreSQL 65,535; the widest rows here have nine.
const ROWS: usize = 1_000;

/// An instance's record, to be written.
#[derive(Clone, Debug)]
pub struct InstanceWrite {
    /// The instance's id.
    pub instance: String,
    /// The name of its state.
    pub state: String,
    /// The planner's record (JSON).
    pub record: String,
}

/// An instance that is to be kept out.
#[derive(Clone, Debug)]
pub struct QuarantineWrite {
    /// Its Auto Scaling group.
    pub auto_scaling_group: String,
    /// The instance's id.
    pub instance: String,
    /// Why, in words.
    pub reason: String,
}

/// `($1, $2), ($3, $4), …`: so many rows of so many columns.
fn rows_of(rows: usize, columns: usize) -> String {
    let row = |row: usize| {
        let numbers: Vec<String> =
            (1..=columns).map(|column| format!("${}", row * columns + column)).collect();
        format!("({})", numbers.join(", "))
    };
    (0..rows).map(row).collect::<Vec<_>>().join(", ")
}

/// `($2, $3, …)`: so many parameters after the first `taken`.
fn list_of(count: usize, taken: usize) -> String {
    let numbers: Vec<String> = (1..=count).map(|number| format!("${}", taken + number)).collect();
    format!("({})", numbers.join(", "))
}

/// A statement whose text depends on how many rows there are: it is not kept prepared.
fn statement(sql: String) -> Query<'static, Any, AnyArguments> {
    sqlx::query(AssertSqlSafe(sql)).persistent(false)
}

impl Tx<'_> {
    /// Adds or replaces the records of instances, each of which is named once.
    pub async fn put_instances(&mut self, deployment: i64, records: &[InstanceWrite]) -> Result<()> {
        for some in records.chunks(ROWS) {
            let mut query = statement(format!(
                "INSERT INTO instances (deployment, instance, state, record) VALUES {} \
                 ON CONFLICT (deployment, instance) DO UPDATE SET state = excluded.state, record = excluded.record",
                rows_of(some.len(), 4)
            ));
            for InstanceWrite { instance, state, record } in some {
                query =
                    query.bind(deployment).bind(instance.clone()).bind(state.clone()).bind(record.clone());
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// The planner's records (JSON) of these instances, as far as there are any.
    pub async fn records_of(&mut self, deployment: i64, instances: &[&str]) -> Result<Vec<String>> {
        let mut records = Vec::new();
        for some in instances.chunks(ROWS) {
            let list = list_of(some.len(), 1);
            let mut query = statement(format!(
                "SELECT record FROM instances WHERE deployment = $1 AND instance IN {list} ORDER BY instance"
            ))
            .bind(deployment);
            for instance in some {
                query = query.bind((*instance).to_owned());
            }
            let rows = query.fetch_all(&mut *self.inner).await?;
            records.extend(rows.into_iter().map(|row| row.get::<String, _>(0)));
        }
        Ok(records)
    }

    /// Stores the lines of several chunks under the deployment's next numbers, in this order, and answers the last number.
    pub async fn append_logs(&mut self, deployment: i64, chunks: &[NewChunk<'_>]) -> Result<i64> {
        let mut last: i64 = sqlx::query("SELECT last_seq FROM deployments WHERE id = $1")
            .bind(deployment)
            .fetch_one(&mut *self.inner)
            .await?
            .get(0);
        let lines_of = |chunk: &NewChunk<'_>| -> i64 {
            i64::try_from(chunk.payload.iter().filter(|byte| **byte == b'\n').count()).unwrap_or(i64::MAX)
        };
        let chunks: Vec<(i64, &NewChunk<'_>)> =
            chunks.iter().map(|chunk| (lines_of(chunk), chunk)).filter(|(lines, _)| *lines > 0).collect();
        if chunks.is_empty() {
            return Ok(last);
        }
        let mut bytes = 0;
        for some in chunks.chunks(ROWS) {
            let mut query = statement(format!(
                "INSERT INTO chunks (deployment, first_seq, lines, at, instance, event, attempt, source, payload) VALUES {}",
                rows_of(some.len(), 9)
            ));
            for (lines, chunk) in some {
                query = query
                    .bind(deployment)
                    .bind(last + 1)
                    .bind(*lines)
                    .bind(chunk.at)
                    .bind(chunk.instance.map(str::to_owned))
                    .bind(chunk.event.map(text))
                    .bind(chunk.attempt)
                    .bind(chunk.source.to_owned())
                    .bind(chunk.payload.to_owned());
                last += lines;
                bytes += i64::try_from(chunk.payload.len()).unwrap_or(0);
            }
            query.execute(&mut *self.inner).await?;
        }
        sqlx::query("UPDATE deployments SET last_seq = $2, log_bytes = log_bytes + $3 WHERE id = $1")
            .bind(deployment)
            .bind(last)
            .bind(bytes)
            .execute(&mut *self.inner)
            .await?;
        Ok(last)
    }

    /// Adds attempts that have just been made. Each may have an outcome already: of a command that is never sent.
    pub async fn insert_attempts(&mut self, attempts: &[AttemptRow]) -> Result<()> {
        for some in attempts.chunks(ROWS) {
            let mut query = statement(format!(
                "INSERT INTO attempts (number, deployment, instance, dispatch, first_event, outcome, created_at, ended_at) \
                 VALUES {}",
                rows_of(some.len(), 8)
            ));
            for attempt in some {
                query = query
                    .bind(attempt.number)
                    .bind(attempt.deployment)
                    .bind(attempt.instance.clone())
                    .bind(attempt.dispatch.clone())
                    .bind(attempt.first_event.clone())
                    .bind(attempt.outcome.clone())
                    .bind(attempt.created_at)
                    .bind(attempt.ended_at);
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// The instances have these revisions, validated and healthy: `(instance, sha)`, each instance named once.
    pub async fn set_good_revisions(
        &mut self,
        group_name: &str,
        goods: &[(String, String)],
        at: i64,
    ) -> Result<()> {
        for some in goods.chunks(ROWS) {
            let mut query = statement(format!(
                "INSERT INTO revisions (group_name, instance, sha, since) VALUES {} \
                 ON CONFLICT (group_name, instance) DO UPDATE SET sha = excluded.sha, since = excluded.since, dirty = 0",
                rows_of(some.len(), 4)
            ));
            for (instance, sha) in some {
                query = query.bind(group_name.to_owned()).bind(instance.clone()).bind(sha.clone()).bind(at);
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Something is about to be run on these instances: what they have is not known to be their last good revision.
    pub async fn set_dirty(&mut self, group_name: &str, instances: &[String]) -> Result<()> {
        for some in instances.chunks(ROWS) {
            let list = list_of(some.len(), 1);
            let mut query = statement(format!(
                "UPDATE revisions SET dirty = 1 WHERE group_name = $1 AND instance IN {list}"
            ))
            .bind(group_name.to_owned());
            for instance in some {
                query = query.bind(instance.clone());
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Ends the quarantines of these instances, as far as there are any.
    pub async fn end_quarantines(&mut self, instances: &[String]) -> Result<()> {
        for some in instances.chunks(ROWS) {
            let list = list_of(some.len(), 0);
            let mut query = statement(format!("DELETE FROM quarantines WHERE instance IN {list}"));
            for instance in some {
                query = query.bind(instance.clone());
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Keeps instances out, each of which is named once.
    pub async fn put_quarantines(
        &mut self,
        deployment: i64,
        quarantines: &[QuarantineWrite],
        at: i64,
    ) -> Result<()> {
        for some in quarantines.chunks(ROWS) {
            let mut query = statement(format!(
                "INSERT INTO quarantines (auto_scaling_group, instance, deployment, reason, since) VALUES {} \
                 ON CONFLICT (auto_scaling_group, instance) DO UPDATE SET deployment = excluded.deployment, \
                 reason = excluded.reason, since = excluded.since, wish = NULL, wished_by = NULL",
                rows_of(some.len(), 5)
            ));
            for QuarantineWrite { auto_scaling_group, instance, reason } in some {
                query = query
                    .bind(auto_scaling_group.clone())
                    .bind(instance.clone())
                    .bind(deployment)
                    .bind(text(reason))
                    .bind(at);
            }
            query.execute(&mut *self.inner).await?;
        }
        Ok(())
    }
}
