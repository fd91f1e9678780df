//! `drover quarantine`: the instances that failed and are kept out of the balancer.
//!
//! May import the API client and `render` only.

use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use jiff::Timestamp;
use reqwest::Method;
use serde::Deserialize;

/// Arguments of `drover quarantine`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// What to do.
    #[command(subcommand)]
    pub verb: Verb,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// What to do with quarantined instances.
#[derive(Debug, clap::Subcommand)]
pub enum Verb {
    /// List them, with why each is kept out.
    List,
    /// Let one serve again, with whatever release is current on it.
    Release {
        /// Its id.
        instance: String,
    },
    /// Deploy to one once more.
    Retry {
        /// Its id.
        instance: String,
    },
    /// Terminate one; Auto Scaling launches another where one is wanted.
    Terminate {
        /// Its id.
        instance: String,
    },
}

#[derive(Deserialize)]
struct Listed {
    instances: Vec<Quarantined>,
}

#[derive(Deserialize)]
struct Quarantined {
    instance: String,
    auto_scaling_group: String,
    deployment: u64,
    reason: String,
    since: String,
    wish: Option<String>,
}

#[derive(Deserialize)]
struct Answer {
    message: String,
    deployment: Option<u64>,
}

/// Does it. The exit code is 0 once the daemon has agreed to.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let (verb, instance) = match args.verb {
        Verb::List => {
            let text = client.ask_text(Method::GET, "quarantine", None).await?;
            render::print_or_leave(&listing(&client.read::<Listed>(&text)?.instances, Timestamp::now()))?;
            return Ok(0);
        }
        Verb::Release { instance } => ("release", instance),
        Verb::Retry { instance } => ("retry", instance),
        Verb::Terminate { instance } => ("terminate", instance),
    };
    let text = client.ask_text(Method::POST, &format!("quarantine/{instance}/{verb}"), None).await?;
    let answer: Answer = client.read(&text)?;
    let watch = answer.deployment.map(|id| format!("; watch it with: drover logs {id} -f"));
    render::print_or_leave(&format!("{}{}\n", answer.message, watch.unwrap_or_default()))?;
    Ok(0)
}

fn listing(instances: &[Quarantined], now: Timestamp) -> String {
    if instances.is_empty() {
        return "no instance is in quarantine\n".to_owned();
    }
    let row = |i: &Quarantined| {
        let since = render::since(Some(&i.since), now).map(render::span).unwrap_or_default();
        let wish = i.wish.as_ref().map(|wish| format!(" ({wish} is under way)")).unwrap_or_default();
        vec![
            i.instance.clone(),
            i.auto_scaling_group.clone(),
            format!("#{}", i.deployment),
            since,
            format!("{}{wish}", i.reason),
        ]
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let mut out = render::table(&["INSTANCE", "AUTO SCALING GROUP", "DEPLOYMENT", "FOR", "WHY"], &rows);
    out.push_str("\nnext: drover quarantine retry | release | terminate INSTANCE\n");
    out
}
