//! Access: the API tokens, and the page's sessions. Both are kept as hashes.

use super::{Result, Store, Tx, text};
use sqlx::Row;

/// A token's name and age; the token itself is kept only as a hash.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenRow {
    /// Its name: whose it is, or what it is for.
    pub name: String,
    /// Milliseconds since 1970, UTC.
    pub created_at: i64,
}

impl Store {
    /// Returns the name of the token with this hash, if there is one.
    pub async fn token_name(&self, hash: &str) -> Result<Option<String>> {
        let row = sqlx::query("SELECT name FROM tokens WHERE hash = $1")
            .bind(hash)
            .fetch_optional(&self.pool)
            .await?;
        Ok(row.map(|row| row.get(0)))
    }

    /// Whether there is any token.
    pub async fn has_tokens(&self) -> Result<bool> {
        Ok(sqlx::query("SELECT 1 FROM tokens LIMIT 1").fetch_optional(&self.pool).await?.is_some())
    }

    /// Returns all tokens, oldest first.
    pub async fn tokens(&self) -> Result<Vec<TokenRow>> {
        let rows = sqlx::query("SELECT name, created_at FROM tokens ORDER BY created_at, name")
            .fetch_all(&self.pool)
            .await?;
        Ok(rows.into_iter().map(|row| TokenRow { name: row.get(0), created_at: row.get(1) }).collect())
    }

    /// Returns the name of the token behind a session that has not expired.
    pub async fn session_name(&self, hash: &str, now: i64) -> Result<Option<String>> {
        let row = sqlx::query(
            "SELECT tokens.name FROM sessions JOIN tokens ON tokens.hash = sessions.token_hash \
             WHERE sessions.hash = $1 AND sessions.expires_at > $2",
        )
        .bind(hash)
        .bind(now)
        .fetch_optional(&self.pool)
        .await?;
        Ok(row.map(|row| row.get(0)))
    }
}

impl Tx<'_> {
    /// Adds a token by its hash.
    pub async fn insert_token(&mut self, hash: &str, name: &str, at: i64) -> Result<()> {
        sqlx::query("INSERT INTO tokens (hash, name, created_at) VALUES ($1, $2, $3)")
            .bind(hash)
            .bind(text(name))
            .bind(at)
            .execute(&mut *self.inner)
            .await?;
        Ok(())
    }

    /// Counts all tokens, and those of this name.
    pub async fn count_tokens(&mut self, name: &str) -> Result<(i64, i64)> {
        let row = sqlx::query("SELECT COUNT(*), COUNT(CASE WHEN name = $1 THEN 1 END) FROM tokens")
            .bind(text(name))
            .fetch_one(&mut *self.inner)
            .await?;
        Ok((row.get(0), row.get(1)))
    }

    /// Deletes a token, and the sessions begun with it.
    pub async fn delete_token(&mut self, name: &str) -> Result<()> {
        for statement in [
            "DELETE FROM sessions WHERE token_hash IN (SELECT hash FROM tokens WHERE name = $1)",
            "DELETE FROM tokens WHERE name = $1",
        ] {
            sqlx::query(statement).bind(text(name)).execute(&mut *self.inner).await?;
        }
        Ok(())
    }

    /// Begins a session; forgets those that have expired.
    pub async fn insert_session(
        &mut self,
        hash: &str,
        token_hash: &str,
        now: i64,
        expires_at: i64,
    ) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE expires_at <= $1")
            .bind(now)
            .execute(&mut *self.inner)
            .await?;
        sqlx::query(
            "INSERT INTO sessions (hash, token_hash, created_at, expires_at) VALUES ($1, $2, $3, $4)",
        )
        .bind(hash)
        .bind(token_hash)
        .bind(now)
        .bind(expires_at)
        .execute(&mut *self.inner)
        .await?;
        Ok(())
    }

    /// Ends a session.
    pub async fn delete_session(&mut self, hash: &str) -> Result<()> {
        sqlx::query("DELETE FROM sessions WHERE hash = $1").bind(hash).execute(&mut *self.inner).await?;
        Ok(())
    }
}
