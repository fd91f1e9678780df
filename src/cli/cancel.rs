//! `drover cancel`: ends a deployment; what is in work is put back in order first.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{CancelRequest, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render;

/// Arguments of `drover cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment's number.
    pub id: i64,
    /// Stop the hook that runs, rather than let the running event end.
    #[arg(long)]
    pub now: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Asks the daemon to cancel. The exit code is 0 once it has agreed to.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let id = args.id;
    let request = CancelRequest { now: args.now };
    let deployment = client.ask(&routes::CANCEL, &[&id.to_string()], &request).await?.read()?;
    let mut said = format!("deployment {id}: {}", deployment.state);
    if deployment.exit_code.is_none() {
        said.push_str(", being cancelled; ");
        said.push_str(if args.now { "the running hook is stopped" } else { "the running event ends first" });
        said.push_str(&format!("; watch it with: drover logs {id} -f"));
    }
    said.push('\n');
    render::print_or_leave(&said)?;
    Ok(0)
}
