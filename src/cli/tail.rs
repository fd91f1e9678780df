//! `drover tail`: follows a group's deployments, one after the other, in a terminal that stays open.
//!
//! May import `api` and its client, `follow`, `render` and the arguments of a log only.

use crate::api::{DeploymentQuery, LogQuery, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::follow::{self, Format};
use crate::cli::logs::LinesArgs;
use crate::cli::render;
use std::time::Duration;

/// How often it is asked for the next deployment.
const POLL: Duration = Duration::from_secs(2);

/// Arguments of `drover tail`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:
  drover tail shop/production              wait for the next deployment and follow it, over and over")]
pub struct Args {
    /// The deployment group.
    #[arg(value_name = "APP/ENV")]
    pub group: String,
    /// Which lines.
    #[command(flatten)]
    pub lines: LinesArgs,
    /// End after so many deployments; without it, go on until Ctrl-C.
    #[arg(long, value_name = "COUNT")]
    pub count: Option<u32>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Follows what is under way, then what comes. The exit code: the last deployment's; 130 after Ctrl-C.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let Args { group, lines, count, .. } = args;
    let mut last = match client.newest(Some(&group)).await? {
        Some(deployment) if deployment.exit_code.is_some() => {
            let id = deployment.id;
            render::print_or_leave(&format!(
                "deployment {id} of {group} is over: {}; waiting for the next one\n",
                deployment.state
            ))?;
            id
        }
        Some(deployment) => deployment.id - 1,
        None => {
            render::print_or_leave(&format!("{group} has no deployment yet; waiting for the first one\n"))?;
            0
        }
    };
    let mut followed = 0;
    loop {
        let Some(id) = next(&client, &group, last).await? else { return Ok(follow::INTERRUPTED) };
        last = id;
        let query = LogQuery { follow: true, ..lines.clone().query() };
        let outcome = follow::follow(&client, id, query, Format::Text).await?;
        followed += 1;
        if outcome.detached || count.is_some_and(|count| followed >= count) {
            return Ok(outcome.exit_code);
        }
        render::print_or_leave(&format!("waiting for the next deployment of {group}\n"))?;
    }
}

/// The first deployment after this one, once there is one; none after Ctrl-C. A daemon that is away is waited for.
async fn next(client: &Client, group: &str, last: i64) -> anyhow::Result<Option<i64>> {
    loop {
        let query = DeploymentQuery { group: Some(group.to_owned()), limit: Some(50) };
        match client.ask(&routes::LIST_DEPLOYMENTS, &[], &query).await.and_then(|answer| answer.read()) {
            Ok(list) => {
                // What was submitted while another was followed is followed too, unless only an instance's launch.
                let later =
                    list.deployments.iter().rev().filter(|d| d.id > last && d.only_instance.is_none());
                if let Some(next) = later.map(|deployment| deployment.id).next() {
                    return Ok(Some(next));
                }
            }
            Err(error) if error.is_passing() => {}
            Err(error) => return Err(error.into()),
        }
        tokio::select! {
            () = tokio::time::sleep(POLL) => {}
            _ = tokio::signal::ctrl_c() => return Ok(None),
        }
    }
}
