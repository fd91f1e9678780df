//! Tokens, which open the API and the page. Only their hashes are kept: a token is shown once, when it is made.

use crate::{
    engine::Secrets,
    store::Store,
    web::{context::Web, reply::Refusal},
};
use http::StatusCode;
use jiff::Timestamp;
use sha2::{Digest, Sha256};
use std::path::Path;

/// Characters of a token's name at most.
const LONGEST_NAME: usize = 64;

/// The hash by which a token or a session is kept.
pub(super) fn token_hash(token: &str) -> String {
    hex::encode(Sha256::digest(token.as_bytes()))
}

/// Makes the first token, if there is none, and writes it to `path` for its owner alone.
pub async fn first_token(store: &Store, path: &Path) -> anyhow::Result<bool> {
    use std::{io::Write as _, os::unix::fs::OpenOptionsExt as _};
    if store.has_tokens().await? {
        return Ok(false);
    }
    let token = Secrets::fresh();
    let mut file =
        std::fs::OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(path)?;
    writeln!(file, "{token}")?;
    file.sync_all()?;
    let mut tx = store.write().await?;
    tx.insert_token(&token_hash(&token), "admin", Timestamp::now().as_millisecond()).await?;
    tx.commit().await?;
    Ok(true)
}

/// Refuses a name that a terminal, a shell or a URL could not write, or that looks like a path or an option.
fn check_name(name: &str) -> Result<(), Refusal> {
    let sound = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if name.starts_with(|c: char| c.is_ascii_alphanumeric())
        && name.len() <= LONGEST_NAME
        && name.chars().all(sound)
    {
        return Ok(());
    }
    let words = format!(
        "'{name}' is no name for a token: 1 to {LONGEST_NAME} ASCII letters, digits, '-', '_' and '.', a letter or digit first"
    );
    Err(Refusal::new(StatusCode::BAD_REQUEST, "invalid-name", words))
}

impl Web {
    /// Makes a token with this name, which no other one has, and returns it.
    pub async fn make_token(&self, name: &str, by: &str) -> Result<String, Refusal> {
        check_name(name)?;
        let token = Secrets::fresh();
        let mut tx = self.store.write().await?;
        if tx.count_tokens(name).await?.1 > 0 {
            let words = format!("there is a token '{name}' already: revoke it first, or take another name");
            return Err(Refusal::new(StatusCode::CONFLICT, "name-taken", words));
        }
        tx.insert_token(&token_hash(&token), name, Timestamp::now().as_millisecond()).await?;
        tx.commit().await?;
        tracing::info!(name, by, "made a token");
        Ok(token)
    }

    /// Takes a token back: it opens nothing any more, and its sessions end. The last one can't be.
    pub async fn revoke_token(&self, name: &str, by: &str) -> Result<(), Refusal> {
        let mut tx = self.store.write().await?;
        let (all, named) = tx.count_tokens(name).await?;
        if named == 0 {
            let words = format!("there is no token '{name}'");
            return Err(Refusal::new(StatusCode::NOT_FOUND, "unknown-token", words));
        }
        if all == named {
            let words =
                format!("'{name}' is the last token: make another one first, or nobody could come in");
            return Err(Refusal::new(StatusCode::CONFLICT, "last-token", words));
        }
        tx.delete_token(name).await?;
        tx.commit().await?;
        tracing::info!(name, by, "revoked a token");
        Ok(())
    }
}
