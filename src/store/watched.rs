//! The queries that run again and again while a rollout is under way and people look on: none may read a whole table that
//! grows with every deployment.

use super::{ChunkFilter, Result, Store, database::Database, dispatches, intents, logs};
use sqlx::Row as _;

/// A parameter of a query.
#[derive(Clone, Copy)]
enum Bind {
    Number,
    Text,
}

use Bind::{Number, Text};

/// The tables that grow.
const LARGE: [&str; 3] = ["attempts", "chunks", "intents"];

fn queries() -> Vec<(&'static str, String, &'static [Bind])> {
    let list: [(&str, &str, &[Bind]); 7] = [
        ("attempt durations", dispatches::DURATIONS, &[Text, Text, Number]),
        ("staged", dispatches::STAGED, &[Text, Text, Number]),
        ("open commands", dispatches::OPEN_COMMANDS, &[Number]),
        ("open uploads", dispatches::OPEN_UPLOADS, &[Number]),
        ("attempts", dispatches::ATTEMPTS, &[Number]),
        ("attempts_from", dispatches::ATTEMPTS_FROM, &[Number, Number]),
        ("intents", intents::NEWEST, &[Number, Number]),
    ];
    let mut queries: Vec<_> = list.map(|(name, query, binds)| (name, query.to_owned(), binds)).into();
    queries.push(("annotations", logs::annotations(), &[Number, Number]));
    let (all, one) = (ChunkFilter::default(), ChunkFilter::of_instance("x"));
    let some = ChunkFilter { event: Some("x".into()), since: Some(1), failed: true, ..one.clone() };
    let numbers: &[Bind] = &[Number, Number, Number];
    let of_one: &[Bind] = &[Number, Number, Number, Text];
    let of_some: &[Bind] = &[Number, Number, Number, Text, Text, Number];
    for (filter, binds) in [(&all, numbers), (&one, of_one), (&some, of_some)] {
        queries.push(("chunks after", logs::chunks_after(filter), binds));
        queries.push(("chunks before", logs::chunks_before(filter), binds));
    }
    queries
}

impl Store {
    /// Returns those of the queries that read a large table from end to end, with the database's own plan for them.
    pub async fn full_table_scans(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        // Ended without a commit: the setting below is for it alone.
        let mut connection = self.pool.begin().await?;
        let explain = match self.database {
            Database::File(_) => "EXPLAIN QUERY PLAN",
            Database::Server(_) => {
                // A small table is read from end to end whatever indexes there are; this asks whether it would have to be.
                sqlx::query("SET LOCAL enable_seqscan = off").execute(&mut *connection).await?;
                "EXPLAIN"
            }
        };
        for (name, query, binds) in queries() {
            let mut asked = sqlx::query(sqlx::AssertSqlSafe(format!("{explain} {query}")));
            for bind in binds {
                asked = match bind {
                    Number => asked.bind(1_i64),
                    Text => asked.bind("x"),
                };
            }
            for row in asked.fetch_all(&mut *connection).await? {
                // SQLite's fourth column, PostgreSQL's only one.
                let line: String = row.try_get(3).or_else(|_| row.try_get(0))?;
                let plan = line.trim();
                let whole = LARGE.iter().any(|table| {
                    let alias = &table[..1];
                    plan.starts_with(&format!("SCAN {table}"))
                        || plan == format!("SCAN {alias}")
                        || plan.starts_with(&format!("SCAN {alias} "))
                        || plan.contains(&format!("Seq Scan on {table}"))
                });
                if whole {
                    found.push(format!("{name}: {plan}"));
                }
            }
        }
        Ok(found)
    }
}
