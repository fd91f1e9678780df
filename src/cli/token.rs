//! `drover token`: who may use the API and sign in to the page.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use serde::Deserialize;

/// Arguments of `drover token`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What to do with tokens.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List the tokens, without themselves: only their hashes are kept.
    List,
    /// Make a token; it is printed now and never again.
    Create {
        /// Whose it is or what for.
        name: String,
    },
    /// Take a token back: it opens nothing any more, and its sessions end.
    Revoke {
        /// Its name.
        name: String,
    },
}

#[derive(Deserialize)]
struct Made {
    token: String,
}

#[derive(Deserialize)]
struct Listed {
    tokens: Vec<Token>,
}

#[derive(Deserialize)]
struct Token {
    name: String,
    created_at: String,
}

/// Does it. The exit code is 0.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let said = match args.verb {
        Verb::List => {
            let listed: Listed = client.read(&client.tokens_text().await?)?;
            let rows: Vec<_> =
                listed.tokens.into_iter().map(|token| vec![token.name, token.created_at]).collect();
            render::table(&["NAME", "CREATED"], &rows)
        }
        Verb::Create { name } => {
            let made: Made = client.read(&client.create_token_text(&name).await?)?;
            format!("{}\n", made.token)
        }
        Verb::Revoke { name } => {
            client.revoke_token_text(&name).await?;
            format!("token {name} is revoked\n")
        }
    };
    render::print_or_leave(&said)?;
    Ok(0)
}
