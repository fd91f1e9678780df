//! `drover demo`: a simulated cloud, a daemon, steady load, and a deployment with one transient failure in it.

pub mod playground;
mod report;

use crate::{
    api::{LogQuery, Submission},
    cli::{
        client::{Client, Daemon},
        follow::{self, Format},
        git,
    },
    revision::{appspec::AppSpec, bundle},
    sim::{
        load::{Load, LoadSpec},
        sample,
    },
};
use anyhow::{Context as _, ensure};
use playground::{GROUP, Playground, Setup};
use serde_json::json;
use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
};
use tokio::signal::unix::{SignalKind, signal};

/// Arguments.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Instances in the group.
    #[arg(long, default_value_t = 6, value_parser = clap::value_parser!(u32).range(2..=30))]
    pub instances: u32,
    /// A local git repository with an appspec.yml instead of the sample; the branch that is checked out is deployed, and the
    /// fleet starts with the commit before its last one. Its service must answer GET / on port 80.
    #[arg(long)]
    pub repo: Option<PathBuf>,
    /// Seed of all chance: which instance meets the failure. Random if absent, and printed.
    #[arg(long)]
    pub seed: Option<u64>,
    /// The simulated cloud's waits (draining, health checks) are divided by this.
    #[arg(long, default_value_t = 1.0)]
    pub time_scale: f64,
    /// Where the daemon listens; loopback only.
    #[arg(long, default_value = "127.0.0.1:0")]
    pub listen: SocketAddr,
    /// Where everything is kept; else in a temporary directory that is removed at the end.
    #[arg(long)]
    pub data: Option<PathBuf>,
    /// End after the deployment, with its exit code.
    #[arg(long)]
    pub exit: bool,
    /// Print JSON lines.
    #[arg(long)]
    pub json: bool,
}

/// In the demo, seconds count: a deregistration delay long enough for the load's 3-second streams, and AWS's shortest
/// health-check interval.
const DEREGISTRATION_DELAY: u32 = 5;
const HEALTH_INTERVAL: u32 = 5;
/// Requests a second.
const RATE: u32 = 40;

/// Ends with the deployment's exit code, or with 0 when it was interrupted after it.
pub async fn run(args: Args) -> anyhow::Result<i32> {
    let seed = args.seed.unwrap_or_else(|| rand::random_range(1..1_000_000));
    ensure!(args.listen.ip().is_loopback(), "--listen: {} is not a loopback address", args.listen);
    let temporary = tempfile::Builder::new().prefix("drover-demo-").tempdir()?;
    let data = match &args.data {
        Some(data) => {
            std::fs::create_dir_all(data).with_context(|| format!("making {}", data.display()))?;
            data.canonicalize()?
        }
        None => temporary.path().to_path_buf(),
    };
    let say = |text: &str| {
        if !args.json {
            println!("{text}");
        }
    };
    let Revisions { repository, branch, first, target } = revisions(args.repo.as_deref(), &data)?;
    say(&format!(
        "starting a simulated cloud with {} instances on revision {}, and a daemon (seed {seed}) …",
        args.instances,
        &first[..12]
    ));
    let setup = Setup {
        drover: std::env::current_exe()?,
        first_appspec: appspec_of(&repository, &first, &data)?,
        repository,
        first,
        forks: Vec::new(),
        groups: 1,
        instances: args.instances,
        paper: false,
        port: 80,
        time_scale: args.time_scale,
        seed,
        deregistration_delay: DEREGISTRATION_DELAY,
        health_interval: HEALTH_INTERVAL,
        health_path: if args.repo.is_some() { "/" } else { "/health" }.into(),
        // Some serve at any time: of two or three, one is deployed to at a time.
        share_network: false,
        application: String::new(),
        policy: format!(
            "batch = \"{}\"\n[applications.sample.groups.demo.policy.retry]\nbase = \"1s\"",
            if args.instances < 4 { 1 } else { 2 }
        ),
        branch,
        poll: "500ms".into(),
        public_url: Some("http://127.0.0.1:0".into()),
        instance_policy: serde_json::Value::Null,
        database: None,
        listen: args.listen.to_string(),
        data,
    };
    let mut term = signal(SignalKind::terminate())?;
    let playground = tokio::select! {
        playground = Playground::start(setup) => playground?,
        // The processes end with their owner.
        _ = term.recv() => return Ok(1),
    };
    let result = tokio::select! {
        result = play(&args, &playground, seed, &target, say) => result,
        _ = term.recv() => Ok(1),
    };
    playground.stop().await;
    result
}

async fn play(
    args: &Args,
    playground: &Playground,
    seed: u64,
    target: &str,
    say: impl Fn(&str),
) -> anyhow::Result<i32> {
    if args.json {
        let ready = json!({
            "url": playground.url, "token": playground.token,
            "cloud": playground.cloud.url, "cloud_token": playground.cloud.token,
            "service": playground.service, "seed": seed, "webhook_secret": playground.webhook_secret,
        });
        println!("{}", json!({ "ready": ready }));
    }
    say(&format!(
        "page     {} (sign in with the token {})\nservice  {}\n",
        playground.url, playground.token, playground.service
    ));
    let fault = json!({
        "kind": "hook-exit", "match": { "instance": "random" }, "event": "AfterInstall", "exit": 75,
        "message": "fetching the model: connection reset by peer",
    });
    let armed = playground.control("faults", &fault).await?;
    let unlucky = armed["instance"].as_str().unwrap_or("one instance").to_owned();
    say(&format!(
        "{unlucky} will meet a transient failure in AfterInstall, once; it is retried where it happened.\n"
    ));
    let spec = LoadSpec { url: playground.service.clone(), rate_per_second: RATE, seed };
    // A foreign application answers GETs, perhaps; only the sample has the rest.
    let load = if args.repo.is_some() { Load::start_gets(spec)? } else { Load::start(spec)? };
    let daemon = Daemon {
        url: playground.url.clone(),
        token: playground.token.clone(),
        patience: jiff::SignedDuration::from_mins(10),
    };
    let client = Client::new(&daemon)?;
    let submission = Submission { group: GROUP.into(), revision: target.into(), ..Submission::default() };
    let id = client.submit(&submission).await?.read()?.id;
    let format = if args.json { Format::Rows } else { Format::Text };
    let query = LogQuery::following();
    let outcome = follow::follow(&client, id, query, format).await?;
    let requests = load.stop().await;
    let deployment: serde_json::Value = client.deployment(id).await?.value()?;
    report::print(args.json, &deployment, &requests, seed, &unlucky)?;
    if args.exit || outcome.detached {
        return Ok(outcome.exit_code);
    }
    say(&format!(
        "\neverything stays up until Ctrl-C. In another terminal:\n  export DROVER_URL={} DROVER_TOKEN={}\n  drover status {id}\n  \
         drover logs {id}\n  drover deploy {} --group {GROUP} --follow\n  curl {}/",
        playground.url,
        playground.token,
        &playground.setup.first[..12],
        playground.service,
    ));
    tokio::signal::ctrl_c().await?;
    Ok(0)
}

/// What is deployed.
struct Revisions {
    repository: PathBuf,
    branch: String,
    /// That the fleet starts with.
    first: String,
    /// That is deployed.
    target: String,
}

fn revisions(given: Option<&Path>, data: &Path) -> anyhow::Result<Revisions> {
    let Some(path) = given else {
        let repository = data.join("repository");
        let made = sample::create_repository(&repository)?;
        return Ok(Revisions { repository, branch: "main".into(), first: made.v1, target: made.v2 });
    };
    let repository = path.canonicalize().with_context(|| format!("--repo {}", path.display()))?;
    let branch = git(&repository, &["symbolic-ref", "--short", "HEAD"])
        .with_context(|| format!("{} has no branch checked out: git switch BRANCH", path.display()))?;
    let target = git(&repository, &["rev-parse", "--verify", "HEAD^{commit}"])
        .with_context(|| format!("branch {branch} of {} has no commit", path.display()))?;
    // A repository of one commit: the fleet starts with what will be deployed.
    let first =
        git(&repository, &["rev-parse", "--verify", "HEAD~1^{commit}"]).unwrap_or_else(|_| target.clone());
    Ok(Revisions { repository, branch, first, target })
}

/// What a revision's `appspec.yml` says.
fn appspec_of(repository: &Path, sha: &str, data: &Path) -> anyhow::Result<AppSpec> {
    let archive = data.join("first.tar.gz");
    let output = archive.to_string_lossy().into_owned();
    git(repository, &["archive", "--format=tar.gz", "--prefix=first/", "-o", &output, sha])?;
    let examined = bundle::examine(&archive, &bundle::Packed::by_github())
        .map_err(|e| anyhow::anyhow!("revision {sha}: {e}"))?;
    Ok(examined.appspec)
}
