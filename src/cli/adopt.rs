//! `drover adopt`: takes over a group that something else has deployed to.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{AdoptRequest, routes};
use crate::cli::client::{Client, Daemon, group_segments};
use crate::cli::render;

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment group, as APPLICATION/ENVIRONMENT.
    #[arg(long, value_name = "APP/ENV", value_parser = crate::cli::client::group_name)]
    pub group: String,
    /// The commit that its instances run: a full or abbreviated SHA, a branch or a tag.
    #[arg(long)]
    pub revision: String,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// The exit code is 0 once it is written down.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let request = AdoptRequest { revision: args.revision };
    let answer = client.ask(&routes::ADOPT_GROUP, &group_segments(&args.group), &request).await?.read()?;
    render::print_or_leave(&answer.done.iter().map(|line| format!("{line}\n")).collect::<String>())?;
    Ok(0)
}
