//! What the benches of whole rollouts stand on: a simulated cloud, a daemon, deployments from start to end.

pub mod course;

use anyhow::Context as _;
use drover::{
    cli::demo::playground::{GROUP, Named, Playground, Setup},
    revision::bundle,
    sim::sample,
};
use futures_util::future::try_join_all;
use serde_json::{Value, json};
use std::{
    collections::{BTreeMap, HashMap},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

/// What the rollouts of one daemon left behind.
pub struct Rolled {
    /// One of each deployment group.
    pub rollouts: Vec<Rollout>,
    /// Calls to AWS since the first submission, by action.
    pub calls: Vec<String>,
    /// Seconds of CPU that the daemon took meanwhile.
    pub cpu: f64,
    /// Memory in MB before the first submission.
    pub idle: f64,
    /// The most memory in MB that the daemon ever had.
    pub memory: f64,
    /// Transactions that it wrote, from its start on.
    pub transactions: String,
}

/// How a rollout went.
pub struct Rollout {
    /// How it ended.
    pub state: String,
    /// From the submission to the end.
    pub wall: Duration,
    /// The simulated cloud's events on its instances.
    pub events: Vec<Value>,
}

/// A fleet on the sample's first version, with an ordinary clock, and its second version.
pub fn setup(directory: &Path, groups: u32, instances: u32) -> anyhow::Result<(Setup, String)> {
    let repository = directory.join("repository");
    let made = sample::create_repository(&repository)?;
    let setup = Setup {
        drover: env!("CARGO_BIN_EXE_drover").into(),
        data: directory.to_path_buf(),
        first_appspec: appspec_of(&repository, &made.v1)?,
        repository,
        first: made.v1,
        forks: Vec::new(),
        groups,
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

/// Deploys a revision to all groups at once; `pattern`: what paper instances do.
pub async fn roll(setup: Setup, revision: &str, pattern: Option<&Value>) -> anyhow::Result<Rolled> {
    let log = setup.data.join("daemon.log");
    let playground = Playground::start(setup).await?;
    let names: Vec<Named> = playground.setup.names().collect();
    if let Some(pattern) = pattern {
        for name in &names {
            playground.control(&format!("paper/{}", name.cloud), pattern).await?;
        }
    }
    let groups = instances(&playground.look("world").await?);
    let seq = |answer: &Value, of: &str| answer[of].as_array().and_then(|all| all.last()?["seq"].as_i64());
    let events = seq(&playground.look("events?after=0").await?, "events").unwrap_or(0);
    let calls = seq(&playground.look("audit?after=0").await?, "calls").unwrap_or(0);
    let daemon = playground.daemon_id().context("the daemon runs no more")?;
    let (idle, cpu) = (memory(daemon, "VmRSS:")?, cpu_seconds(daemon)?);
    let ended = try_join_all(names.iter().map(|name| deploy(&playground, &name.group, revision))).await?;
    let cpu = cpu_seconds(daemon)? - cpu;
    let peak = memory(daemon, "VmHWM:")?;
    let events = playground.look(&format!("events?after={events}")).await?;
    let calls = playground.look(&format!("audit?after={calls}")).await?;
    playground.stop().await;
    let log = std::fs::read_to_string(log)?;
    let transactions =
        log.lines().rev().find_map(|line| line.split_once("transactions=")).map(|(_, count)| count);
    let aws = calls["calls"].as_array().into_iter().flatten().filter(|call| call["service"] != "github");
    let mut by_group: BTreeMap<&str, Vec<Value>> = BTreeMap::new();
    for event in events["events"].as_array().into_iter().flatten() {
        let group = event["instance"].as_str().and_then(|id| groups.get(id));
        if let Some(group) = group {
            by_group.entry(group).or_default().push(event.clone());
        }
    }
    let rollouts = names.iter().zip(ended).map(|(name, (state, wall))| {
        let events = by_group.remove(name.cloud.as_str()).unwrap_or_default();
        Rollout { state, wall, events }
    });
    Ok(Rolled {
        rollouts: rollouts.collect(),
        calls: aws.filter_map(|call| call["action"].as_str().map(str::to_owned)).collect(),
        cpu,
        idle,
        memory: peak,
        transactions: transactions.unwrap_or("unknown").to_owned(),
    })
}

/// The time from the start of a daemon to its first effect, in seconds: the one before it was killed while its first batch
/// drained, and by the new one's start all of that batch waits for its commands.
pub async fn restart(setup: Setup, revision: &str, pattern: &Value) -> anyhow::Result<(f64, String)> {
    let batch = setup.instances as usize / 20;
    let mut playground = Playground::start(setup).await?;
    playground.control("paper/sample", pattern).await?;
    let http = reqwest::Client::new();
    let url = format!("{}/api/v1/deployments", playground.url);
    let submission = json!({ "group": GROUP, "revision": revision });
    http.post(&url).bearer_auth(&playground.token).json(&submission).send().await?.error_for_status()?;
    targets_are(&playground, "draining", batch).await?;
    playground.kill_daemon().await?;
    targets_are(&playground, "unused", batch).await?;
    let calls = playground.look("audit?after=0").await?;
    let last = calls["calls"].as_array().and_then(|all| all.last()?["seq"].as_i64()).unwrap_or(0);
    let started = jiff::Timestamp::now().as_millisecond();
    playground.start_daemon().await?;
    let limit = Instant::now() + Duration::from_secs(60);
    let first = loop {
        let calls = playground.look(&format!("audit?after={last}")).await?;
        let calls = calls["calls"].as_array().cloned().unwrap_or_default();
        if let Some(effect) = calls.iter().find(|call| call["mutating"] == true) {
            let action = effect["action"].as_str().unwrap_or_default().to_owned();
            break (effect["at"].as_i64().context("a call without its time")?, action);
        }
        anyhow::ensure!(Instant::now() < limit, "no effect came after the restart");
        tokio::time::sleep(Duration::from_millis(20)).await;
    };
    playground.stop().await;
    Ok(((first.0 - started) as f64 / 1000.0, first.1))
}

/// Waits until at least so many targets have come to a state since the start.
async fn targets_are(playground: &Playground, state: &str, count: usize) -> anyhow::Result<()> {
    let limit = Instant::now() + Duration::from_secs(120);
    loop {
        let events = playground.look("events?after=0").await?;
        let events = events["events"].as_array().cloned().unwrap_or_default();
        let came = events.iter().filter(|e| e["kind"] == "target-state" && e["detail"]["to"] == state);
        if came.count() >= count {
            return Ok(());
        }
        anyhow::ensure!(Instant::now() < limit, "no {count} targets are {state}");
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
}

/// Deploys to one group; its last state, and the time from the submission to the end.
async fn deploy(playground: &Playground, group: &str, revision: &str) -> anyhow::Result<(String, Duration)> {
    let begun = Instant::now();
    let http = reqwest::Client::new();
    let url = format!("{}/api/v1/deployments", playground.url);
    let submission = json!({ "group": format!("sample/{group}"), "revision": revision });
    let answer = http.post(&url).bearer_auth(&playground.token).json(&submission).send().await?;
    let answer: Value = answer.json().await?;
    let url = format!("{url}/{}", answer["id"]);
    // The stream ends with the deployment.
    let mut logs = http.get(format!("{url}/logs")).bearer_auth(&playground.token).send().await?;
    while logs.chunk().await?.is_some() {}
    let wall = begun.elapsed();
    let ended: Value = http.get(&url).bearer_auth(&playground.token).send().await?.json().await?;
    Ok((ended["state"].as_str().unwrap_or_default().to_owned(), wall))
}

/// The Auto Scaling group of each instance.
fn instances(world: &Value) -> HashMap<String, String> {
    let groups = world["groups"].as_array().into_iter().flatten();
    let of = |group: &Value| -> Vec<(String, String)> {
        let name = group["name"].as_str().unwrap_or_default();
        let ids = group["instances"].as_array().into_iter().flatten();
        ids.filter_map(|instance| Some((instance["id"].as_str()?.to_owned(), name.to_owned()))).collect()
    };
    groups.flat_map(of).collect()
}

/// Of user and system, from proc(5); a tick is a hundredth of a second on Linux.
fn cpu_seconds(process: u32) -> anyhow::Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    let fields: Vec<&str> = stat.rsplit_once(')').map_or("", |(_, rest)| rest).split_whitespace().collect();
    let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<f64>().ok());
    Ok((ticks(11).unwrap_or(0.0) + ticks(12).unwrap_or(0.0)) / 100.0)
}

/// A line of `/proc/PID/status`, in megabytes.
fn memory(process: u32, line: &str) -> anyhow::Result<f64> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = status.lines().find_map(|all| all.strip_prefix(line)).unwrap_or("0");
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
