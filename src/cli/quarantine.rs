//! `drover quarantine`: the instances that failed and are kept out of the balancer.
//!
//! May import `api` and its client, and `render` only.

use crate::api::{QuarantineVerb, QuarantinedInstance, routes};
use crate::cli::client::{Client, Daemon};
use crate::cli::render;
use jiff::Timestamp;

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

/// Does it. The exit code is 0 once the daemon has agreed to.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let client = Client::new(&args.daemon)?;
    let (verb, instance) = match args.verb {
        Verb::List => {
            let list = client.ask(&routes::LIST_QUARANTINE, &[], &()).await?.read()?;
            render::print_or_leave(&listing(&list.instances, Timestamp::now()))?;
            return Ok(0);
        }
        Verb::Release { instance } => (QuarantineVerb::Release, instance),
        Verb::Retry { instance } => (QuarantineVerb::Retry, instance),
        Verb::Terminate { instance } => (QuarantineVerb::Terminate, instance),
    };
    let answer = client.ask(&routes::of_quarantined(verb), &[&instance], &()).await?.read()?;
    let watch = answer.deployment.map(|id| format!("; watch it with: drover logs {id} -f"));
    render::print_or_leave(&format!("{}{}\n", answer.message, watch.unwrap_or_default()))?;
    Ok(0)
}

fn listing(instances: &[QuarantinedInstance], now: Timestamp) -> String {
    if instances.is_empty() {
        return "no instance is in quarantine\n".to_owned();
    }
    let row = |i: &QuarantinedInstance| {
        let since = render::span(render::since(i.since, now));
        let requested =
            i.requested.as_ref().map(|verb| format!(" ({verb} is under way)")).unwrap_or_default();
        vec![
            i.instance.clone(),
            i.auto_scaling_group.clone(),
            format!("#{}", i.deployment),
            since,
            format!("{}{requested}", i.reason),
        ]
    };
    let rows: Vec<_> = instances.iter().map(row).collect();
    let mut out = render::table(&["INSTANCE", "AUTO SCALING GROUP", "DEPLOYMENT", "FOR", "WHY"], &rows);
    out.push_str("\nnext: drover quarantine retry | release | terminate INSTANCE\n");
    out
}
