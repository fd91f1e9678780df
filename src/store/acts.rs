//! The history of what people did to a deployment group itself: who, when, what.

use super::{Result, Store, Tx, text};

/// One action of a person on a deployment group, as stored.
#[derive(Clone, Debug, sqlx::FromRow)]
#[allow(missing_docs)]
pub struct ActRow {
    pub id: i64,
    pub group_name: String,
    pub at: i64,
    pub who: String,
    pub what: String,
}

impl Store {
    /// Returns the newest `limit` actions on a group, newest first.
    pub async fn acts(&self, group: &str, limit: i64) -> Result<Vec<ActRow>> {
        let query = "SELECT * FROM acts WHERE group_name = $1 ORDER BY id DESC LIMIT $2";
        Ok(sqlx::query_as(query).bind(text(group)).bind(limit).fetch_all(&self.pool).await?)
    }
}

impl Tx<'_> {
    /// Records an action.
    pub async fn add_act(&mut self, group: &str, at: i64, who: &str, what: &str) -> Result<()> {
        let query = "INSERT INTO acts (id, group_name, at, who, what) \
             SELECT COALESCE(MAX(id), 0) + 1, $1, $2, $3, $4 FROM acts";
        let query = sqlx::query(query).bind(text(group)).bind(at).bind(text(who)).bind(text(what));
        query.execute(&mut *self.inner).await?;
        Ok(())
    }
}
