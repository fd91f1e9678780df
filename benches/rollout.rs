//! How much time a rollout loses to drover itself: its wall time over its critical path.
//!
//! 20 instances, batches of 5, a deregistration delay of 10 s, hooks of about 2 s, health checks of 5 s × 2. Everything
//! is computed from the simulated cloud's event log alone: target states and the commands' own start and end. The
//! critical path of a batch is its slowest instance's drain + hooks + time from the way out of standby (which the
//! Auto Scaling group takes a second for) to healthy; what lies between those, and between the batches, is overhead. A harness that prints figures; nothing is asserted.
//!
//! `cargo bench --bench rollout`

use drover::{
    cli::demo::playground::{GROUP, Playground, Setup},
    revision::bundle,
    sim::sample,
};
use serde_json::{Value, json};
use std::{collections::BTreeMap, process::Command, time::Duration};

/// What happened to an instance, in milliseconds of the event log.
#[derive(Debug, Default)]
struct Course {
    draining: i64,
    unused: i64,
    started: i64,
    ended: i64,
    returned: i64,
    healthy: i64,
}

impl Course {
    fn critical(&self) -> i64 {
        (self.unused - self.draining) + (self.ended - self.started) + (self.healthy - self.returned)
    }
}

fn courses(events: &[Value]) -> BTreeMap<String, Course> {
    let mut courses: BTreeMap<String, Course> = BTreeMap::new();
    for event in events {
        let Some(instance) = event["instance"].as_str() else { continue };
        let at = event["at"].as_i64().unwrap_or_default();
        let course = courses.entry(instance.to_owned()).or_default();
        match (event["kind"].as_str(), event["detail"]["to"].as_str()) {
            (Some("target-state"), Some("draining")) => course.draining = at,
            (Some("target-state"), Some("unused")) => course.unused = at,
            (Some("target-state"), Some("healthy")) => course.healthy = at,
            (Some("instance-exiting-standby"), _) => course.returned = at,
            (Some("command-started"), _) => course.started = at,
            (Some("command-ended"), _) => course.ended = at,
            _ => {}
        }
    }
    courses.retain(|_, course| course.draining > 0);
    courses
}

/// Consecutive instances by the time they were taken out, `size` at a time.
fn batches(courses: &BTreeMap<String, Course>, size: usize) -> Vec<Vec<&Course>> {
    let mut in_turn: Vec<&Course> = courses.values().collect();
    in_turn.sort_by_key(|course| course.draining);
    in_turn.chunks(size).map(<[&Course]>::to_vec).collect()
}

fn seconds(milliseconds: i64) -> f64 {
    Duration::from_millis(milliseconds.unsigned_abs()).as_secs_f64()
}

fn report(events: &[Value]) {
    let courses = courses(events);
    let batches = batches(&courses, 5);
    let first = courses.values().map(|course| course.draining).min().unwrap_or_default();
    let last = courses.values().map(|course| course.healthy).max().unwrap_or_default();
    let critical: i64 =
        batches.iter().filter_map(|batch| batch.iter().map(|course| course.critical()).max()).sum();
    println!(
        "the slowest instance of each batch; overhead in brackets: drained to hooks, hooks to the way out of standby, next batch"
    );
    println!("batch  drain    hooks   health  critical  overhead");
    for (index, batch) in batches.iter().enumerate() {
        let number = index + 1;
        let Some(slowest) = batch.iter().max_by_key(|course| course.critical()) else { continue };
        let whole = batch.iter().map(|course| course.healthy).max().unwrap_or_default();
        let next = batches.get(index + 1).and_then(|next| next.iter().map(|course| course.draining).min());
        println!(
            "{number:>5}  {:>5.2} s  {:>4.2} s  {:>4.2} s  {:>6.2} s  ({:.2} {:.2} {:.2})",
            seconds(slowest.unused - slowest.draining),
            seconds(slowest.ended - slowest.started),
            seconds(slowest.healthy - slowest.returned),
            seconds(slowest.critical()),
            seconds(slowest.started - slowest.unused),
            seconds(slowest.returned - slowest.ended),
            seconds(next.map_or(0, |next| next - whole)),
        );
    }
    let count = i64::try_from(batches.len().max(1)).unwrap_or(1);
    println!("instances               {}", courses.len());
    println!("wall time               {:.2} s", seconds(last - first));
    println!("critical path           {:.2} s", seconds(critical));
    println!("wall / critical path    {:.3}", seconds(last - first) / seconds(critical));
    println!("overhead per batch      {:.2} s", seconds((last - first - critical) / count));
}

fn appspec_of(repository: &std::path::Path, sha: &str) -> anyhow::Result<drover::revision::appspec::AppSpec> {
    let archive = repository.join("../first.tar.gz");
    let arguments = ["archive", "--format=tar.gz", "--prefix=first/", "-o"];
    let done =
        Command::new("git").arg("-C").arg(repository).args(arguments).arg(&archive).arg(sha).status()?;
    anyhow::ensure!(done.success(), "git archive failed");
    Ok(bundle::examine(&archive, &bundle::Packed::by_github()).map_err(anyhow::Error::msg)?.appspec)
}

async fn run() -> anyhow::Result<()> {
    let directory = tempfile::tempdir()?;
    let repository = directory.path().join("repository");
    let made = sample::create_repository(&repository)?;
    let playground = Playground::start(Setup {
        drover: env!("CARGO_BIN_EXE_drover").into(),
        data: directory.path().to_path_buf(),
        first_appspec: appspec_of(&repository, &made.v1)?,
        repository,
        first: made.v1,
        forks: Vec::new(),
        instances: 20,
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
        instance_policy: serde_json::Value::Null,
        database: None,
        listen: "127.0.0.1:0".into(),
    })
    .await?;
    let http = reqwest::Client::new();
    let before = playground.look("events?after=0").await?;
    let after = before["events"]
        .as_array()
        .and_then(|events| events.last())
        .map_or(0, |event| event["seq"].as_i64().unwrap_or(0));
    let wish = json!({ "group": GROUP, "revision": made.v2 });
    let url = format!("{}/api/v1/deployments", playground.url);
    let answer: Value =
        http.post(&url).bearer_auth(&playground.token).json(&wish).send().await?.json().await?;
    let logs = format!("{url}/{}/logs", answer["id"]);
    // The stream ends with the deployment.
    http.get(logs).bearer_auth(&playground.token).send().await?.text().await?;
    let events = playground.look(&format!("events?after={after}")).await?;
    report(events["events"].as_array().map(Vec::as_slice).unwrap_or_default());
    playground.stop().await;
    Ok(())
}

fn main() -> anyhow::Result<()> {
    tokio::runtime::Runtime::new()?.block_on(run())
}
