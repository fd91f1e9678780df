//! `drover deploy`: submits a revision to a deployment group, and follows it if asked to.
//!
//! May import `api` and its client, `follow`, `render` and the arguments of a submission only.

use crate::api::LogQuery;
use crate::cli::client::{ApiError, Client, Daemon};
use crate::cli::follow::{self, Format};
use crate::cli::render;
use crate::cli::submission::SubmissionArgs;

/// Arguments of `drover deploy`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What, and where.
    #[command(flatten)]
    pub submission: SubmissionArgs,
    /// Show the log and the progress until the end, and exit with the deployment's code.
    #[arg(long, short)]
    pub follow: bool,
    /// Print JSON: the deployment; with --follow, lines of it, of the log and of the result.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Submits the deployment. The exit code: 0 submitted or succeeded, 1 failed, cancelled or rolled back, 2 the
/// daemon found fault with what was asked, 3 halted or paused, 4 partial, 5 not known.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let answer = match client.submit(&args.submission.submission()).await {
        Ok(answer) => answer,
        Err(error @ ApiError::Unreachable { connected: true, .. }) => {
            return Err(anyhow::Error::from(error)
                .context("it isn't certain that the deployment was submitted; `drover status` lists them"));
        }
        Err(error) => return Err(error.into()),
    };
    let deployment = answer.read()?;
    if args.json && args.follow {
        render::print_or_leave(&format!("{}\n", serde_json::json!({ "deployment": answer.value()? })))?;
    } else if args.json {
        render::print_or_leave(&format!("{}\n", answer.text()))?;
    } else {
        let id = deployment.id;
        let mut said = format!("deployment {id}: {} {}\n", render::title(&deployment), deployment.state);
        if !args.follow {
            said.push_str(&format!("follow it with: drover logs {id} -f\n"));
        }
        render::print_or_leave(&said)?;
    }
    if !args.follow {
        return Ok(0);
    }
    let format = if args.json { Format::Result } else { Format::Text };
    Ok(follow::follow(&client, deployment.id, LogQuery::following(), format).await?.exit_code)
}
