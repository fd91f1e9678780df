//! `drover group`: the lifecycle hook that holds launching instances for their revision, and putting a group back in order
//! when the daemon that had changed it is gone for good.
//!
//! May import `api` and its client, and `render` only.

use crate::api::routes;
use crate::cli::client::{Client, Daemon, group_segments};
use crate::cli::render;

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

/// Does it, and says what was done. The exit code is 0.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let (call, group) = match args.verb {
        Verb::Hook { verb: HookVerb::Install { group } } => (routes::INSTALL_HOOK, group),
        Verb::Hook { verb: HookVerb::Remove { group } } => (routes::REMOVE_HOOK, group),
        Verb::Restore { group } => (routes::RESTORE_GROUP, group),
    };
    let answer = client.ask(&call, &group_segments(&group), &()).await?.read()?;
    let lines: String = answer.done.iter().map(|line| format!("{}\n", render::clean(line, false))).collect();
    render::print_or_leave(&lines)?;
    Ok(0)
}
