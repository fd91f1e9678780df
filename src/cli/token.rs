//! `drover token`: who may use the API and sign in to the page.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{Token, TokenRequest, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render;

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

/// Does it. The exit code is 0.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let said = match args.verb {
        Verb::List => {
            let list = client.ask(&routes::LIST_TOKENS, &[], &()).await?.read()?;
            let row = |token: Token| vec![token.name, token.created_at.to_string()];
            let rows: Vec<_> = list.tokens.into_iter().map(row).collect();
            render::table(&["NAME", "CREATED"], &rows)
        }
        Verb::Create { name } => {
            let made = client.ask(&routes::MAKE_TOKEN, &[], &TokenRequest { name }).await?.read()?;
            format!("{}\n", made.token)
        }
        Verb::Revoke { name } => {
            client.ask(&routes::REVOKE_TOKEN, &[&name], &()).await?;
            format!("token {name} is revoked\n")
        }
    };
    render::print_or_leave(&said)?;
    Ok(0)
}
