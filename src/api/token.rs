//! Tokens, which open the API and the page.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

/// A token without itself: only its hash is kept.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Token {
    /// Whose it is or what for.
    pub name: String,
    /// When it was made.
    pub created_at: Timestamp,
}

/// The tokens.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenList {
    /// The tokens, oldest first.
    pub tokens: Vec<Token>,
}

/// What is to be known of a new token.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TokenRequest {
    /// Whose it is or what for.
    pub name: String,
}

/// A new token, shown this once.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenMade {
    /// Whose it is or what for.
    pub name: String,
    /// The token itself.
    pub token: String,
}

/// A token that opens nothing any more.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct TokenRevoked {
    /// Its name.
    pub revoked: String,
}
