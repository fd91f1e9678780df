//! What the benches of whole rollouts stand on: a simulated cloud, a daemon, one deployment from start to end.

pub mod course;

use anyhow::Context as _;
use drover::{
    cli::demo::playground::{GROUP, Playground, Setup},
    revision::bundle,
    sim::sample,
};
use serde_json::{Value, json};
use std::{
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// What a rollout left behind.
pub struct Rolled {
    /// How it ended.
    pub state: String,
    /// From the submission to the end.
    pub wall: Duration,
    /// The simulated cloud's events since the submission.
    pub events: Vec<Value>,
    /// Calls to AWS meanwhile, by action.
    pub calls: Vec<String>,
    /// Seconds of CPU that the daemon took meanwhile.
    pub cpu: f64,
    /// The most memory that the daemon ever had, in MB.
    pub memory: f64,
    /// Transactions that it wrote, from its start on.
    pub transactions: String,
}

/// A fleet on the sample's first version, with an ordinary clock, and its second version.
pub fn setup(directory: &Path, instances: u32) -> anyhow::Result<(Setup, String)> {
    let repository = directory.join("repository");
    let made = sample::create_repository(&repository)?;
    let setup = Setup {
        drover: env!("CARGO_BIN_EXE_drover").into(),
        data: directory.to_path_buf(),
        first_appspec: appspec_of(&repository, &made.v1)?,
        repository,
        first: made.v1,
        forks: Vec::new(),
        instances,
        paper: false,
        time_scale: 1.0,
        seed: 1,
        deregistration_delay: 10,
        health_interval: 5,
        health_path: "/health".into(),
        port: 80,
        share_network: false,
        application: String::new(),
        policy: "batch = \"5\"".into(),
        poll: "1s".into(),
        public_url: Some("http://127.0.0.1:0".into()),
        branch: "main".into(),
        instance_policy: Value::Null,
        database: None,
        listen: "127.0.0.1:0".into(),
    };
    Ok((setup, made.v2))
}

/// Deploys a revision; `pattern`: what paper instances do.
pub async fn roll(setup: Setup, revision: &str, pattern: Option<&Value>) -> anyhow::Result<Rolled> {
    let log = setup.data.join("daemon.log");
    let playground = Playground::start(setup).await?;
    if let Some(pattern) = pattern {
        playground.control("paper/sample", pattern).await?;
    }
    let seq = |answer: &Value, of: &str| answer[of].as_array().and_then(|all| all.last()?["seq"].as_i64());
    let events = seq(&playground.look("events?after=0").await?, "events").unwrap_or(0);
    let calls = seq(&playground.look("audit?after=0").await?, "calls").unwrap_or(0);
    let daemon = playground.daemon_id().context("the daemon runs no more")?;
    let (begun, cpu) = (Instant::now(), cpu_seconds(daemon)?);
    let http = reqwest::Client::new();
    let url = format!("{}/api/v1/deployments", playground.url);
    let submission = json!({ "group": GROUP, "revision": revision });
    let answer = http.post(&url).bearer_auth(&playground.token).json(&submission).send().await?;
    let answer: Value = answer.json().await?;
    let url = format!("{url}/{}", answer["id"]);
    // The stream ends with the deployment.
    let mut logs = http.get(format!("{url}/logs")).bearer_auth(&playground.token).send().await?;
    while logs.chunk().await?.is_some() {}
    let wall = begun.elapsed();
    let cpu = cpu_seconds(daemon)? - cpu;
    let memory = peak_memory(daemon)?;
    let ended: Value = http.get(&url).bearer_auth(&playground.token).send().await?.json().await?;
    let events = playground.look(&format!("events?after={events}")).await?;
    let calls = playground.look(&format!("audit?after={calls}")).await?;
    playground.stop().await;
    let log = std::fs::read_to_string(log)?;
    let transactions =
        log.lines().rev().find_map(|line| line.split_once("transactions=")).map(|(_, count)| count);
    let aws = calls["calls"].as_array().into_iter().flatten().filter(|call| call["service"] != "github");
    Ok(Rolled {
        state: ended["state"].as_str().unwrap_or_default().to_owned(),
        wall,
        events: events["events"].as_array().cloned().unwrap_or_default(),
        calls: aws.filter_map(|call| call["action"].as_str().map(str::to_owned)).collect(),
        cpu,
        memory,
        transactions: transactions.unwrap_or("unknown").to_owned(),
    })
}

/// Of user and system, from proc(5); a tick is a hundredth of a second on Linux.
fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0)
}

/// Megabytes.
fn peak_memory(process: u32) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).unwrap_or("0");
    let kilobytes: f64 = line.split_whitespace().next().unwrap_or("0").parse()?;
    Ok(kilobytes / 1024.0)
}

fn appspec_of(repository: &Path, sha: &str) -> anyhow::Result<drover::revision::appspec::AppSpec> {
    let archive = repository.join("../first.tar.gz");
    let arguments = ["archive", "--format=tar.gz", "--prefix=first/", "-o"];
    let done =
        Command::new("git").arg("-C").arg(repository).args(arguments).arg(&archive).arg(sha).status()?;
    anyhow::ensure!(done.success(), "git archive failed");
    Ok(bundle::examine(&archive, &bundle::Packed::by_github()).map_err(anyhow::Error::msg)?.appspec)
}
