//! `drover group`: the lifecycle hook that holds launching instances for their revision, and putting a group back in order
//! when the daemon that had changed it is gone for good.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use reqwest::Method;
use serde::Deserialize;

/// Arguments of `drover group`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What to do with a group.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// The lifecycle hook for launches.
    Hook {
        /// Install or remove it.
        #[command(subcommand)]
        verb: HookVerb,
    },
    /// Put standby, MinSize and suspended processes back, from the tag drover:restore on each Auto Scaling group.
    Restore {
        /// The deployment group.
        #[arg(value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
        group: String,
    },
}

/// What to do with the hook.
#[derive(Debug, clap::Subcommand)]
pub enum HookVerb {
    /// Hold launching instances until they have the group's revision.
    Install {
        /// The deployment group.
        #[arg(value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
        group: String,
    },
    /// Let them go into service as their image makes them.
    Remove {
        /// The deployment group.
        #[arg(value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
        group: String,
    },
}

#[derive(Deserialize)]
struct Done {
    done: Vec<String>,
}

/// Does it, and says what was done. The exit code is 0.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let (method, path) = match args.verb {
        Verb::Hook { verb: HookVerb::Install { group } } => (Method::PUT, format!("groups/{group}/hook")),
        Verb::Hook { verb: HookVerb::Remove { group } } => (Method::DELETE, format!("groups/{group}/hook")),
        Verb::Restore { group } => (Method::POST, format!("groups/{group}/restore")),
    };
    let answer: Done = client.read(&client.ask_text(method, &path, None).await?)?;
    let lines: String = answer.done.iter().map(|line| format!("{}\n", render::clean(line, false))).collect();
    render::print_or_leave(&lines)?;
    Ok(0)
}
