//! `drover plan`: a rehearsal: what a deployment would do to the fleet as it is now. Changes nothing.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon, Submission};
use crate::cli::render;
use reqwest::Method;
use serde::Deserialize;
use std::fmt::Write as _;

/// Arguments of `drover plan`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What would be deployed, and where.
    #[command(flatten)]
    pub submission: Submission,
    /// Print the daemon's JSON.
    #[arg(long)]
    pub json: bool,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

#[derive(Default, Deserialize)]
#[serde(default)]
struct Plan {
    group: String,
    sha: String,
    message: String,
    instances: usize,
    total: u32,
    batches: Vec<Batch>,
    skipped: Vec<Skipped>,
    unreachable: Vec<String>,
    capacity: String,
    queue: Vec<String>,
    policy: Vec<String>,
    changes: Vec<String>,
    waits: Vec<String>,
    lints: Vec<String>,
    obstacles: Vec<String>,
    time: String,
}

#[derive(Deserialize)]
struct Batch {
    number: u32,
    instances: Vec<Placed>,
    begins_seconds: i64,
}

#[derive(Deserialize)]
struct Placed {
    id: String,
    zone: String,
}

#[derive(Deserialize)]
struct Skipped {
    id: String,
    why: String,
}

/// Prints the rehearsal. The exit code: 0 it would go through, 1 something is in its way, 2 it was refused.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let wish = serde_json::to_value(&args.submission)?;
    let text = client.ask_text(Method::POST, "plan", Some(&wish)).await?;
    let plan: Plan = client.read(&text)?;
    let said = if args.json { format!("{}\n", text.trim_end()) } else { words(&plan) };
    render::print_or_leave(&said)?;
    Ok(i32::from(!plan.obstacles.is_empty()))
}

/// The rehearsal as people read it.
fn words(plan: &Plan) -> String {
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
