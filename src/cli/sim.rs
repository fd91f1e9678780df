//! `drover sim`: starts the simulated cloud and says on the first line of standard output how to get in.

use std::io::Write;
use std::net::SocketAddr;
use std::path::PathBuf;

use anyhow::Context;
use tokio::signal::unix::{SignalKind, signal};

use crate::sim::github::RepositorySpec;
use crate::sim::paper::{self, Pattern};
use crate::sim::world::World;
use crate::sim::{Sim, SimSpec};

/// Arguments of `drover sim`.
#[derive(Clone, Debug, clap::Args)]
pub struct SimArgs {
    /// Address of the API; loopback only, port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Directory for the instances' files
    #[arg(long)]
    pub data: PathBuf,
    /// A git repository to be served as GitHub's
    #[arg(long, value_name = "OWNER/NAME=PATH", value_parser = repository)]
    pub repo: Vec<RepositorySpec>,
    /// A git repository that is a fork of OWNER/NAME: its commits are served through the parent
    #[arg(long, value_name = "OWNER/NAME=PATH", value_parser = repository)]
    pub fork: Vec<RepositorySpec>,
    /// A world description (JSON) to start with
    #[arg(long, value_name = "FILE")]
    pub world: Option<PathBuf>,
    /// Start with a group 'paper' of that many instances without processes, behind a load balancer
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u32).range(1..=20_000))]
    pub paper: Option<u32>,
    /// How attempts on them go, as JSON: download_seconds, hook_seconds, lines, failing_instances, failing_attempts
    #[arg(long, value_name = "JSON", requires = "paper", value_parser = pattern)]
    pub paper_pattern: Option<Pattern>,
    /// What the cloud's own waits are divided by
    #[arg(long, default_value_t = 1.0)]
    pub time_scale: f64,
    /// Seed of all chance
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// A loopback address that instances can reach, beside the cloud's own
    #[arg(long, value_name = "ADDRESS:PORT")]
    pub reach: Vec<SocketAddr>,
    /// Instances have this machine's network instead of networks of their own
    #[arg(long)]
    pub share_network: bool,
    /// Stop when standard input closes: for a cloud that is to end with its owner
    #[arg(long)]
    pub until_stdin_closes: bool,
}

fn repository(text: &str) -> Result<RepositorySpec, String> {
    let (name, path) =
        text.split_once('=').ok_or_else(|| format!("'{text}' is not of the form OWNER/NAME=PATH"))?;
    if name.split('/').filter(|p| !p.is_empty()).count() != 2 {
        return Err(format!("'{name}' is no repository name: write OWNER/NAME"));
    }
    Ok(RepositorySpec { name: name.to_owned(), path: PathBuf::from(path) })
}

fn pattern(text: &str) -> Result<Pattern, String> {
    let pattern: Pattern = serde_json::from_str(text).map_err(|e| e.to_string())?;
    pattern.check().map_err(|e| e.message)?;
    Ok(pattern)
}

/// Runs the part of a simulated instance that these arguments (program name first) ask for, if they ask for one; `main`
/// must call it before any thread exists.
pub fn hidden_subcommand(argv: &[std::ffi::OsString]) -> Option<anyhow::Result<std::process::ExitCode>> {
    crate::sim::instance::hidden_subcommand(argv)
}

/// Runs the simulated cloud until SIGTERM or SIGINT, then kills all its instances.
pub async fn run(args: SimArgs) -> anyhow::Result<()> {
    let mut world = match &args.world {
        None => World::default(),
        Some(path) => {
            let text = std::fs::read_to_string(path)
                .with_context(|| format!("can't read the world description {}", path.display()))?;
            serde_json::from_str(&text)
                .with_context(|| format!("{} is no world description", path.display()))?
        }
    };
    if let Some(count) = args.paper {
        let paper = paper::world(count, args.paper_pattern.unwrap_or_default());
        world.target_groups.extend(paper.target_groups);
        world.groups.extend(paper.groups);
    }
    let mut terminate = signal(SignalKind::terminate()).context("can't wait for SIGTERM")?;
    let mut interrupt = signal(SignalKind::interrupt()).context("can't wait for SIGINT")?;
    let sim = Sim::start(SimSpec {
        listen: args.listen,
        data: args.data,
        repositories: args.repo,
        forks: args.fork,
        world,
        time_scale: args.time_scale,
        seed: args.seed,
        reach: args.reach,
        share_network: args.share_network,
    })
    .await?;
    {
        let mut out = std::io::stdout().lock();
        let mut ready = sim.ready();
        if args.paper.is_some() {
            ready["ready"]["paper"] = sim.cloud.with(|state| state.describe_paper());
        }
        writeln!(out, "{ready}").and_then(|()| out.flush()).context("can't write to standard output")?;
    }
    tokio::select! {
        _ = terminate.recv() => {}
        _ = interrupt.recv() => {}
        () = super::stdin_closed(args.until_stdin_closes) => {}
    }
    sim.shut_down().await;
    Ok(())
}
