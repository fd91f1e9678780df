//! `drover pause`, `resume`, `approve`, `retry`, `rollback`: what a person asks of a deployment. One file for the five: they
//! differ in a word.
//!
//! May import `api` and its client, `render` and the verbs' names only.

use crate::{
    api::{VerbRequest, routes},
    cli::{
        client::{Client, Daemon},
        render,
    },
    rollout::verb::Verb,
};

/// Arguments of a verb.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The deployment's number.
    pub id: i64,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Arguments of `drover retry`.
#[derive(Debug, clap::Args)]
pub struct RetryArgs {
    /// The deployment's number.
    pub id: i64,
    /// This instance alone; else all that failed.
    #[arg(long)]
    pub instance: Option<String>,
    /// Where the daemon is.
    #[command(flatten)]
    pub daemon: Daemon,
}

/// Asks for it. The exit code is 0 once the daemon has agreed to.
pub async fn run(verb: Verb, args: Args) -> anyhow::Result<i32> {
    ask(verb, args.id, None, &args.daemon).await
}

/// Asks for another try of what failed.
pub async fn retry(args: RetryArgs) -> anyhow::Result<i32> {
    ask(Verb::Retry, args.id, args.instance, &args.daemon).await
}

async fn ask(verb: Verb, id: i64, instance: Option<String>, daemon: &Daemon) -> anyhow::Result<i32> {
    let client = Client::new(daemon)?;
    let call = routes::of_deployment(verb);
    let deployment = client.ask(&call, &[&id.to_string()], &VerbRequest { instance }).await?.read()?;
    let mut said = format!("deployment {}: {}", deployment.id, deployment.state);
    if deployment.id != id {
        said = format!("{verb} of deployment {id} is deployment {}: {}", deployment.id, deployment.state);
    }
    if deployment.exit_code.is_none() {
        said.push_str(&format!("; watch it with: drover logs {} -f", deployment.id));
    }
    said.push('\n');
    render::print_or_leave(&said)?;
    Ok(0)
}
