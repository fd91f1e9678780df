//! `drover status`: the deployments, or one of them with its instances and what each waits for.
//!
//! May import `api` and its client, and `render` only.

use std::fmt::Write as _;

use jiff::Timestamp;

use crate::api::{Deployment, DeploymentQuery, Instance, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render::{self, Look};

/// Deployments listed; JSON has more.
const LISTED: usize = 20;

/// Arguments of `drover status`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment's number; without it, the latest deployments are listed.
    pub id: Option<i64>,
    /// Print the daemon's JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Prints the state. The exit code is 0 whatever the state: the question was answered.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let now = Timestamp::now();
    let said = match args.id {
        Some(id) => {
            let answer = client.deployment(id).await?;
            if args.json { json(answer.text()) } else { one(&answer.read()?, Look::of_stdout(), now) }
        }
        None => {
            let answer = client.ask(&routes::LIST_DEPLOYMENTS, &[], &DeploymentQuery::default()).await?;
            if args.json { json(answer.text()) } else { all(&answer.read()?.deployments, now) }
        }
    };
    render::print_or_leave(&said)?;
    Ok(0)
}

fn json(text: &str) -> String {
    format!("{text}\n")
}

fn all(deployments: &[Deployment], now: Timestamp) -> String {
    if deployments.is_empty() {
        return "no deployments yet; start one with: drover deploy REVISION --group APP/ENV\n".to_owned();
    }
    let row = |d: &Deployment| {
        let age = render::since(d.created_at, now);
        vec![
            d.id.to_string(),
            d.group.clone(),
            render::short(&d.revision.sha).to_owned(),
            d.state.clone(),
            render::counts(d),
            render::span(render::elapsed(d, now)),
            format!("{} ago", render::span(age)),
            d.by.clone(),
            d.reason.clone().unwrap_or_default(),
        ]
    };
    let head = ["ID", "GROUP", "REVISION", "STATE", "INSTANCES", "TOOK", "SUBMITTED", "BY", "REASON"];
    let rows: Vec<_> = deployments.iter().take(LISTED).map(row).collect();
    let mut out = render::table(&head, &rows);
    if deployments.len() > LISTED {
        let _ = writeln!(out, "… and older ones: --json lists {}", deployments.len());
    }
    out
}

/// A deployment in full.
pub(crate) fn one(deployment: &Deployment, look: Look, now: Timestamp) -> String {
    let mut out = render::summary(deployment, look, now).trim_start().to_owned();
    if !deployment.by.is_empty() {
        let _ = writeln!(out, "  by         {}", render::clean(&deployment.by, false));
    }
    for why in &deployment.explain {
        let _ = writeln!(out, "  waits      {}", look.foreign(why));
    }
    if let Some(seconds) = deployment.seconds_left {
        let _ = writeln!(out, "  left       about {}", render::span(seconds));
    }
    if let Some(words) = &deployment.way_back {
        let _ = writeln!(out, "  way back   {}", look.foreign(words));
    }
    if !deployment.instances().is_empty() {
        let row = |i: &Instance| {
            let since = i.since.map(|since| render::since(since, now));
            vec![
                i.id.clone(),
                i.zone.clone(),
                i.batch.map(|b| b.to_string()).unwrap_or_default(),
                i.state.clone(),
                since.map(render::span).unwrap_or_default(),
                i.attempts.to_string(),
                i.event.clone().unwrap_or_default(),
                i.explain.clone().or_else(|| i.reason.clone()).unwrap_or_default(),
            ]
        };
        let head = ["INSTANCE", "ZONE", "BATCH", "STATE", "SINCE", "ATTEMPTS", "EVENT", "WHY"];
        let rows: Vec<_> = deployment.instances().iter().map(row).collect();
        out.push('\n');
        out.push_str(&render::table(&head, &rows));
    }
    if deployment.counts.failed > 0 {
        let _ =
            writeln!(out, "\nwhat a failed instance said: drover logs {} --instance INSTANCE", deployment.id);
    }
    out
}
