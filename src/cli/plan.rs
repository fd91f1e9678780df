//! `drover plan`: a rehearsal: what a deployment would do to the fleet as it is now. Changes nothing.
//!
//! May import `api` and its client, `render` and the arguments of a submission only.

use crate::api::{Rehearsal, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use crate::cli::submission::SubmissionArgs;
use std::fmt::Write as _;

/// Arguments of `drover plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What would be deployed, and where.
    #[command(flatten)]
    pub submission: SubmissionArgs,
    /// Print the daemon's JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Prints the rehearsal. The exit code: 0 it would go through, 1 something is in its way, 2 it was refused.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let answer = client.ask(&routes::REHEARSE, &[], &args.submission.submission()).await?;
    let plan = answer.read()?;
    let said = if args.json { format!("{}\n", answer.text()) } else { words(&plan) };
    render::print_or_leave(&said)?;
    Ok(i32::from(!plan.obstacles.is_empty()))
}

/// The rehearsal as people read it.
fn words(plan: &Rehearsal) -> String {
    let title = render::clean(plan.message.lines().next().unwrap_or_default(), false);
    let mut out = format!(
        "{} of “{title}” to {}: nothing is changed by looking\n\n",
        render::short(&plan.sha),
        plan.group
    );
    let mut line = |name: &str, text: &str| {
        let _ = writeln!(out, "{name:<10} {}", render::clean(text, false));
    };
    line("instances", &format!("{} of {} in {} batches", plan.instances, plan.total, plan.batches.len()));
    line(
        "agents",
        &match plan.unreachable.len() {
            0 => "all reachable".to_owned(),
            count => format!("{count} not reachable: {}", plan.unreachable.join(", ")),
        },
    );
    line("capacity", &plan.capacity);
    for (name, lines) in [
        ("queue", &plan.queue),
        ("policy", &plan.policy),
        ("changes", &plan.changes),
        ("waits", &plan.waits),
        ("lint", &plan.lints),
        ("obstacle", &plan.obstacles),
    ] {
        for (at, text) in lines.iter().enumerate() {
            line(if at == 0 { name } else { "" }, text);
        }
    }
    line("time", &plan.time);
    out.push('\n');
    let mut rows = Vec::new();
    for batch in &plan.batches {
        for (at, instance) in batch.instances.iter().enumerate() {
            let (number, begins) = match at {
                0 => (batch.number.to_string(), render::span(batch.begins_seconds)),
                _ => (String::new(), String::new()),
            };
            rows.push(vec![number, begins, instance.id.clone(), instance.zone.clone()]);
        }
    }
    rows.extend(plan.skipped.iter().map(|s| vec!["–".into(), String::new(), s.id.clone(), s.why.clone()]));
    out.push_str(&render::table(&["BATCH", "BEGINS AFTER", "INSTANCE", "ZONE"], &rows));
    out
}
