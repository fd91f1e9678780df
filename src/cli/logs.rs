//! `drover logs`: prints a deployment's log, and follows it if asked to.
//!
//! May import `api` and its client, and `follow` only.

use crate::api::LogQuery;
use crate::cli::client::{Client, Daemon};
use crate::cli::follow::{self, Format};

/// Arguments of `drover logs`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment's number.
    pub id: i64,
    /// Go on until the deployment has ended or halted, and exit with its code.
    #[arg(long, short)]
    pub follow: bool,
    /// Only this instance's lines.
    #[arg(long, short, value_name = "INSTANCE")]
    pub instance: Option<String>,
    /// Only this lifecycle event's lines.
    #[arg(long, short, value_name = "EVENT")]
    pub event: Option<String>,
    /// Only lines after this sequence number.
    #[arg(long, value_name = "SEQ", default_value_t = 0)]
    pub after: i64,
    /// Print the rows as JSON lines.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Prints the log. The exit code: 0, or with --follow the deployment's.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let Args { after, follow, instance, event, .. } = args;
    let query = LogQuery { after, follow, instance, event, raw: false };
    let format = if args.json { Format::Rows } else { Format::Text };
    Ok(follow::follow(&client, args.id, query, format).await?.exit_code)
}
