//! `drover cancel`: ends a deployment; what is in work is put back in order first.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon, Deployment};
use crate::cli::render;

/// Arguments of `drover cancel`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment's number.
    pub id: u64,
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
    let text = client.cancel_text(args.id, args.now).await?;
    let deployment: Deployment = client.read(&text)?;
    let id = args.id;
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
